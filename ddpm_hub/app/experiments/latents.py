"""What a state x_t already holds: continuations of a shared one, and mixes of two pictures.

In the room: where a chain is frozen, and what of it is shown. Not in the room: the recipes
(`ddpm_hub.editing`), what may be asked for (limits.py), messages and stopping (desk.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ddpm_hub.app import models
from ddpm_hub.app.experiments import garments
from ddpm_hub.app.experiments.board import Board
from ddpm_hub.app.experiments.compare import Lane, summary
from ddpm_hub.app.experiments.desk import Experiment, Progress, played
from ddpm_hub.app.experiments.limits import ContinuationsRequest, InterpolationRequest
from ddpm_hub.app.limits import check_work
from ddpm_hub.errors import ConfigError, check_int

if TYPE_CHECKING:
    from torch import Tensor

COUNT = 4  # continuations of each state
SHARES = (1.0, 0.75, 0.5, 0.25)  # of the chain: t = 1000, 750, 500, 250 as the paper counts
LAMBDAS = ("0", "⅛", "¼", "⅜", "½", "⅝", "¾", "⅞", "1")
FRAMES = len(LAMBDAS)


class Frozen(NamedTuple):
    """A chain held at level t: its state and what the network believes there, (1, C, H, W)."""

    t: int
    x: Tensor
    x0: Tensor


# ---- shared latents -----------------------------------------------------------------------------
def continuations(request: ContinuationsRequest) -> Experiment:
    """Four states of one ancestral chain, and from each four continuations with other noise.

    The chain has the request's seed, each row's continuations `continuation_seed` of it.
    """
    columns = [("state", "xt"), ("belief", "x0"), *map(str, range(1, COUNT + 1))]
    board = Board(["held"] * len(SHARES), columns)
    return Experiment(board, played(_continuations, board, request))


def continuation_seed(seed: int, row: int) -> int:
    """Other noise than the chain's, and in each row its own."""
    return seed + 1 + row


def _continuations(board: Board, request: ContinuationsRequest) -> Iterator[Progress]:
    diffusion = models.load(request.model)
    check_work(1 + COUNT * len(SHARES), request.steps, diffusion.image_size)
    chain = Lane(diffusion.sample_stream(1, sampler="ddpm", steps=request.steps, seed=request.seed))
    levels = _levels(chain.stream.state().ts, diffusion.num_timesteps)
    calls = [levels[t] for t in levels]
    done, total = 0, len(chain.stream) - calls[-1] + 1 + sum(calls)
    before, frozen = chain.stream.state().x, []
    while len(frozen) < len(levels):
        step = chain.step()
        if step.t in levels:
            frozen.append(Frozen(step.t, before, step.x0))
            _show_frozen(board, len(frozen) - 1, frozen[-1], diffusion)
        before, done = step.x, done + 1
        yield Progress(done, total, f"the shared chain, at t {step.t}")
    for row, state in enumerate(frozen):
        for step in _continued(board, row, state, levels[state.t], request.seed, diffusion):
            done += 1
            yield Progress(done, total, f"from t {state.t}: now at t {step.t}")
    yield Progress(total, total, summary(f"ddpm, {request.steps} steps", request.seed))


def _levels(ts: tuple[int, ...], T: int) -> dict[int, int]:
    """The timesteps of a run that are nearest to the SHARES, with the calls left from each."""
    levels = {}
    for share in SHARES:
        t = min(ts[:-1], key=lambda t: abs(t + 1 - share * T))
        levels[t] = len(ts) - 1 - ts.index(t)
    if len(levels) < len(SHARES):
        raise ConfigError(f"a run of {len(ts) - 1} steps has no four levels: take more steps")
    return levels


def _show_frozen(board: Board, row: int, state: Frozen, diffusion) -> None:
    board.rows[row]["label"] = f"held at t {state.t}"
    board.put(row, 0, diffusion.unnormalize(state.x), t=state.t)
    board.put(row, 1, diffusion.unnormalize(state.x0), t=state.t)


def _continued(board: Board, row: int, state: Frozen, steps: int, seed: int, diffusion):
    lane = Lane(
        diffusion.continuations(
            state.x, state.t, COUNT, seed=continuation_seed(seed, row), steps=steps
        )
    )
    while lane.left:
        step = lane.step()
        pictures = diffusion.unnormalize(step.x0 if lane.left else step.x)
        for column, picture in enumerate(pictures, start=2):
            board.put(row, column, picture[None], t=step.t, exact=not lane.left)
        yield step


# ---- interpolation ------------------------------------------------------------------------------
MIX_ROWS = ("pixels blended", ("blended, and noised to t", "xt"), ("denoised again", "x0"))
BLEND, NOISED, DENOISED = range(3)


def interpolation(request: InterpolationRequest) -> Experiment:
    """From one picture to another: blended, noised to t, and denoised again.

    The last row is `diffusion.interpolation(x1, x2, 9, t, seed=..., steps=...)`, its ends the
    pictures themselves.
    """
    board = Board(MIX_ROWS, [f"λ {lam}" for lam in LAMBDAS])
    return Experiment(board, played(_interpolation, board, request))


def _interpolation(board: Board, request: InterpolationRequest) -> Iterator[Progress]:
    import torch

    from ddpm_hub.editing import mixed_path

    diffusion = models.load(request.model)
    check_int("t", request.t, 0, diffusion.num_timesteps - 1)
    steps = min(request.steps, request.t + 1)  # a short chain has no more
    check_work(FRAMES, steps, diffusion.image_size)
    x1, x2 = (garments.picture_for(diffusion, i) for i in (request.first, request.second))
    for column in range(FRAMES):
        lam = column / (FRAMES - 1)
        board.put(BLEND, column, (1 - lam) * x1 + lam * x2)
    for column, x in ((0, x1), (FRAMES - 1, x2)):
        board.put(DENOISED, column, x)
    generator = torch.Generator(diffusion.device).manual_seed(request.seed)
    path = mixed_path(diffusion, x1, x2, request.t, FRAMES, generator)
    _put_between(board, NOISED, diffusion.unnormalize(path), exact=True)
    lane = Lane(
        diffusion.sample_stream(
            noise=path, t_start=request.t, sampler="ddim", steps=steps, generator=generator
        )
    )
    while lane.left:
        step = lane.step()
        x = step.x0 if lane.left else step.x
        _put_between(board, DENOISED, diffusion.unnormalize(x), exact=not lane.left)
        yield Progress(step.index + 1, steps, f"network call {step.index + 1} of {steps}")
    what = f"mixed at t {request.t}, denoised in {steps} steps"
    yield Progress(steps, steps, summary(what, request.seed))


def _put_between(board: Board, row: int, pictures: Tensor, *, exact: bool) -> None:
    for column, picture in enumerate(pictures, start=1):
        board.put(row, column, picture[None], exact=exact)
