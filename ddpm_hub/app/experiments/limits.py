"""What a visitor may ask of the Lab's first half, refused in one sentence each.

In the room: plain checks on plain values, with the helpers of app/limits.py. Out-of-range values
are refused, not clamped: a picture must be the one that was asked for. No torch and no gradio.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ddpm_hub import SAMPLERS
from ddpm_hub.app.limits import MAX_SEED, model_name, new_seed, whole
from ddpm_hub.errors import ConfigError, check_choice, shown

COMPARE_STEPS = (10, 25, 50, 100, 250)  # what the forms offer
FEW_STEPS = (5, 10, 20, 50, 100, 250)
CHAIN_STEPS = (20, 40, 100, 200)
MIX_STEPS = (10, 25, 50, 100)
BATCHES = (1, 4)
MAX_STEPS = 250  # of one run: a Lab page draws several beside each other
MAX_COLUMNS = 4
MAX_BATCH = 4


class CompareRequest(NamedTuple):
    """Several samplers from the same seed, checked."""

    model: str
    samplers: tuple[str, ...]
    steps: int
    batch: int
    seed: int


class FewStepsRequest(NamedTuple):
    """One sampler with several numbers of steps, checked; `steps` ascend."""

    model: str
    sampler: str
    steps: tuple[int, ...]
    batch: int
    seed: int


class ContinuationsRequest(NamedTuple):
    """One ancestral chain and the continuations from four of its states, checked."""

    model: str
    steps: int
    seed: int


class InterpolationRequest(NamedTuple):
    """Two of the bundled test pictures, mixed at level t, checked."""

    model: str
    first: int
    second: int
    t: int
    steps: int
    seed: int


def compare_request(model, samplers, steps, batch, seed) -> CompareRequest:
    """Check what the Compare tool was sent. A seed of None means a new one."""
    names = listed("samplers", samplers)
    for name in names:
        check_choice("sampler", name, SAMPLERS)
    if not 2 <= len(set(names)) <= MAX_COLUMNS:
        raise ConfigError(
            f"{len(set(names))} of the samplers are ticked: a comparison takes 2 to {MAX_COLUMNS}"
        )
    in_order = tuple(name for name in SAMPLERS if name in names)
    return CompareRequest(
        model_name(model), in_order, run_steps(steps), run_batch(batch), run_seed(seed)
    )


def few_steps_request(model, sampler, steps, batch, seed) -> FewStepsRequest:
    """Check what the tool for few steps was sent: 2 to 6 different numbers of steps."""
    check_choice("sampler", sampler, SAMPLERS)
    counts = sorted({run_steps(count) for count in listed("steps", steps)})
    if not 2 <= len(counts) <= len(FEW_STEPS):
        raise ConfigError(
            f"{len(counts)} numbers of steps are ticked: tick 2 to {len(FEW_STEPS)}, "
            "the longest is what the others are measured against"
        )
    return FewStepsRequest(
        model_name(model), sampler, tuple(counts), run_batch(batch), run_seed(seed)
    )


def continuations_request(model, steps, seed) -> ContinuationsRequest:
    """Check what the tool for shared latents was sent."""
    return ContinuationsRequest(model_name(model), run_steps(steps, least=4), run_seed(seed))


def interpolation_request(model, pair, t, steps, seed, pictures: int) -> InterpolationRequest:
    """Check what the tool for interpolation was sent; `pictures` is how many there are."""
    chosen = listed("pictures", pair)
    if len(chosen) != 2:
        raise ConfigError(f"{len(chosen)} pictures are chosen: choose one on each side")
    first, second = (whole("picture", index, 0, pictures - 1) for index in chosen)
    if first == second:
        raise ConfigError(f"picture {first} is chosen on both sides: choose two different ones")
    t = whole("t", t, 0, 100_000)  # against the model's T: the library's to check
    return InterpolationRequest(
        model_name(model), first, second, t, run_steps(steps), run_seed(seed)
    )


def run_steps(steps: object, least: int = 1) -> int:
    """Network calls of one run; more than the model's T is the library's to refuse."""
    return whole("steps", steps, least, MAX_STEPS)


def run_batch(batch: object) -> int:
    """Pictures of one run."""
    return whole("batch", batch, 1, MAX_BATCH)


def run_seed(seed: object) -> int:
    """A seed, or a new one."""
    return new_seed() if seed is None else whole("seed", seed, 0, MAX_SEED)


def listed(name: str, values: object) -> list:
    """`values` as a short list."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} {shown(values)} is not a list: give several values")
    values = list(values)
    if len(values) > 16:
        raise ConfigError(f"{name} has {len(values)} values: give at most 16")
    return values
