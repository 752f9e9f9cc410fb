"""One run of a sampler as an iterator of `Step`: counted, pausable, and resumable bit for bit.

In the room: what a run is (`SampleState`), its loop (`SampleStream`), and the one thing that any
sampler can be made to do beside its own work: hold a known region, with RePaint's jumps back up.
Not in the room: the samplers themselves, and what to start from (`sampling.py`, `editing.py`).

A path of timesteps falls from noise to data; where it rises, from s up to t, the state is noised
again and no network is called: [999, 899, 799, 999, 899, 799, ..., -1].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ddpm_hub.errors import ConfigError, check_int
from ddpm_hub.randomness import noise_like
from ddpm_hub.runtime import eval_mode
from ddpm_hub.samplers import LOOKS_TWICE, SAMPLERS, Update
from ddpm_hub.spacings import SPACINGS

if TYPE_CHECKING:
    from ddpm_hub.diffusion import GaussianProcess, Prediction


class Step(NamedTuple):
    """An `Update` that knows its place: index 0 .. total - 1. Tensors are in [-1, 1]."""

    index: int
    total: int
    t: int
    x: Tensor
    x0: Tensor
    eps: Tensor


class Known(NamedTuple):
    """Part of the images, (B, C, H, W) in [-1, 1], that is not to change: where mask, 0 or 1, is 1.

    mask: (B or 1, C or 1, H, W).
    """

    images: Tensor
    mask: Tensor


@dataclass(frozen=True)
class SampleState:
    """Where a run stands, complete: `resume_stream` goes on from it bit for bit. Picklable."""

    sampler: str
    ts: tuple[int, ...]  # all of the run, with the end
    x: Tensor  # the state after `index` network calls
    eta: float | None = None
    asked: dict[str, Any] = field(default_factory=dict)  # options of `GaussianProcess.predict`
    known: Known | None = None
    index: int = 0  # network calls done
    last: Update | None = None
    rng: Tensor | None = None  # the generator's state; None until asked for
    rng_device: str = "cpu"


class SampleStream(Iterator[Step]):
    """The steps of one run, computed as they are asked for.

    Stop whenever you like; `state()` then continues by `GaussianDiffusion.resume_stream`. The
    network runs in eval mode and without gradients during each step and is itself again between.
    """

    def __init__(
        self, process: GaussianProcess, state: SampleState, rng: torch.Generator | None = None
    ):
        self.process, self.rng = process, rng
        self._state, self._ends = state, call_ends(state.ts)
        ts = state.ts[self._ends[state.index - 1] :] if state.index else state.ts
        sampler = SAMPLERS[state.sampler]
        if state.known is None and len(self._ends) == len(state.ts) - 1:
            self._updates = sampler(process, self._predict, state.x, ts, rng, state.eta, state.last)
        else:
            self._updates = self._repaint(sampler, state.x, ts)

    def __len__(self) -> int:
        """Network calls of the whole run, those before a pause included."""
        return len(self._ends)

    @torch.no_grad()
    def __next__(self) -> Step:
        with eval_mode(self.process):
            update = next(self._updates)
        index = self._state.index
        self._state = replace(self._state, x=update.x, index=index + 1, last=update)
        return Step(index, len(self), update.t, update.x, update.x0, update.eps)

    def close(self) -> None:
        """End the run here; what was yielded stays valid."""
        self._updates.close()

    def state(self) -> SampleState:
        """All that a later run needs to go on as if this one had not been interrupted."""
        device = self.rng.device if self.rng is not None else self.process.device
        state = self.rng.get_state() if self.rng is not None else global_rng_state(device)
        return replace(self._state, rng=state, rng_device=device.type)

    def _predict(self, x: Tensor, t: int, x0: Tensor | None) -> Prediction:
        times = torch.full((len(x),), t, device=x.device)
        x0 = x0 if self.process.self_condition else None
        return self.process.predict(x, times, x0, **self._state.asked)

    def _repaint(self, sampler: Any, x: Tensor, ts: Sequence[int]) -> Iterator[Update]:
        """Algorithm 1 of Lugmayr et al. 2022 (RePaint) around any sampler, one call at a time.

        After a step to level s the known region is the image at level s; a path that rises
        noises all of it again, so that the next descent can make both parts agree better.
        """
        process, known, eta = self.process, self._state.known, self._state.eta
        last = self._state.last
        for t, s in pairwise(ts):
            if s > t:
                keep = process.alpha_bar(s) / process.alpha_bar(t)
                x, last = keep**0.5 * x + (1 - keep) ** 0.5 * noise_like(x, self.rng), None
                continue
            (last,) = sampler(process, self._predict, x, (t, s), self.rng, eta, last)
            x = last.x
            if known is not None:
                a_s = process.alpha_bar(s)
                kept = a_s**0.5 * known.images + (1 - a_s) ** 0.5 * noise_like(x, self.rng)
                x = torch.where(known.mask > 0, kept, x)
            last = last._replace(x=x)
            yield last


def resumed(process: GaussianProcess, state: SampleState) -> SampleStream:
    """The stream that goes on from `state`, with the random numbers that would have come."""
    check_int("state.index", state.index, 0, len(call_ends(state.ts)))
    if state.rng is None:
        raise ConfigError("this state has no random generator: take it from stream.state()")
    rng = torch.Generator(state.rng_device)
    rng.set_state(state.rng)
    return SampleStream(process, state, rng)


def timesteps(alpha_bar: Tensor, sampler: str, spacing: str, steps: int) -> tuple[int, ...]:
    """The path of `steps` network calls down a chain, (T,) alpha_bar, as the sampler walks it.

    One that looks twice at each level it steps to has a second entry for it, but the last step,
    to clean data, is a single one, and so is that before it if `steps` is even.
    """
    if sampler not in LOOKS_TWICE:
        return tuple(SPACINGS[spacing](alpha_bar, steps))
    first, *between, end = SPACINGS[spacing](alpha_bar, steps // 2 + 1)
    twice = (steps - 1) // 2
    doubled = [t for t in between[:twice] for _ in range(2)]
    return (first, *doubled, *between[twice:], end)


def call_ends(ts: Sequence[int]) -> list[int]:
    """Where in the path `ts` each network call ends: at every entry that does not rise."""
    return [i + 1 for i, (t, s) in enumerate(pairwise(ts)) if s <= t]


def global_rng_state(device: torch.device) -> Tensor:
    """The state of torch's global generator for `device`."""
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.get_device_module(device).get_rng_state(device)
