"""All trainings of this app: one at a time, the others in a visible queue, none ever forgotten.

In the room: the desk that starts, pauses, resumes and stops jobs, the one thread that trains, what
is found on the disk after a crash, and how many finished folders stay. Not in the room: what a
training is (job.py), what may be asked for (limits.py), components (tabs/train.py). No gradio.
"""

from __future__ import annotations

import atexit
import logging
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import cache
from pathlib import Path
from typing import Any

from ddpm_hub import files
from ddpm_hub.app import folders, limits, machine, starts, uploads
from ddpm_hub.app.background import stand_back
from ddpm_hub.app.job import ACTIVE, RECORD, Job
from ddpm_hub.errors import CheckpointError, ConfigError

MAX_WAITING = 4
MAX_EACH = 3  # of one visitor, the one that trains included: two places are left for others
KEPT_FINISHED = 20  # folders of trainings that are over; the oldest goes first
KEPT_OPEN = 40  # and of those somebody may still resume: a disk has an end
KEPT_BYTES = 20_000_000_000  # of all of them: one that began with a large model takes a gigabyte
FINISHED = ("done", "stopped", "error")
LOG = logging.getLogger(__name__)


class Desk:
    """The trainings below one folder, by id, and the thread that works on them in turn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, Job] = {}
        self.waiting: deque[Job] = deque()
        self.taken: set[str] = set()  # ids of those that came from elsewhere
        self.current: Job | None = None
        self.errand: Callable[[], Any] | None = None  # something short, done between trainings
        self.bell = threading.Condition()
        self.thread: threading.Thread | None = None
        self._find()

    def _find(self) -> None:
        """What earlier apps left; a folder without a readable record of ours stays untouched."""
        for path in self.folder.glob(f"*/{RECORD}"):
            if limits.JOB_ID.fullmatch(path.parent.name) and not folders.in_use(path.parent):
                try:
                    job = Job.open(path.parent)
                except (OSError, ValueError, KeyError, TypeError, AttributeError):
                    LOG.warning("%s cannot be read: left alone", path)
                else:
                    self.jobs[job.id] = job
        self._tidy()

    # ---- what visitors ask for ----
    def start(
        self, request: limits.TrainRequest, model: Any = None, owner: str = "", copy: Any = None
    ) -> Job:
        """Queue a new training. DataError if its upload is gone, ConfigError if the queue is full.

        model: a GaussianDiffusion to go on from, which `request.start` names; else new weights.
        owner: who asks, as visitors.py tells them apart; nobody ("") has no limit of their own.
        copy: a copies.Copy, if it is to be kept on the Hub as well.

        Its pictures are written beside it first, so that it can be resumed without the visitor.
        """
        self._check_room(owner)
        job_id = secrets.token_hex(8)  # unguessable: it is the key to the training
        if model is not None:
            starts.check(model, request)
        pictures = uploads.find(request.data, starts.shape_of(request.preset, model))
        name = f"{pictures.name}, from {request.start}" if model is not None else pictures.name
        try:
            job = Job.create(self.folder / job_id, request, name, model)
            if request.data != "bundled":
                pictures.save(job.folder / "data.npy")
        except OSError as error:
            raise CheckpointError(
                f"the disk takes no new training ({files.reason(error)}): make room, then try again"
            ) from error
        job.copy = copy
        with self.bell:
            self.jobs[job.id] = job
        return self._enqueue(job, owner)

    def take_in(
        self,
        request: limits.TrainRequest,
        name: str,
        model: Any,
        fill: Callable[[Path], Any],
        message: str,
        owner: str,
    ) -> Job:
        """A training from elsewhere, to be resumed: `fill` puts its state into the new folder."""
        self._check_taken(owner)
        folder = self.folder / secrets.token_hex(8)
        try:
            job = Job.create(folder, request, name, model)
            fill(folder)
            job.become("paused", message)
            job = Job.open(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        job.owner = owner
        self.taken.add(job.id)
        with self.bell:
            self.jobs[job.id] = job
        return job

    def resume(self, job_id: str, owner: str = "", copy: Any = None) -> Job:
        """Queue a paused, stopped, interrupted or failed training again, from where it was."""
        job = self.get(job_id)
        self._check_room(owner)
        job.look()
        with self.bell:
            if not job.resumable:
                raise ConfigError(
                    f"this training is {job.state}: only what was ended early goes on"
                )
            job.wish = None
            job.copy = copy and copy.follow(job.copy)
            job.become("queued")
        return self._enqueue(job, owner)

    def end(self, job_id: str, state: str) -> Job:
        """Pause or stop: a running training ends with its step, a waiting one at once."""
        job = self.get(job_id)
        with self.bell:
            if job in self.waiting:
                self.waiting.remove(job)
                job.copy = None
                job.become(state, "Taken out of the queue.")
            elif job.state in ACTIVE:
                job.wish = state
            elif state == "stopped" and job.state in ("paused", "interrupted"):
                job.become(state, f"Stopped at step {job.look().step:,}: the model is kept.")
        return job

    def get(self, job_id: object) -> Job:
        """The job of that id, or a ConfigError."""
        job = self.jobs.get(limits.job_id(job_id))
        if job is None:
            raise ConfigError(f"job {job_id} is no training of this app: it may have been deleted")
        return job

    def model(self, job_id: str) -> Any:
        """The averaged model of a training, live or as it was saved."""
        return self.get(job_id).model()

    def newest(self) -> list[Job]:
        """All jobs: what runs, what waits, then the rest, the latest change first."""
        ranks = {"running": 0, "preparing": 0, "queued": 1}
        return sorted(self.jobs.values(), key=lambda j: (ranks.get(j.state, 2), -j.changed))

    def sentence(self, job: Job) -> str:
        """How long a waiting job has to wait; of all others, what they say themselves."""
        waiting = list(self.waiting)
        if job not in waiting:
            return " ".join(filter(None, (job.sentence(), job.copy and job.copy.told)))
        ahead = waiting.index(job)
        runs = self.current
        if runs is None and ahead == 0:
            return "It starts in a moment."
        left = (runs.seconds_left() if runs else 0) + sum(
            j.request.minutes * 60 for j in waiting[:ahead]
        )
        place = "you are next" if ahead == 0 else f"{ahead} before you in the queue"
        return f"Busy: about {max(1, round(left / 60))} min left, {place}."

    def try_errand(self, errand: Callable[[], Any]) -> bool:
        """Let the training thread do this now, if it has nothing else to do."""
        with self.bell:
            if self.current or self.waiting or self.errand:
                return False
            self.errand = errand
            self._wake()
        return True

    # ---- the thread ----
    def _check_room(self, owner: str) -> None:
        theirs = [job for job in (*self.waiting, self.current) if job and job.owner == owner]
        if owner and len(theirs) >= MAX_EACH:
            raise ConfigError(
                f"{len(theirs)} trainings of yours are under way or wait already, others want a "
                "turn, too: stop one, or come back when one has ended"
            )
        if len(self.waiting) >= MAX_WAITING:
            raise ConfigError(
                f"{len(self.waiting)} trainings wait already, no more fit: come back in a while"
            )

    def _check_taken(self, owner: str) -> None:
        theirs = [j for j in self.jobs.values() if j.id in self.taken and j.owner == owner]
        if owner and len([j for j in theirs if j.state not in ACTIVE]) >= MAX_EACH:
            raise ConfigError(
                f"{MAX_EACH} trainings that you fetched lie here already: resume one of them first"
            )

    def _enqueue(self, job: Job, owner: str) -> Job:
        job.owner = owner
        if machine.has_workers():
            job.visitor = copy_context()  # a request of theirs: kept for as long as it trains
        with self.bell:
            if job not in self.waiting:
                self.waiting.append(job)
            self._wake()
        return job

    def _wake(self) -> None:
        if self.thread is None:
            self.thread = threading.Thread(target=self._serve, name="training", daemon=True)
            self.thread.start()
        self.bell.notify_all()

    def _serve(self) -> None:
        stand_back()  # whoever looks at the page waits, a training does not
        while True:
            with self.bell:
                self.bell.wait_for(lambda: self.waiting or self.errand)
                errand, self.current = self.errand, None
                if errand is None:
                    self.current = self.waiting.popleft()
            try:
                if errand is not None:
                    errand()
                else:
                    self._work(self.current)
            except Exception:
                LOG.exception("the training thread goes on after a fault")
            with self.bell:
                self.errand = self.current = None

    def _work(self, job: Job) -> None:
        with folders.Lock(job.folder) as mine:
            if mine:
                job.work()
            else:
                job.copy = None
                job.become("error", "Another program trains this run: end it there first.")
        self._tidy()

    def _tidy(self) -> None:
        """Delete the oldest folders beyond the limits: only what is over, and is ours."""
        idle = sorted(
            (j for j in self.jobs.values() if j.state not in ACTIVE), key=lambda j: -j.changed
        )
        over = [j for j in idle if j.state in FINISHED][KEPT_FINISHED:]
        over += [j for j in idle if j.state not in FINISHED][KEPT_OPEN:]
        taken = 0
        for job in idle:
            taken += folders.bytes_of(job.folder)
            if taken > KEPT_BYTES and job not in over:
                over.append(job)
        for job in over:
            if (job.folder / RECORD).is_file():
                shutil.rmtree(job.folder, ignore_errors=True)
            self.jobs.pop(job.id, None)

    def close(self, patience: float = 20.0) -> None:
        """The app ends on its own accord: let the step under way finish, and be saved."""
        with self.bell:
            self.waiting.clear()  # on the disk they are queued still, and offered next time
            job = self.current
        if job is not None:
            job.wish = "interrupted"
            for _ in range(int(patience * 20)):
                if job.state not in ACTIVE:
                    break
                threading.Event().wait(0.05)
            if job.copy:
                job.copy.wait(patience / 2)


@cache
def desk() -> Desk:
    """The desk of this process, on the runs' folder of this machine; reads what is there."""
    made = Desk(machine.runs_folder())
    atexit.register(made.close)
    return made
