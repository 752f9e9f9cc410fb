"""Copies of networks for drawing in bfloat16: half the bytes, and matrix units made for it.

In the room: what any such copy is, and the simplest of them. Not in the room: layers that were
written anew for a CPU (`packed.py`), calls that a GPU replays (`graphed.py`), and when a copy is
worth making (`fast.py`).
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from ddpm_hub import runtime
from ddpm_hub.errors import ConfigError
from ddpm_hub.nets.blocks import RandomOrLearnedSinusoidalPosEmb

DTYPE = torch.bfloat16


def half(net: nn.Module) -> nn.Module:
    """A copy of `net` for inference; it takes and gives bfloat16."""
    return for_drawing(runtime.channels_last(copy.deepcopy(net)))


def for_drawing(twin: nn.Module) -> nn.Module:
    """`twin` in bfloat16, without gradients, and not to be saved.

    Frequencies of a time embedding stay as they are: at t = 999, their rounding would be radians.
    """
    waves = [m for m in twin.modules() if isinstance(m, RandomOrLearnedSinusoidalPosEmb)]
    frequencies = [m.weights.detach().clone() for m in waves]
    twin.to(DTYPE)
    for embedding, exact in zip(waves, frequencies, strict=True):
        embedding.weights = nn.Parameter(exact)
    twin.register_state_dict_pre_hook(_refuse)
    return twin.eval().requires_grad_(False)


def _refuse(*_: object) -> None:
    raise ConfigError("this copy of a network is for drawing: save the one that it was made of")
