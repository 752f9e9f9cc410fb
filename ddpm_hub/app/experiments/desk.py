"""The desk: experiments under way, each with a ticket by which its visitor may stop it.

In the room: an experiment as messages for widgets/strips, throttled by time, and its end: done,
stopped, refused, or too long. Not in the room: what is computed, and components. No torch here.

An experiment is a board and its work: a generator that yields a `Progress` after every network
call, having put on the board what there is to see. So it can end after any of them. `played` runs
it where the GPU is.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, NamedTuple

from ddpm_hub.app import lane, limits
from ddpm_hub.app.engine import YIELD_SECONDS
from ddpm_hub.app.experiments.board import Board
from ddpm_hub.app.experiments.chart import Chart
from ddpm_hub.errors import ConfigError, DDPMHubError

MAX_WAITING = 64
ORDINARY = 100  # network calls of an experiment that does not say how many


class Progress(NamedTuple):
    """Where the work stands: `done` of `total` network calls, and a sentence for the visitor."""

    done: int
    total: int
    text: str


def played(
    task: Callable[[Any, Any], Iterator[Progress]], board: Board | Chart, request: Any
) -> Iterator[Progress]:
    """`task(board, request)`, a function at the top of its module, run where the GPU is.

    If that is in another process, its board there is this one's twin, and tells what is new.
    """
    with closing(_told(task, board, request)) as steps:
        for progress, news in steps:
            board.take(news)
            yield progress


def _work(_task: Callable, board: Board | Chart, request: Any) -> lane.Work:
    """About as many network calls as there are steps in all columns."""
    steps = getattr(request, "steps", ORDINARY)
    calls = sum(steps) if isinstance(steps, tuple) else steps * len(getattr(board, "columns", "1"))
    return lane.Work(getattr(request, "model", "bundled"), calls, getattr(request, "batch", 1))


@lane.gpu(_work)
def _told(task: Callable, board: Board | Chart, request: Any) -> Iterator[tuple[Progress, Any]]:
    with closing(task(board, request)) as work:
        for progress in work:
            yield progress, board.news()


class Experiment:
    """A board and the work that fills it; `messages()` plays it once."""

    def __init__(self, board: Board | Chart, work: Iterator[Progress]) -> None:
        self.board, self.work = board, work
        self.ticket = board.id
        self.halted = False
        self.over = False

    def stop(self) -> dict:
        """End it after the network call that is under way; gives the message that says so."""
        self.halted = True
        return self.board.message("stopped", "Stopped.")

    def messages(self) -> Iterator[dict]:
        """A status at once, then what is new at most every 40 ms, at the end all there is.

        The first thing is a status, because Gradio cannot cancel a generator that has not
        yielded yet. The last repeats every picture, because a browser may merge two updates.
        """
        finished = False
        try:
            if not self.halted:
                yield self.board.message("running", "Waking the model", 0.0)
                finished = yield from self._played()
        finally:
            self.over = True
        if not finished:
            yield self.board.message("stopped", "Stopped: this is how far it came.", complete=True)

    def _played(self) -> Generator[dict, None, bool]:
        """The messages of the work; gives whether it came to its end."""
        started, last, progress = time.monotonic(), -math.inf, None
        with closing(self.work) as work:
            for progress in work:
                if self.halted:
                    return False
                now = time.monotonic()
                if now - started > limits.MAX_SECONDS:
                    raise ConfigError(
                        f"{progress.done} of {progress.total} network calls took "
                        f"{now - started:.0f} s, more than {limits.MAX_SECONDS}: take fewer steps"
                    )
                if now - last >= YIELD_SECONDS:
                    yield self.board.message(
                        "running", progress.text, progress.done / max(1, progress.total)
                    )
                    last = time.monotonic()
        text = progress.text if progress else ""
        yield self.board.message("done", text, complete=True)
        return True

    def refused(self, error: DDPMHubError) -> dict:
        """The message for an experiment that ended in an error: its sentence, and what there is."""
        return self.board.message("error", f"{error}.", complete=True)


class Desk:
    """Experiments by ticket; of those that are over, none is kept."""

    def __init__(self, most: int = MAX_WAITING) -> None:
        self.most = most
        self.experiments: OrderedDict[str, Experiment] = OrderedDict()
        self.lock = threading.Lock()

    def add(self, experiment: Experiment) -> Experiment:
        """Keep it until it is over; beyond the limit the oldest goes, and with it its stop."""
        with self.lock:
            for ticket in [t for t, e in self.experiments.items() if e.over]:
                del self.experiments[ticket]
            while len(self.experiments) >= self.most:
                self.experiments.popitem(last=False)[1].halted = True
            self.experiments[experiment.ticket] = experiment
        return experiment

    def get(self, ticket: object) -> Experiment | None:
        """The experiment of that ticket, or None: unknown, or over and gone."""
        return self.experiments.get(ticket) if isinstance(ticket, str) else None


DESK = Desk()
