"""Runs beside each other: several samplers from one seed, and one sampler with fewer steps.

In the room: which streams of the library run, in what order, and what of them is shown. Not in
the room: the samplers, what may be asked for (limits.py), messages and stopping (desk.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ddpm_hub.app import models
from ddpm_hub.app.experiments.board import Board
from ddpm_hub.app.experiments.desk import Experiment, Progress, played
from ddpm_hub.app.experiments.limits import CompareRequest, FewStepsRequest
from ddpm_hub.app.limits import check_work

if TYPE_CHECKING:
    from ddpm_hub.samplers import SampleStream, Step

X0, XT = 0, 1
ROWS = (("what the network believes", "x0"), ("the picture so far", "xt"))
MAX_FRAMES = 125  # of one column: four of 250 steps would be 2,000 pictures


class Lane:
    """One run of a board: its stream, and the seconds that its own network calls took."""

    def __init__(self, stream: SampleStream) -> None:
        self.stream, self.seconds, self.left = stream, 0.0, len(stream)

    def step(self) -> Step:
        """One network call; waits until the pictures are on this side of the device."""
        started = time.perf_counter()
        step = next(self.stream)
        step = step._replace(x=step.x.cpu(), x0=step.x0.cpu())
        self.seconds += time.perf_counter() - started
        self.left -= 1
        return step

    def notes(self) -> tuple[str, str]:
        """The network calls so far, and what they took."""
        calls = len(self.stream) - self.left
        return f"{calls} call{'s'[: calls != 1]}", f"{self.seconds:.2f} s"


def wake(diffusion, batch: int) -> None:
    """One network call that is neither shown nor counted: the first is slow, whoever makes it."""
    next(diffusion.sample_stream(batch, steps=1, seed=0))


# ---- several samplers ---------------------------------------------------------------------------
def compare(request: CompareRequest) -> Experiment:
    """x0-hat above x_t, a column for each sampler, all from the same seed, in step."""
    board = Board(ROWS, request.samplers)
    return Experiment(board, played(_compare, board, request))


def _compare(board: Board, request: CompareRequest) -> Iterator[Progress]:
    diffusion = models.load(request.model)
    check_work(request.batch * len(request.samplers), request.steps, diffusion.image_size)
    lanes = [
        Lane(
            diffusion.sample_stream(
                request.batch, sampler=sampler, steps=request.steps, seed=request.seed
            )
        )
        for sampler in request.samplers
    ]
    for column, lane in enumerate(lanes):
        board.frames(column, lane.left)
    wake(diffusion, request.batch)
    done, total = 0, sum(lane.left for lane in lanes)
    while any(lane.left for lane in lanes):
        for column, lane in enumerate(lanes):
            if lane.left:
                done += 1
                _show(board, column, lane, lane.step(), diffusion)
                yield Progress(done, total, f"network call {done} of {total}")
    yield Progress(total, total, summary(f"{len(lanes)} samplers", request.seed))


def _show(board: Board, column: int, lane: Lane, step: Step, diffusion) -> None:
    board.note(column, *lane.notes())
    if lane.left and step.index % math.ceil(step.total / MAX_FRAMES):
        return
    for row, state in ((X0, step.x0), (XT, step.x)):
        picture = diffusion.unnormalize(state)
        board.put(row, column, picture, index=step.index, t=step.t, exact=not lane.left)


# ---- fewer steps --------------------------------------------------------------------------------
def few_steps(request: FewStepsRequest) -> Experiment:
    """Final pictures of one sampler and seed, a column for each number of steps."""
    board = Board([""] * request.batch, [f"{steps} steps" for steps in request.steps])
    return Experiment(board, played(_few_steps, board, request))


def _few_steps(board: Board, request: FewStepsRequest) -> Iterator[Progress]:
    diffusion = models.load(request.model)
    check_work(request.batch, sum(request.steps), diffusion.image_size)
    lanes = [
        Lane(
            diffusion.sample_stream(
                request.batch, sampler=request.sampler, steps=steps, seed=request.seed
            )
        )
        for steps in request.steps
    ]
    wake(diffusion, request.batch)
    done, total, finals = 0, sum(lane.left for lane in lanes), []
    for column, lane in enumerate(lanes):
        while lane.left:
            step = lane.step()
            done += 1
            state = step.x0 if lane.left else step.x  # on the way: what it believes so far
            pictures = diffusion.unnormalize(state)
            for row, picture in enumerate(pictures):
                board.put(row, column, picture[None], t=step.t, exact=not lane.left)
            board.note(column, *lane.notes())
            yield Progress(done, total, f"{len(lane.stream)} steps: call {step.index + 1}")
        finals.append(pictures)
    for column, (lane, pictures) in enumerate(zip(lanes[:-1], finals[:-1], strict=True)):
        away = (pictures - finals[-1]).abs().mean().item()
        board.note(column, *lane.notes(), f"off by {away:.3f}")
    yield Progress(total, total, summary(request.sampler, request.seed))


def summary(what: str, seed: int) -> str:
    """The status line of a finished experiment."""
    return f"{what} · seed {seed} · {models.describe_device()}"
