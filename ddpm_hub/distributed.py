"""Several processes that train one model: who we are, and the little they say to each other.

`torchrun` and `accelerate launch` start the processes and say in the environment which is which.
Alone, everything here is the identity. What is trained, and how, is `training/`.
"""

from __future__ import annotations

import atexit
import importlib
import inspect
import os
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

# the schedule is the same everywhere; the switch has another name since torch 2.13
_ARGUMENTS = inspect.signature(DistributedDataParallel.__init__).parameters
SYNC_BUFFERS = next(n for n in ("forward_sync_buffers", "broadcast_buffers") if n in _ARGUMENTS)


class Team(NamedTuple):
    """This process's number, 0 .. size - 1, among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether files and reports are this process's business."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes; every one must call it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, (N, ...) each, dealt out in turn: (size * N, ...)."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module whose backward averages gradients over the processes."""
        if self.size == 1:
            return module
        device = next(module.parameters()).device
        ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=ids, **{SYNC_BUFFERS: False})


def join(device: torch.device) -> Team:
    """The team that the launcher's environment describes; joined, if it was not yet."""
    if dist.is_available() and not dist.is_initialized() and int(os.getenv("WORLD_SIZE", "1")) > 1:
        # its functions have the group of that moment as a default, which they would keep for ever
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        # left to the interpreter's end, its threads may still run: that process would abort
        atexit.register(leave)
    if dist.is_available() and dist.is_initialized():
        return Team(dist.get_rank(), dist.get_world_size())
    return Team()


def leave() -> None:
    """The end of the team that `join` joined; the next `join` would start another."""
    if dist.is_initialized():
        dist.destroy_process_group()


def unsynced(module: nn.Module) -> AbstractContextManager:
    """While gradients only accumulate, the processes need not talk."""
    wrapped = isinstance(module, DistributedDataParallel)
    return module.no_sync() if wrapped else nullcontext()
