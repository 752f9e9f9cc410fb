"""What a visitor may ask of the Lab's second half, refused in one sentence each.

In the room: the checks of rate and distortion, losses, sketches and inpainting, with the helpers of
app/limits.py; pictures come checked from canvas.py. Out-of-range values are refused, not clamped.
"""

from __future__ import annotations

from typing import NamedTuple

from ddpm_hub import SAMPLERS
from ddpm_hub.app.experiments.canvas import Painted, painted
from ddpm_hub.app.experiments.limits import run_seed
from ddpm_hub.app.limits import whole
from ddpm_hub.errors import ConfigError, DataError, check_choice

CODING_STEPS = (25, 50, 100, 250, 1000)  # what the forms offer
LOSS_TIMES = (10, 25, 50, 100)
SKETCH_STEPS = (25, 50, 100, 250)
INPAINT_STEPS = (25, 50, 100)
RESAMPLINGS = (1, 2, 3, 5, 10)
JUMP_LENGTHS = (1, 5, 10, 20)
MAX_CODING_STEPS = 1000
MAX_LOSS_TIMES = 100
MAX_SKETCH_STEPS = 250
MAX_INPAINT_STEPS = 100
MAX_JUMP = 50
MAX_CALLS = 600  # of one inpainting, on four pictures: half a minute on a slow machine


class CodingRequest(NamedTuple):
    """One picture to be coded along a chain of so many steps, checked."""

    painted: Painted
    steps: int
    seed: int


class LossRequest(NamedTuple):
    """One picture to look at, and how many values of t, checked."""

    painted: Painted
    times: int
    seed: int


class SketchRequest(NamedTuple):
    """A sketch to be drawn anew; `steps` are those of the whole chain, checked."""

    painted: Painted
    sampler: str
    steps: int
    seed: int


class InpaintRequest(NamedTuple):
    """A picture with a hole, and RePaint's jumps, checked."""

    painted: Painted
    steps: int
    jump_length: int
    jump_n_sample: int
    seed: int


def coding_request(value, steps, seed) -> CodingRequest:
    """Check what the tool for rate and distortion was sent."""
    return CodingRequest(painted(value), whole("steps", steps, 2, MAX_CODING_STEPS), run_seed(seed))


def loss_request(value, times, seed) -> LossRequest:
    """Check what the tool for losses was sent."""
    return LossRequest(
        painted(value), whole("values of t", times, 2, MAX_LOSS_TIMES), run_seed(seed)
    )


def sketch_request(value, sampler, steps, seed) -> SketchRequest:
    """Check what the tool for sketches was sent: an empty board is no sketch."""
    board = painted(value)
    if not board.picture.any():
        raise DataError("the board is empty: paint something, or start from a garment")
    return SketchRequest(
        board,
        check_choice("sampler", sampler, SAMPLERS),
        whole("steps", steps, 5, MAX_SKETCH_STEPS),
        run_seed(seed),
    )


def inpaint_request(value, steps, jump_length, jump_n_sample, seed) -> InpaintRequest:
    """Check what the tool for inpainting was sent: without a hole there is nothing to do."""
    board = painted(value)
    if not board.marked.any():
        raise DataError("nothing is marked: paint over the part that shall be redrawn")
    request = InpaintRequest(
        board,
        whole("steps", steps, 5, MAX_INPAINT_STEPS),
        whole("jump length", jump_length, 1, MAX_JUMP),
        whole("resamplings", jump_n_sample, 1, 20),
        run_seed(seed),
    )
    calls = request.steps * request.jump_n_sample
    if calls > MAX_CALLS:
        raise ConfigError(
            f"{request.steps} steps, walked {request.jump_n_sample} times, are {calls} network "
            f"calls, more than {MAX_CALLS}: take fewer of either"
        )
    return request
