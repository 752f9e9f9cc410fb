"""What is asked of the Hub about a Space: create it or set it, make its files ours, look at it.

`publish` and `look` are tasks for `client.call`, which ends them if they wait for ever. Why and
with what they are called is space.py's business.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from huggingface_hub import HfApi, Volume

from ddpm_hub.card.markdown import plain
from ddpm_hub.hub import client
from ddpm_hub.hub.cache import File
from ddpm_hub.hub.client import Failure
from ddpm_hub.hub.repos import Facts
from ddpm_hub.hub.tasks import Failures, differences, patiently

DATA = "/data"  # where a bucket appears
OURS = r"(?!\.gitattributes$).*"  # all but the Hub's own file is made to be as it is here


def publish(
    repo_id: str, files: dict[str, str], settings: dict[str, Any], token: str | bool
) -> tuple[str, bool]:
    """Create the Space or set it, then make `files` its files; (commit, whether it is new)."""
    api = HfApi(client.endpoint(), token=token)
    try:
        _set(api, repo_id, settings)
    except Failure as failure:
        if failure.kind != "missing":
            raise
        _create(api, repo_id, settings)
    return _commit(api, repo_id, files)


def look(repo_id: str, token: str | bool) -> list[Any]:
    """What `Status` holds beside the Space's page."""
    info = patiently(partial(HfApi(client.endpoint(), token=token).space_info, repo_id))
    runtime = info.runtime
    host = info.host or f"https://{info.subdomain}.hf.space"
    error = client.SECRET.sub("***", plain(runtime.raw.get("errorMessage") or "", 500))
    hardware = [str(h or "none yet") for h in (runtime.hardware, runtime.requested_hardware)]
    return [host, str(runtime.stage), *hardware, runtime.sleep_time, error]


def _create(api: HfApi, repo_id: str, settings: dict[str, Any]) -> None:
    variables = [{"key": key, "value": value} for key, value in settings["variables"].items()]
    made = partial(
        api.create_repo,
        repo_id,
        repo_type="space",
        space_sdk="gradio",
        private=settings["private"] or None,
        space_hardware=settings["hardware"],
        space_sleep_time=settings["seconds"],
        space_variables=variables or None,
        space_volumes=_volumes(settings["bucket"]),
        exist_ok=True,
    )
    patiently(made)


def _set(api: HfApi, repo_id: str, settings: dict[str, Any]) -> None:
    """Ask for what differs, and only that: each request restarts the Space."""
    runtime = patiently(partial(api.get_space_runtime, repo_id))
    hardware, seconds = settings["hardware"], settings["seconds"]
    if hardware and hardware not in (runtime.hardware, runtime.requested_hardware):
        patiently(partial(api.request_space_hardware, repo_id, hardware, sleep_time=seconds))
    elif seconds is not None and seconds != runtime.sleep_time:
        patiently(partial(api.set_space_sleep_time, repo_id, seconds))
    wanted = settings["variables"]
    there = patiently(partial(api.get_space_variables, repo_id)) if wanted else {}
    for key, value in wanted.items():
        if key not in there or there[key].value != value:
            patiently(partial(api.add_space_variable, repo_id, key, value))
    volumes = _volumes(settings["bucket"])
    if volumes and volumes != (runtime.volumes or []):
        patiently(partial(api.set_space_volumes, repo_id, volumes))


def _volumes(bucket: str | None) -> list[Volume] | None:
    return [Volume(type="bucket", source=bucket, mount_path=DATA)] if bucket else None


def _commit(api: HfApi, repo_id: str, files: dict[str, str]) -> tuple[str, bool]:
    """As `tasks.commit`: on the commit that was looked at, and looked at again if it failed."""
    failures, first = Failures(), None
    while True:
        head = _head(api, repo_id)
        first = first or head.commit
        changes = differences(head, files, OURS)
        if not changes:
            return head.commit, head.commit != first
        failures.check()
        try:
            made = api.create_commit(
                repo_id,
                changes.values(),
                commit_message="Deploy with ddpm_hub",
                repo_type="space",
                parent_commit=head.commit,
            )
            return made.oid, True
        except Exception as error:
            failures.add(error)


def _head(api: HfApi, repo_id: str) -> Facts:
    info = patiently(partial(api.space_info, repo_id, files_metadata=True))
    files = {f.rfilename: File(f.size, f.lfs and f.lfs.sha256, f.blob_id) for f in info.siblings}
    return Facts(info.sha, files, not info.private, False)
