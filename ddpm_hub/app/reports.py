"""What is said of a training: its status, and the messages for the chart and the timeline.

In the room: JSON from a Job, complete or only what a browser lacks. Not in the room: the job
itself (job.py), who waits for whom (jobs.py), drawing (widgets/).
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from ddpm_hub import checkpoint, images
from ddpm_hub.app import models
from ddpm_hub.app.job import Frame, Job, number

FRAMES_AT_ONCE = 8  # in one message: the page asks again within a second
AS_A_RUN = {  # how the timeline calls the states of a training
    "queued": "waiting",
    "preparing": "starting",
    "paused": "stopped",
    "interrupted": "stopped",
}


def status(job: Job, message: str) -> dict[str, Any]:
    """All of it, as /train_status answers: every loss, the newest grid, the newest checkpoint."""
    losses = list(job.look().losses)
    newest = checkpoint.newest(job.folder)
    left = job.newest.get("eta_seconds") if job.state == "running" else None
    return {
        "state": job.state,
        "step": len(losses),
        "total": job.request.steps,
        "loss": losses,
        "eta_seconds": 0.0 if job.state == "done" else left,
        "samples": _uri(job.frames[-1].averaged) if job.frames else None,
        "checkpoint": newest.name if newest else None,
        "message": message,
    }


def curve(job: Job, have: int, message: str) -> dict[str, Any]:
    """What the chart lacks if it has the first `have` losses (see widgets/curve.py)."""
    losses = job.look().losses
    count = len(losses)
    start = min(max(have, 0), count)
    return {
        "run": job.id,
        "state": job.state,
        "message": message,
        "name": f"{job.request.preset} on {job.name}, seed {job.request.seed}",
        "total": job.request.steps,
        "count": count,
        "from": start,
        "losses": [number(loss) for loss in losses[start:count]],
        "figures": job.newest | {"device": models.describe_device()},
    }


def film(job: Job, have: int) -> dict[str, Any]:
    """Sample grids the timeline lacks if it has the first `have` (see widgets/timeline.py)."""
    frames, config = job.look().frames, job.config()
    start = min(max(have, 0), len(frames))
    expected = math.ceil(job.request.steps / config.save_and_sample_every)
    return {
        "run": job.id,
        "state": AS_A_RUN.get(job.state, job.state),
        "meta": {
            "total": max(expected, len(frames)),
            "batch": config.num_samples,
            "columns": images.grid_columns(config.num_samples),
        },
        "frames": [_seen(frames, i) for i in range(start, len(frames))[:FRAMES_AT_ONCE]],
    }


def _seen(frames: list[Frame], index: int) -> dict[str, Any]:
    frame = frames[index]
    change = _difference(frames[index - 1], frame) if index else 0.0
    seen = {"index": index, "t": frame.step, "change": change, "x0": _uri(frame.averaged)}
    return seen | ({"x": _uri(frame.raw)} if frame.raw else {})


def _difference(before: Frame, after: Frame) -> float:
    """Mean absolute difference of two grids, 0 to 1."""
    first, second = (np.asarray(images.open_image(f.averaged), float) for f in (before, after))
    return float(np.abs(first - second).mean() / 255) if first.shape == second.shape else 1.0


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
