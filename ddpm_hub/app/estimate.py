"""What a training will cost, before it starts: parameters, megabytes, seconds, measured here.

In the room: the speeds measured on this machine, by preset and batch size, and the facts that the
form shows. A measurement is a few real steps in the thread that trains, so it never races one.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace

from ddpm_hub.app import jobs, limits, machine, models
from ddpm_hub.config import PRESETS
from ddpm_hub.errors import ConfigError

WARM_UP, MEASURED = 2, 2  # steps: the first ones pay for memory and for choosing kernels
PATIENCE = 120.0

_seconds: dict[tuple[str, int], float] = {}  # per step


def note(preset: str, batch: int, seconds: float) -> None:
    """Remember what a step took."""
    _seconds[preset, batch] = seconds


def facts(preset: str, batch: int, steps: int, minutes: float) -> dict:
    """{cost, parameters, megabytes, per_hundred, seconds, reached}; None where not yet measured.

    per_hundred: seconds for 100 steps; seconds: of the whole run, `reached` the step it ends at.
    """
    known = models.size(preset) | {"cost": PRESETS[preset].cost}
    known |= {"per_hundred": None, "seconds": None, "reached": steps}
    step = _speed(preset, batch)
    if step is None:
        return known
    reached = min(steps, math.floor(minutes * 60 / step))
    return known | {"per_hundred": 100 * step, "seconds": reached * step, "reached": reached}


def _speed(preset: str, batch: int) -> float | None:
    """Seconds per step as measured, or as a running training of this kind tells."""
    running = jobs.desk().current
    if (
        running is not None
        and not running.request.start
        and (rate := running.newest.get("images_per_second"))
    ):
        config = running.config()
        images = config.train_batch_size * config.gradient_accumulate_every
        note(running.request.preset, images, images / rate)
    return _seconds.get((preset, batch))


def measure(preset: str, batch: int) -> None:
    """Take a few steps of this preset, unless it was done before; blocks for seconds.

    Raises ConfigError while the machine trains: then it has no steps to spare. Also where GPUs
    are lent by the minute: a measurement would cost the visitor's own.
    """
    if _speed(preset, batch) is not None:
        return
    if machine.has_workers():
        raise ConfigError("a GPU that is lent is not measured beforehand: start, and see")
    answer: Future = Future()

    def errand() -> None:
        try:
            answer.set_result(_seconds_per_step(preset, batch))
        except Exception as error:
            answer.set_exception(error)

    if not jobs.desk().try_errand(errand):
        raise ConfigError("the machine trains, there is no time to measure: try when it is idle")
    note(preset, batch, answer.result(timeout=PATIENCE))


def _seconds_per_step(preset: str, batch: int) -> float:
    from ddpm_hub.training import train

    config = replace(
        limits.train_row(preset),
        train_batch_size=batch,
        train_num_steps=10**6,
        save_and_sample_every=10**6,
        save_every_minutes=10**6,
        max_minutes=None,
        results_folder=None,
        resume=None,
    )
    with closing(train(models.fresh(preset, 0), "bundled", config)) as events:
        for _ in range(WARM_UP):
            next(events)
        began = time.perf_counter()
        for _ in range(MEASURED):
            next(events)
        return (time.perf_counter() - began) / MEASURED
