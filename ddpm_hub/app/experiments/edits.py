"""Editing: a sketch drawn anew from five noise levels, and a hole filled four times.

In the room: which streams of the library run, and what of them is shown. Not in the room: SDEdit
and RePaint (`ddpm_hub.editing`), what may be asked for, messages and stopping (desk.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ddpm_hub.app import models
from ddpm_hub.app.experiments.board import Board
from ddpm_hub.app.experiments.desk import Experiment, Progress, played
from ddpm_hub.app.experiments.edit_limits import InpaintRequest, SketchRequest
from ddpm_hub.images import to_uint8

STRENGTHS = (0.2, 0.4, 0.5, 0.6, 0.8)
COMPLETIONS = 4
HOLE = 0.5  # the grey that stands for a hole


# ---- SDEdit -------------------------------------------------------------------------------------
def sketch(request: SketchRequest) -> Experiment:
    """The sketch, and what `img2img` makes of it at each strength, all from one seed."""
    rows = [("noised", "xt"), ("redrawn", "x0")]
    columns = ["the sketch", *(f"strength {strength:g}" for strength in STRENGTHS)]
    board = Board(rows, columns)
    return Experiment(board, played(_sketch, board, request))


def sketch_steps(steps: int, strength: float) -> int:
    """Network calls at that strength, where a whole chain has `steps`."""
    return max(1, round(steps * strength))


def _sketch(board: Board, request: SketchRequest) -> Iterator[Progress]:
    diffusion, picture = models.load(), request.painted.picture
    for row in range(2):
        board.put(row, 0, picture)
    streams = [
        diffusion.img2img_stream(
            picture,
            strength,
            sampler=request.sampler,
            steps=sketch_steps(request.steps, strength),
            seed=request.seed,
        )
        for strength in STRENGTHS
    ]
    for column, stream in enumerate(streams, 1):
        state = stream.state()
        board.put(0, column, diffusion.unnormalize(state.x), t=state.ts[0])
        board.note(column, f"t = {state.ts[0]}", f"{len(stream)} calls")
    done, total = 0, sum(len(stream) for stream in streams)
    for column, stream in enumerate(streams, 1):
        for step in stream:
            last, done = step.index == step.total - 1, done + 1
            state = step.x if last else step.x0  # on the way: what it believes so far
            board.put(1, column, diffusion.unnormalize(state), t=step.t, exact=last)
            yield Progress(done, total, f"strength {STRENGTHS[column - 1]:g}, {done} of {total}")
    yield Progress(
        total,
        total,
        f"{request.sampler} · seed {request.seed} · {models.describe_device()}",
    )


# ---- RePaint ------------------------------------------------------------------------------------
def inpaint(request: InpaintRequest) -> Experiment:
    """The picture, its hole, and four completions, all of one batch."""
    columns = ["original", "the hole", *(f"filled, {n + 1}" for n in range(COMPLETIONS))]
    board = Board([("", "")], columns)
    return Experiment(board, played(_inpaint, board, request))


def _inpaint(board: Board, request: InpaintRequest) -> Iterator[Progress]:
    diffusion = models.load()
    picture, marked = (x.to(diffusion.device) for x in request.painted)
    board.put(0, 0, picture)
    board.put(0, 1, torch.where(marked, torch.full_like(picture, HOLE), picture))
    stream = diffusion.inpaint_stream(
        picture.repeat(COMPLETIONS, 1, 1, 1),
        ~marked,
        steps=request.steps,
        jump_length=request.jump_length,
        jump_n_sample=request.jump_n_sample,
        seed=request.seed,
    )
    for step in stream:
        last = step.index == step.total - 1
        drawn = diffusion.unnormalize(step.x if last else step.x0)
        drawn = torch.where(marked, drawn, picture)  # as `inpaint` returns it
        for n in range(COMPLETIONS):
            board.put(0, 2 + n, drawn[n : n + 1], t=step.t, exact=last)
        text = f"network call {step.index + 1} of {step.total}, t {step.t}"
        yield Progress(step.index + 1, step.total, text)
    board.note(0, f"{int((~marked).sum())} pixels kept")
    board.note(1, f"{int(marked.sum())} to redraw")
    for n in range(COMPLETIONS):
        board.note(2 + n, _kept(drawn[n : n + 1], picture, marked))
    settings = f"{step.total} network calls on {COMPLETIONS} pictures · seed {request.seed}"
    yield Progress(step.total, step.total, f"{settings} · {models.describe_device()}")


def _kept(drawn: Tensor, picture: Tensor, marked: Tensor) -> str:
    """Whether the pixels that were to be kept are the picture's: compared, not promised."""
    keep = (~marked).squeeze().cpu().numpy()
    changed = int((to_uint8(drawn)[0] != to_uint8(picture)[0]).any(-1)[keep].sum())
    return "rest unchanged" if not changed else f"{changed} kept pixels changed"
