"""What the Hub is asked in this process: what is in a repo, who a token's owner is; short answers.

Each stands a server that fails for a moment, and none waits for ever. Here is also what names and
revisions may look like. Files are moved by another process (tasks.py).
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from huggingface_hub import get_session
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, validate_repo_id

from ddpm_hub.errors import HubError, shown
from ddpm_hub.hub.cache import File
from ddpm_hub.hub.client import Failure, endpoint

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
REVISION = re.compile(r"(?!.*(\.\.|//|/\.))\w[\w.+/-]{0,199}(?<![/.])", re.ASCII)
WAIT = 8.0  # seconds for each piece of an answer in this process
ANSWER_SECONDS = 20.0  # for all of its pieces
ANSWER_BYTES = 2**25  # of a repo of 100,000 files
TRIES = 4
OTHER_KINDS = {"datasets": "a data set", "spaces": "a Space"}


class Facts(NamedTuple):
    """A repo at one commit: its files by path; whether everybody may read it; whether it is gated.

    Those who may read a gated repo's files are fewer than those who may be told of them.
    """

    commit: str
    files: dict[str, File]
    public: bool
    gated: bool


def check_repo_id(repo_id: str) -> str:
    """`repo_id`, or a HubError unless it is user/name, of the characters the Hub takes."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        why = str(error).replace(f": {repo_id!r}", "").rstrip(".")[:200]
        raise HubError(f"{shown(repo_id)} is no name of a repo ({why}): use user/name") from error
    if not NAME.fullmatch(repo_id):
        raise HubError(f"{shown(repo_id)} does not say whose repo it is: use user/name")
    return repo_id


def check_revision(revision: str | None) -> str:
    """A branch, tag or commit, "main" if none is given; HubError if it could be none."""
    revision = revision or "main"
    if not isinstance(revision, str) or not REVISION.fullmatch(revision):
        raise HubError(f"{shown(revision)} is no revision: give a branch, a tag or a commit")
    return revision


class Account(NamedTuple):
    """Whose a token is: a person's name, the organisations they are in, and what it may do."""

    name: str
    organisations: tuple[str, ...]
    read_only: bool


def page(repo_id: str) -> str:
    """The repo's page, for people."""
    return f"{endpoint()}/{repo_id}"


def describe(repo_id: str, revision: str, token: str | bool) -> Facts:
    """What is in a repo now: one request. Raises Failure."""
    path = f"models/{repo_id}/revision/{quote(revision, safe='')}"
    told = _ask(path, token, blobs="True")
    try:
        files = {file["rfilename"]: _file(file) for file in told["siblings"]}
        gated = bool(told.get("gated"))
        return Facts(told["sha"], files, not (told.get("private") or gated), gated)
    except (TypeError, KeyError, AttributeError) as error:
        raise Failure("other", f"{endpoint()} does not answer as the Hub does") from error


def check_access(repo_id: str, token: str | bool) -> None:
    """Raise Failure unless the files of a gated repo may be read with this token."""
    _ask(f"models/{repo_id}/auth-check", token)


def other_kind(repo_id: str, token: str | bool) -> str | None:
    """ "a data set" or "a Space" if one has the name; None if neither has, or nobody says."""
    for kind, name in OTHER_KINDS.items():
        try:
            _ask(f"{kind}/{repo_id}", token)
        except Failure:
            continue
        return name
    return None


def account(token: str) -> Account:
    """Who the Hub says that this token's owner is. Raises Failure."""
    told = _ask("whoami-v2", token)
    try:
        role = ((told.get("auth") or {}).get("accessToken") or {}).get("role")
        organisations = tuple(str(group["name"]) for group in told.get("orgs") or ())
        return Account(str(told["name"]), organisations, role == "read")
    except (TypeError, KeyError, AttributeError) as error:
        raise Failure("other", f"{endpoint()} does not answer as the Hub does") from error


def tagged(tag: str, most: int) -> list[str]:
    """The public models with a tag, the most downloaded first. Raises Failure."""
    rows = _ask("models", False, filter=tag, sort="downloads", limit=str(most))
    rows = rows if isinstance(rows, list) else []
    return [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]


def _ask(path: str, token: str | bool, **params: str) -> Any:
    """An answer of the Hub's API. The client's own calls neither try again nor end."""
    until = time.monotonic() + ANSWER_SECONDS
    for again in range(1, TRIES):
        try:
            return _asked_once(f"{endpoint()}/api/{path}", token, params, until)
        except Exception as error:
            failure = Failure.of(error)
            if again == TRIES - 1 or not failure.passing or time.monotonic() > until - WAIT:
                raise failure from error
        wait(again)


def _asked_once(url: str, token: str | bool, params: dict[str, str], until: float) -> Any:
    headers = build_hf_headers(token=token)
    how = {"headers": headers, "params": params, "timeout": WAIT}
    with get_session().stream("GET", url, **how) as response:
        hf_raise_for_status(response)
        return json.loads(b"".join(_in_time(response.iter_bytes(), until)))


def _in_time(pieces: Iterator[bytes], until: float) -> Iterator[bytes]:
    """Pieces of an answer, each of which may come in time and the whole never."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if time.monotonic() > until or size > ANSWER_BYTES:
            raise Failure("unreachable", f"its answer has no end after {ANSWER_SECONDS:g} seconds")
        yield piece


def _file(told: dict[str, Any]) -> File:
    large = told.get("lfs") or {}
    if large:
        return File(large["size"], sha256=large["sha256"])
    return File(told.get("size"), git_id=told.get("blobId"))


def wait(again: int) -> None:
    """Before the next try: longer each time."""
    threading.Event().wait(0.5 * again)
