"""What the Hub's client does in its own process: fetch a file, make a commit.

Each function is a task for `client.call`. They stand a server that fails for a moment; one that
fails for long, or falls silent, is `client.py`'s business. No torch here: such a process must start
at once.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download

from ddpm_hub.card import CARD, is_generated
from ddpm_hub.hub.cache import intact
from ddpm_hub.hub.client import SILENCE, Failure, endpoint
from ddpm_hub.hub.repos import TRIES, Facts, describe, wait

PATIENCE = 8.0  # seconds of failing, after which nothing is tried again
CROWD = 45.0  # seconds in which others may go first: 16 pushes at once take a few


def download(repo_id: str, name: str, commit: str, token: str | bool, **folder: str) -> str:
    """Fetch a file as it is at a commit, into `cache_dir` or `local_dir`; its path."""
    where = {"revision": commit, "token": token, "endpoint": endpoint()}
    return patiently(partial(hf_hub_download, repo_id, name, **where, **folder))


def commit(  # noqa: PLR0913  a line of JSON
    repo_id: str,
    files: dict[str, str],
    message: str,
    token: str | bool,
    branch: str = "main",
    replaces: str = "",
    keep_card: bool = True,
    private: bool = False,
) -> str:
    """Make `files` ({name in the repo: path here}) those of a branch in one commit; the commit.

    The repo and the branch are made if they are not there. A README that somebody has edited there
    stays as it is with `keep_card`. What is there, not in `files`, and matches the pattern
    `replaces` is removed.

    A commit is made only on the one that was looked at. If it is refused or fails, the branch is
    looked at again: what differs now, others' work left alone, is the next commit; if nothing does,
    the last one landed though its answer got lost. Nor does a second push of the same.
    """
    api, where = HfApi(endpoint(), token=token), {"repo_id": repo_id, "revision": branch}
    failures = Failures()
    while True:
        head = _head(api, repo_id, branch, private)
        changes = differences(head, files, replaces)
        if keep_card and CARD in changes and _edited(head, repo_id, token):
            del changes[CARD]
        if not changes:
            return head.commit
        failures.check()
        added = [change for change in changes.values() if isinstance(change, CommitOperationAdd)]
        patiently(partial(api.preupload_lfs_files, additions=added, **where))
        how = {"commit_message": message, "parent_commit": head.commit}
        try:
            return api.create_commit(operations=changes.values(), **where, **how).oid
        except Exception as error:
            failures.add(error)


class Failures:
    """The tries of a commit that failed, and whether there is to be another."""

    def __init__(self) -> None:
        self.last, self.count, self.begun = None, 0, 0.0

    def check(self) -> None:
        """Before a try: raise the last failure if another would not help, or has no time."""
        if self.last and (self.count == TRIES or time.monotonic() - self.begun > PATIENCE):
            raise self.last

    def add(self, error: Exception) -> None:
        """Note a failure; that somebody else was first is none, for as long as a CROWD may take."""
        self.begun, failure = self.begun or time.monotonic(), Failure.of(error)
        if failure.status == 412 and time.monotonic() - self.begun < CROWD:
            return
        self.last, self.count = failure, self.count + 1 if _may_pass(error) else TRIES
        wait(self.count % TRIES)


def newest(repo_id: str, pattern: str, local_dir: str, token: str | bool) -> list[Any] | None:
    """Fetch the file with the highest number, by a pattern that holds it; [name, File].

    None if the repo does not exist, or has no such file.
    """
    try:
        facts = describe(repo_id, "main", token)
    except Failure as failure:
        if failure.kind == "missing":
            return None
        raise
    found = {name: re.fullmatch(pattern, name) for name in facts.files}
    names = {int(match[1]): name for name, match in found.items() if match}
    if not names:
        return None
    name = names[max(names)]
    download(repo_id, name, facts.commit, token, local_dir=local_dir)
    return [name, facts.files[name]]


def patiently(action: Callable[[], Any]) -> Any:
    """What `action` returns, in the child: tried again while that may help, and not for long."""
    begun = time.monotonic()
    for again in range(1, TRIES + 1):
        tried = time.monotonic()
        try:
            return action()
        except Exception as error:
            now = time.monotonic()
            if now - tried > SILENCE:  # bytes moved, else the parent had ended us
                begun = now
            if again == TRIES or now - begun > PATIENCE or not _may_pass(error):
                raise Failure.of(error) from error
        wait(again)


def _may_pass(error: Exception) -> bool:
    """Whether it is the network's or the server's fault, for which Xet has errors of its own."""
    failure = Failure.of(error)
    local = isinstance(error, ValueError | TypeError) or getattr(error, "errno", None) is not None
    return failure.passing or (failure.kind == "other" and failure.status is None and not local)


def _head(api: HfApi, repo_id: str, branch: str, private: bool) -> Facts:
    """What is in a branch; it is made if it is not there."""
    for _ in range(3):
        try:
            facts = describe(repo_id, branch, api.token)
            break
        except Failure as failure:
            if failure.kind == "missing":
                visible = {"private": private or None}  # None: public, or as its owner has it
                patiently(partial(api.create_repo, repo_id, exist_ok=True, **visible))
            elif failure.kind == "revision":
                patiently(partial(api.create_branch, repo_id, branch=branch, exist_ok=True))
            else:
                raise
    else:
        raise Failure("missing")
    if private and facts.public:
        raise Failure("public", "it is there already, and public")
    return facts


def _edited(head: Facts, repo_id: str, token: str | bool) -> bool:
    """Whether the repo has a card that is not, to the last letter, as this library wrote it."""
    if CARD not in head.files:
        return False
    with tempfile.TemporaryDirectory() as folder:
        path = download(repo_id, CARD, head.commit, token, local_dir=folder)
        return not is_generated(Path(path).read_text(encoding="utf-8", errors="replace"))


def differences(
    head: Facts, files: dict[str, str], replaces: str
) -> dict[str, CommitOperationAdd | CommitOperationDelete]:
    """What to do, by name, so that the branch has these files."""
    there, old = head.files, sorted(head.files.keys() - files.keys())
    new = [n for n, path in files.items() if n not in there or not intact(Path(path), there[n])]
    added = {name: CommitOperationAdd(name, files[name]) for name in new}
    gone = [name for name in old if replaces and re.fullmatch(replaces, name)]
    return added | {name: CommitOperationDelete(name) for name in gone}
