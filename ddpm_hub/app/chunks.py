"""The steps of a training: made in this process, or chunk by chunk by workers that have a GPU.

A GPU that is lent comes for seconds at a time. So a training there is a chain of short ones, each
of which goes on from the checkpoint of the one before: on a CPU bit for bit what one long training
gives. In the room: what trains on what, and the chain. Not in the room: what becomes of the events
(job.py), how a GPU is lent (lane.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from contextvars import Context
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddpm_hub.app import lane, machine, starts
from ddpm_hub.data import ImageSet, bundled
from ddpm_hub.training import train

if TYPE_CHECKING:
    from ddpm_hub.app.job import Job
    from ddpm_hub.training import Event

PREPARED = 10  # seconds that a chunk needs before its first step, and after its last


def events(job: Job) -> Iterator[Event]:
    """The training's steps from its newest checkpoint on; closing it saves the last whole step.

    Those of workers come without their live average, `ema`.
    """
    return _chain(job) if machine.has_workers() else _steps(job, job.config())


def chunk_seconds() -> float:
    """How long a worker trains at a stretch: $DDPM_HUB_CHUNK_SECONDS, or 45."""
    return float(os.getenv("DDPM_HUB_CHUNK_SECONDS") or 45)


def _steps(job: Job, config: Any) -> Iterator[Event]:
    return train(starts.network(job.folder, job.request), _data(job), config)


def _data(job: Job) -> str | ImageSet:
    if job.request.data == "bundled":
        return "bundled"
    pixels = np.load(job.folder / "data.npy", allow_pickle=False)
    return ImageSet(torch.from_numpy(pixels), job.name)


def _chain(job: Job) -> Iterator[Event]:
    """Chunk after chunk, under the name of the visitor who asked for the training."""
    _warm()
    began, step = time.monotonic(), 0
    while step < job.request.steps:
        left = job.request.minutes * 60 - (time.monotonic() - began)
        if left <= 0:
            return
        with closing(chunk(str(job.folder), min(left, chunk_seconds()))) as steps:
            for event in _as_visitor(job.visitor, steps):
                step = event.step
                yield event


def _warm() -> None:
    """Have here what every chunk would else make anew: a fork has what its parent had."""
    import torch._dynamo  # noqa: F401  for seconds, by the first optimiser

    bundled("train")


def _as_visitor(visitor: Context | None, steps: Iterator[Event]) -> Iterator[Event]:
    """The same, each asked for as in the visitor's own event: it is their share of the GPU."""
    while True:
        event = visitor.run(next, steps, None) if visitor else next(steps, None)
        if event is None:
            return
        yield event


@lane.gpu(lambda _folder, seconds: PREPARED + seconds)
def chunk(folder: str, seconds: float) -> Iterator[Event]:
    """At least one step, and for `seconds`, of the training in that folder; then it is saved."""
    from ddpm_hub.app.job import Job

    job, began = Job.open(Path(folder)), time.monotonic()
    config = replace(job.config(), max_minutes=None)  # the chain counts them
    with closing(_steps(job, config)) as steps:
        for event in steps:
            yield event._replace(
                ema=None, samples=_here(event.samples), raw_samples=_here(event.raw_samples)
            )
            if time.monotonic() - began >= seconds:
                return


def _here(samples: torch.Tensor | None) -> torch.Tensor | None:
    return None if samples is None else samples.cpu()
