"""Random numbers as a function of what they are for: a seed and names, never a running state.

A step's noise follows from (seed, step), an epoch's order from (seed, epoch). So a run that was
interrupted needs no generator's state to go on bit for bit, and several processes agree on a
batch without talking.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch
from torch import Tensor


def mixed_seed(*names: str | int) -> int:
    """A 32-bit seed for these names: all that torch's CPU generator takes of a seed."""
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:4], "little")


def generator(device: torch.device, *names: str | int) -> torch.Generator:
    """A fresh torch generator on `device` for these names."""
    return torch.Generator(device).manual_seed(mixed_seed(*names))


def noise_like(x: Tensor, rng: torch.Generator | None) -> Tensor:
    """eps ~ N(0, I) shaped like x, drawn on the generator's device: a CPU seed works everywhere."""
    device = x.device if rng is None else rng.device
    return torch.randn(x.shape, generator=rng, device=device, dtype=x.dtype).to(x.device)


class SeededGlobals:
    """A context in which the global generators (torch, numpy, Python) start from `names`.

    For what cannot be handed a generator: dropout, and networks of strangers. After it, the
    caller's random numbers go on as if nothing had happened.
    """

    def __init__(self, device: torch.device, *names: str | int, rank: int = 0):
        self.device, self.seed = device, mixed_seed(*names)
        # on accelerators each process drops out units of its own; the CPU's numbers, which
        # decide for the whole batch at once (self-conditioning), are the same for all
        self.device_seed = mixed_seed(*names, rank)

    def __enter__(self) -> None:
        self.kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
        torch.default_generator.manual_seed(self.seed)
        np.random.seed(self.seed)
        random.seed(self.seed)
        if self.device.type != "cpu":
            module = torch.get_device_module(self.device)
            self.kept_device = module.get_rng_state(self.device)
            own = torch.Generator(self.device).manual_seed(self.device_seed)
            module.set_rng_state(own.get_state(), self.device)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self.kept[0])
        np.random.set_state(self.kept[1])
        random.setstate(self.kept[2])
        if self.device.type != "cpu":
            torch.get_device_module(self.device).set_rng_state(self.kept_device, self.device)
