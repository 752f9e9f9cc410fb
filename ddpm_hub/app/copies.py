"""A copy of a training in a repo of its visitor, kept up to date while the training lasts.

A Space's disk forgets: whoever has such a copy goes on after a restart. In the room: whether a repo
may become one, and the pushes, in the background, so that no step waits for the Hub. Not in the
room: how a copy becomes a training again (returned.py), the training (job.py), the upload
(`ddpm_hub.hub`), components.

The token is the visitor's own. It is in memory until the last push is over, and nowhere else: after
a restart nobody has it, and the training goes on from the disk without pushing.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_hub import checkpoint, files, hub
from ddpm_hub.app import limits, publish
from ddpm_hub.errors import HubError, check_bool, shown
from ddpm_hub.hub import repos
from ddpm_hub.hub.client import Failure
from ddpm_hub.hub.sources import Repo

if TYPE_CHECKING:
    from ddpm_hub.app.job import Job

RECORD = "demo.json"  # beside the model: what was asked for, and which training this is a copy of
STAGED = ".copy-"  # in the training's folder, for as long as a push takes
EMPTY = {"README.md", ".gitattributes", "LICENSE"}  # what a repo without a model may hold
NO_TOKEN = (
    "a copy on the Hub needs a token of your own: sign in, or give a write token in the Hub tab"
)
MAX_PUSHES = 2  # at the same time, of all trainings
LOG = logging.getLogger(__name__)

_pushes = threading.BoundedSemaphore(MAX_PUSHES)


def ask(repo_id: object, token: str | None, private: object = True, job: Job | None = None) -> Copy:
    """A copy to be kept at `repo_id`, of a new training, or of `job`.

    Raises HubError, a sentence: no name of a repo, no token, not a repo of the token's owner, or
    one that holds something else.
    """
    repo_id, private = limits.repo_name(repo_id), check_bool("private", private)
    if not token:
        raise HubError(NO_TOKEN)
    publish.check_account(repo_id, token)
    _check_free(repo_id, token, private, mark_in(job.folder) if job else None)
    return Copy(repo_id, token, private)


class Copy:
    """Where a training's state goes, and how the newest push went: `told`, a sentence."""

    def __init__(self, repo_id: str, token: str, private: bool = True) -> None:
        self.repo_id, self.private = repo_id, private
        self.told = f"A copy is kept at {repo_id}, from the first checkpoint on."
        self._token = token
        self._pushed_at = -limits.COPY_SECONDS  # the first checkpoint goes at once: it may fail
        self._push: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether there is more to be told: until the last push is over, and the token forgotten.

        A copy whose training never began stays so.
        """
        return bool(self._token)

    def follow(self, earlier: Copy | None) -> Copy:
        """The same; its pushes come after those of the `earlier` one of this training."""
        self._push = earlier and earlier._push
        return self

    def offer(self, job: Job) -> None:
        """There is a new checkpoint: push it, if it is time and no push is under way."""
        late = time.monotonic() - self._pushed_at >= limits.COPY_SECONDS
        if late and not self._pushing():
            self._begin(job, last=False)

    def finish(self, job: Job) -> None:
        """The training is over, or paused: push its last state, then forget the token."""
        if self.busy:
            self._begin(job, last=True)

    def wait(self, seconds: float) -> None:
        """Until the last push is over, or for so long."""
        until = time.monotonic() + seconds
        while self.busy and time.monotonic() < until:
            threading.Event().wait(0.05)

    def _pushing(self) -> bool:
        return self._push is not None and self._push.is_alive()

    def _begin(self, job: Job, last: bool) -> None:
        self._pushed_at = time.monotonic()
        if not self._pushing():
            _clear(job.folder)
        try:
            staged = _stage(job)
            if staged is not None:
                told = (staged, job.step, self._push, last)
                thread = threading.Thread(target=self._work, args=told, daemon=True, name="copy")
                thread.start()
                self._push = thread
                return
        except (OSError, RuntimeError) as error:  # a full disk; no new thread as the app ends
            self.told = f"The copy could not be made ({files.reason(error)})."
        if last:
            self._token = ""

    def _work(self, staged: Path, step: int, earlier: threading.Thread | None, last: bool) -> None:
        if earlier is not None:
            earlier.join()
        try:
            with _pushes:
                how = {"token": self._token, "private": self.private, "more": (RECORD,)}
                hub.push_run(staged, self.repo_id, step, **how)
            self.told = f"A copy is at {self.repo_id}, step {step:,}."
        except HubError as error:
            again = "" if last else ": the next is tried in a while"
            self.told = (
                f"Step {step:,} was not copied to {self.repo_id} ({self._why(error)}){again}."
            )
        except Exception as error:  # its text may hold the token
            LOG.error("a copy of step %d failed: %s", step, type(error).__name__)
            self.told = f"Step {step:,} was not copied to {self.repo_id}: the log says why."
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            if last:
                self._token = ""

    def _why(self, error: HubError) -> str:
        failure = error.__cause__
        if not isinstance(failure, Failure):
            return str(error).replace(self._token, "***")
        if failure.status in (401, 403):
            return "the token is not accepted any more: pause, give another one, then resume"
        return str(failure).replace(self._token, "***")


def mark_in(folder: Path) -> str | None:
    """Which training the record in a folder is of; None if there is none that can be read."""
    try:
        mark = json.loads((folder / RECORD).read_text(encoding="utf-8"))["training"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return mark if isinstance(mark, str) else None


def record(job: Job) -> dict[str, Any]:
    """What demo.json says. An upload's id is a key to pictures here: it stays here."""
    asked = job.request._asdict()
    if job.request.data != "bundled":
        asked["data"] = "upload"
    return {"training": secrets.token_hex(8), "name": job.name, "request": asked}


def _stage(job: Job) -> Path | None:
    """The folder as it now is, in one beside it that no later step changes; None: nothing yet.

    Links, since a checkpoint may be large and files are replaced here, never changed. A volume may
    know no links: there they are copied.
    """
    newest = checkpoint.newest(job.folder)
    if newest is None:
        return None
    if mark_in(job.folder) is None:
        files.write_text(job.folder / RECORD, json.dumps(record(job), indent=2) + "\n")
    staged = Path(tempfile.mkdtemp(prefix=STAGED, dir=job.folder))
    (staged / checkpoint.FOLDER).mkdir()
    for path in (*(job.folder / name for name in (*hub.MODEL, *hub.EXTRAS, RECORD)), newest):
        if path.is_file():
            _link(path, staged / path.relative_to(job.folder))
    return staged


def _clear(folder: Path) -> None:
    """Remove what an app that was killed while it pushed left there."""
    for left in folder.glob(f"{STAGED}*"):
        shutil.rmtree(left, ignore_errors=True)


def _link(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:
        shutil.copyfile(path, to)


def _check_free(repo_id: str, token: str | None, private: bool, mark: str | None) -> None:
    """Raise HubError unless the repo is new or empty, or the copy of the training of that mark."""
    try:
        there = repos.describe(repo_id, "main", token or False)
    except Failure as failure:
        if failure.kind == "missing":
            return
        raise HubError(f"{shown(repo_id)} could not be looked at ({failure}): try again") from None
    if private and there.public:
        raise HubError(
            f"{shown(repo_id)} is there already, and public: give another name, or untick Private"
        )
    if there.files.keys() <= EMPTY:
        return
    if mark is None or RECORD not in there.files or _mark_at(repo_id, token) != mark:
        raise HubError(
            f"{shown(repo_id)} holds something else, which a copy would replace: give a name that "
            "is free"
        )


def _mark_at(repo_id: str, token: str | None) -> str | None:
    with tempfile.TemporaryDirectory(prefix="ddpm_hub_") as folder:
        source = Repo(repo_id, token=token or False, cache_dir=folder)
        return mark_in(source.fetch(RECORD).parent)
