"""Where a run stands, kept so that it can go on: from a pause, or as a branch with other noise.

In the room: the states of one run in a budget of bytes, on which device they lie, and what other
noise makes of one. Not in the room: how a run goes on from a state (`ddpm_hub.streams`), runs and
who may ask for them (runs.py).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from ddpm_hub.samplers import Seen, Update
from ddpm_hub.streams import SampleState

MAX_BYTES = 4_000_000  # of one run: all 25 states of 16 images of 28 x 28 fit, and 250 of one


class Kept:
    """States of one run, by the network calls done: the newest, and of the rest what fits.

    When they are too many bytes, every second one goes: from any frame it is then a few network
    calls from the state before it, and never more than the gap between two.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes, self.stride, self.size = max_bytes, 1, 0
        self.states: dict[int, SampleState] = {}
        self.newest: SampleState | None = None

    def add(self, state: SampleState) -> None:
        """Keep this state, on the CPU, as the newest."""
        if self.newest is not None and self.newest.index % self.stride:
            self._drop(self.newest.index)
        self.states[state.index] = self.newest = state
        self.size += nbytes(state)
        while self.size > self.max_bytes and len(self.states) > 1:
            self.stride *= 2
            for index in [i for i in self.states if i % self.stride and i != state.index]:
                self._drop(index)

    def before(self, index: int) -> SampleState | None:
        """The newest state after at most `index` network calls; None if none is left."""
        known = [i for i in list(self.states) if i <= index]
        return self.states.get(max(known)) if known else None

    def _drop(self, index: int) -> None:
        self.size -= nbytes(self.states.pop(index))


def _tensors(state: SampleState) -> list[Tensor]:
    last = state.last
    seen = [t for s in last.memory for t in (s.x, s.x0)] if last else []
    return [state.x, *((last.x, last.x0, last.eps) if last else ()), *seen]


def nbytes(state: SampleState) -> int:
    """Bytes of its pictures, each counted once."""
    return sum({id(t): t.nbytes for t in _tensors(state)}.values())


def moved(state: SampleState, device: torch.device | str) -> SampleState:
    """The same state with its tensors on that device; as it is where they lie there already."""

    @cache  # what is one tensor stays one
    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device)

    asked = {k: move(v) if isinstance(v, Tensor) else v for k, v in state.asked.items()}
    last = state.last
    if last is not None:
        memory = tuple(Seen(s.t, move(s.x), move(s.x0)) for s in last.memory)
        last = Update(last.t, move(last.x), move(last.x0), move(last.eps), memory)
    return replace(state, x=move(state.x), asked=asked, last=last)


def has_noise(sampler: str, eta: float | None) -> bool:
    """Whether the sampler's steps draw random numbers that reach the picture."""
    return sampler == "ddpm" or bool(eta)


def turned(state: SampleState, seed: int) -> SampleState:
    """The state with the noise of another seed to come.

    A sampler without noise would draw the same picture again, so from here it is "ddim" with
    eta 1, whose steps have the noise of DDPM's.
    """
    rng = torch.Generator(state.rng_device).manual_seed(seed)
    state = replace(state, rng=rng.get_state())
    if has_noise(state.sampler, state.eta):
        return state
    return replace(state, sampler="ddim", eta=1.0)
