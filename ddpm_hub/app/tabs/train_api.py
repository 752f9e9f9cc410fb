"""The endpoints of the Train tab: /train_start, /train_status and /train_stop.

In the room: their names, arguments and answers. The trainings are app/jobs.py's. A training's id is
its key: whoever has it may watch and end it. No torch.
"""

from __future__ import annotations

from ddpm_hub.app import jobs, limits, reports
from ddpm_hub.app.tabs.common import sentences
from ddpm_hub.app.tabs.endpoint import endpoint
from ddpm_hub.app.visitors import here

# In the queue, since only there a refusal reaches the caller as a sentence; never behind a picture.
LANE = {"concurrency_id": "trainings", "concurrency_limit": 16}


def register() -> None:
    """Add the three endpoints to the surrounding gr.Blocks."""
    endpoint(start, "train_start", **LANE)
    endpoint(status, "train_status", **LANE)
    endpoint(stop, "train_stop", **LANE)


def start(data: str = "bundled", preset: str = "tiny", steps: int = 1000, seed: int = 0) -> dict:
    """Start a training in the background; it ends by itself after 30 minutes at the latest.

    Args:
        data: "bundled", the only set that needs no upload.
        preset: "tiny" or "fashion".
        steps: optimiser steps, 1 to 20000.
        seed: the same seed gives the same losses, on the same machine.

    Returns:
        {job}: the key to the training, for /train_status, /train_stop and as model "job:KEY".
    """
    with sentences():
        request = limits.train_request(data, preset, steps, seed)
        return {"job": jobs.desk().start(request, owner=here()).id}


def status(job: str) -> dict:
    """How a training stands.

    Args:
        job: what /train_start gave.

    Returns:
        {state, step, total, loss, eta_seconds, samples, checkpoint, message}; loss: of all steps
        so far; samples: the newest grid as a data URI; checkpoint: the newest file's name.
    """
    with sentences():
        found = jobs.desk().get(job)
        return reports.status(found, jobs.desk().sentence(found))


def stop(job: str) -> dict:
    """End a training after the step under way, and keep its model.

    Args:
        job: what /train_start gave.

    Returns:
        {state}: how it stands now; "running" until the step under way is done.
    """
    with sentences():
        return {"state": jobs.desk().end(job, "stopped").state}
