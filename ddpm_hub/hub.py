"""Training runs on the Hub: pushed while they last, so that another machine can go on.

A Space's disk forgets; a repo does not. The client works in a process of its own, which can be
ended whatever it waits for: left alone it waits for ever where a server falls silent, and for
minutes where one fails. The model's own `push_to_hub` and `from_pretrained` are in `hub_model.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    get_session,
    get_token,
    hf_hub_download,
)
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from ddpm_hub.errors import HubError, shown

CARD = "README.md"
FILES = ("config.json", "model.safetensors", "samples.png", "training.json")
SILENCE = 60.0  # seconds without a byte, after which a request is given up
LONGEST = 3600.0  # seconds for all requests of a call: 500 MB at 1 Mbit/s and a bit
STAGING = ".download"  # in the results folder, for as long as a download takes
CHILD = "import sys; sys.path[:] = sys.argv[1].split('\\n'); from ddpm_hub import hub; hub.serve()"
CURES = {
    401: "log in with hf auth login, or set HF_TOKEN",
    403: "use a token with the right to write there (hf auth login), or a repo of your own",
}


def push_run(results: str | Path, repo_id: str, step: int) -> str:
    """Upload a results folder's model, report and newest checkpoint in one commit; its URL.

    The repo is created if it is not there. Earlier checkpoints leave its newest commit; a README
    that is there stays as it is. Raises HubError: no such owner, no right to write, no network.
    """
    from ddpm_hub import checkpoint  # here, since the child does without torch

    newest = checkpoint.newest(results)
    state = f"{checkpoint.FOLDER}/{newest.name}" if newest else ""
    told = check_repo_id(repo_id), str(results), str(step), state
    return _in_a_child("push", told, f"{shown(repo_id)} could not be written")


def fetch_checkpoint(repo_id: str, results: str | Path) -> Path | None:
    """Download the newest checkpoint of a repo into a results folder; None if there is none.

    A repo that does not exist has none. Raises HubError if it cannot be asked, or if the file is
    not, byte by byte, the one that was uploaded.
    """
    from ddpm_hub import checkpoint, files

    staging = Path(results) / STAGING
    told = check_repo_id(repo_id), str(staging), f"{checkpoint.FOLDER}/{checkpoint.NAME.pattern}"
    failed = f"no checkpoint could be had from {shown(repo_id)}"
    try:
        name = _in_a_child("fetch", told, failed, "; or train with resume=None")
        if name is None:
            return None
        path = Path(results) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_durably(path, lambda temporary: os.replace(staging / name, temporary))
        return path
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # also what a killed download left


def check_repo_id(repo_id: str) -> str:
    """`repo_id`, or a HubError unless it is user/name, of the characters the Hub takes."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"{shown(repo_id)} is no name of a repo ({error}): use user/name") from error
    if "/" not in repo_id:
        raise HubError(f"{shown(repo_id)} does not say whose repo it is: use user/name")
    return repo_id


def serve() -> None:
    """In the child: do the task on the command line; the answer is a line of JSON on stdout."""
    silence, task, *told = sys.argv[2:]
    get_session().timeout = float(silence)
    try:
        answer = {"done": TASKS[task](*told)}
    except Exception as error:  # of the network, the client or the disk: for the parent to say
        why = getattr(error, "server_message", None) or str(error) or type(error).__name__
        status = getattr(getattr(error, "response", None), "status_code", None)
        answer = {"why": why.strip().splitlines()[0], "status": status}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


def _in_a_child(task: str, told: tuple[str, ...], failed: str, cure: str = "") -> Any:
    """What a task returns; HubError, beginning with `failed`, if it fails or takes for ever."""
    environment = os.environ | {
        "HF_TOKEN": get_token() or "",  # a notebook's secret is known to this process only
        "HF_XET_CLIENT_READ_TIMEOUT": f"{SILENCE:g}s",
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2",  # 4 to 7 minutes without, 8 seconds with
    }
    paths = "\n".join(map(str, sys.path))
    command = [sys.executable, "-c", CHILD, paths, str(SILENCE), task, *told]
    try:
        child = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            start_new_session=True,  # Ctrl-C is for the training, which then pushes what it has
        )
        answer = json.loads(child.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        answer = {"why": f"it was not done after {LONGEST / 60:g} minutes"}
    except OSError as error:
        answer = {"why": f"the Hub's client could not be started: {error}"}
    except (IndexError, ValueError):
        answer = {"why": f"the Hub's client ended: {child.stderr.strip()[-200:]}"}
    if "why" in answer:
        advice = CURES.get(answer.get("status"), "check the name and the network")
        raise HubError(f"{failed} ({answer['why']}): {advice}{cure}")
    return answer["done"]


def _push(repo_id: str, results: str, step: str, state: str) -> str:
    api, folder = HfApi(), Path(results)
    api.create_repo(repo_id, exist_ok=True)
    there = set(api.list_repo_files(repo_id))
    names = [*FILES, *({CARD} - there), state]
    old = {n for n in there if state and n.startswith(state.split("/")[0] + "/")} - {state}
    changes = [CommitOperationAdd(n, folder / n) for n in names if (folder / n).is_file()]
    changes += [CommitOperationDelete(name) for name in sorted(old)]
    return api.create_commit(repo_id, changes, commit_message=f"Step {step}").commit_url


def _fetch(repo_id: str, folder: str, pattern: str) -> str | None:
    try:
        info = HfApi().model_info(repo_id, files_metadata=True)
    except RepositoryNotFoundError:
        return None  # the first push will create it
    found = [(re.fullmatch(pattern, file.rfilename), file) for file in info.siblings]
    steps = {int(match[1]): file for match, file in found if match}
    if not steps:
        return None
    newest = steps[max(steps)]
    path = hf_hub_download(repo_id, newest.rfilename, revision=info.sha, local_dir=folder)
    if newest.lfs is not None and _sha256(path) != newest.lfs.sha256:
        raise OSError(f"{newest.rfilename} arrived damaged: try again")
    return newest.rfilename


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


TASKS = {"push": _push, "fetch": _fetch}
