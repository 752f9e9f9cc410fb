"""One training of the demo: its folder, its curve and pictures, and the loop that drains `train`.

In the room: what is kept in `<runs>/<id>/` beside the engine's own files (job.json, data.npy,
frames/), and the states a training goes through. Not in the room: who may run when (jobs.py), what
is said of a job (reports.py), in which process its steps are made (chunks.py), how a step is made
and saved (`ddpm_hub.training`), components.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import closing, suppress
from contextvars import Context
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddpm_hub import checkpoint, files, images
from ddpm_hub.app import limits, machine, starts
from ddpm_hub.app.lane import NoGPU
from ddpm_hub.config import TrainConfig
from ddpm_hub.errors import ConfigError, DDPMHubError

RECORD = "job.json"  # what makes a folder ours
ACTIVE = ("queued", "preparing", "running")
RESUMABLE = ("paused", "stopped", "interrupted", "error")
FRAMES = 20  # sample grids of a run, about
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """The sample grids after `step`, as PNG bytes: the averaged weights', and the raw ones'."""

    step: int
    averaged: bytes
    raw: bytes | None = None


class Job:
    """A training that a visitor asked for. `folder` holds all of it: the object can be made again.

    state: queued, preparing, running, then paused, stopped, done or error; interrupted, if the app
    ended under it. Only the thread that trains writes the curve and the frames; handlers write
    `wish`, which that thread reads after every step.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder, self.id = folder, folder.name
        self.name: str = record["name"]
        self.created: float = record["created"]
        self.changed: float = record.get("changed", self.created)
        self.state: str = record["state"]
        self.message: str = record.get("message", "")
        self.request = limits.train_request(**record["request"])
        self.wish: str | None = None
        self.owner = ""  # who asked last, for the limit of each visitor
        self.visitor: Context | None = None  # whose share of a lent GPU it takes
        self.copy: Any = None  # copies.Copy: where its visitor wants it kept as well
        self.losses: list[float] = []
        self.frames: list[Frame] = []
        self.newest: dict[str, Any] = {}  # the figures of the newest event
        self._writing = threading.Lock()
        self._copies: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._read = False

    # ---- on disk ----
    @classmethod
    def create(
        cls, folder: Path, request: limits.TrainRequest, name: str, start: Any = None
    ) -> Job:
        """A new job, on the disk before anybody hears of it."""
        folder.mkdir(parents=True)
        if start is not None:
            starts.save(start, folder)
        record = {"name": name, "created": time.time(), "state": "queued"}
        job = cls(folder, record | {"request": request._asdict()})
        job._read = True  # there is nothing to read yet
        job.become("queued")
        return job

    @classmethod
    def open(cls, folder: Path) -> Job:
        """The job of a folder, as an earlier app left it. OSError, ValueError... if it is none."""
        job = cls(folder, json.loads((folder / RECORD).read_text(encoding="utf-8")))
        if job.state in ACTIVE:
            job.state, job.message = "interrupted", ""
        return job

    def become(self, state: str, message: str = "") -> None:
        """Change the state, here and on the disk; `message` is a sentence beside it."""
        with self._writing:  # who reads a new state may change it again before it is written
            self.state, self.message, self.changed = state, message, time.time()
            record = {
                "name": self.name,
                "created": self.created,
                "changed": self.changed,
                "state": state,
                "message": message,
                "request": self.request._asdict(),
            }
            files.write_text(self.folder / RECORD, json.dumps(record, indent=2) + "\n")

    def look(self) -> Job:
        """Read the curve and the frames from the disk, unless they are known."""
        if not self._read:
            self._read = True
            with suppress(DDPMHubError, OSError):
                self._restore()
        return self

    def _restore(self) -> None:
        """Go back to the newest checkpoint: what came after it will come again, bit for bit."""
        self.losses = checkpoint.read_curve(self.folder)
        found = sorted(self._frames_folder.glob("????????.png"))
        self.frames = [_read_frame(path) for path in found if int(path.stem) <= len(self.losses)]

    @property
    def _frames_folder(self) -> Path:
        return self.folder / "frames"

    # ---- what it is ----
    @property
    def step(self) -> int:
        """Optimiser steps so far."""
        return len(self.losses)

    @property
    def resumable(self) -> bool:
        """Whether there is something left to do, and nobody is doing it."""
        return self.state in RESUMABLE and self.look().step < self.request.steps

    def sentence(self) -> str:
        """How it stands, beyond the figures."""
        if self.state == "preparing":
            return "Building the network and reading the pictures."
        if self.state == "interrupted":
            step = self.look().step
            return f"The app ended while this was training: Resume goes on from step {step:,}."
        return self.message

    def config(self) -> TrainConfig:
        """What the engine is asked for."""
        steps, row = self.request.steps, limits.train_row(self.request.preset)
        return replace(
            row,
            **self.request.options,
            train_num_steps=steps,
            seed=self.request.seed,
            max_minutes=self.request.minutes,
            save_and_sample_every=min(row.save_and_sample_every, math.ceil(steps / FRAMES)),
            results_folder=str(self.folder),
            resume="auto",
        )

    def seconds_left(self) -> float:
        """Until the machine is free: the estimate, or the limit where that comes first."""
        return min(self.newest.get("eta_seconds", math.inf), self.request.minutes * 60)

    # ---- training, in the desk's thread ----
    def work(self) -> None:
        """Train until the end, a wish, or a fault; all of it is saved when this returns."""
        try:
            self.become("preparing")
            self._train()
        except NoGPU as error:
            text = f"Paused at step {self.step:,}, all is saved: {error}."
            self.become("paused", text)
        except DDPMHubError as error:
            self.become("error", f"{error}.")
        except Exception:
            LOG.exception("training %s failed", self.id)
            self.become("error", "The training failed: what it had saved is kept, see the log.")
        finally:
            self._answer(None)
            self.visitor = None
            if self.copy:
                self.copy.finish(self)
            _free_memory()

    def _train(self) -> None:
        from ddpm_hub.app import chunks

        self._read = True
        self._restore()
        began = time.monotonic()
        if self.wish:
            return self._end(0)
        with closing(chunks.events(self)) as events:
            for event in events:
                self._take(event)
                if self.wish:
                    break
        self._end((time.monotonic() - began) / 60)

    def _take(self, event: Any) -> None:
        if self.state != "running":
            self.become("running")
        self.losses[event.step - 1 :] = [event.loss]
        self.newest = {
            "grad_norm": number(event.grad_norm),
            "lr": event.lr,
            "images_per_second": number(event.images_per_second),
            "eta_seconds": number(event.eta_seconds) or 0.0,
            "skipped": event.skipped,
            "loss_by_t": [number(loss) for loss in event.loss_by_t],
        }
        if event.samples is not None:
            self._keep(event)
        if event.checkpoint and self.copy:
            self.copy.offer(self)
        self._answer(event.ema)

    def _keep(self, event: Any) -> None:
        raw = None if event.raw_samples is None else _png(event.raw_samples)
        frame = Frame(event.step, _png(event.samples), raw)
        folder = self._frames_folder
        folder.mkdir(exist_ok=True)
        if raw is not None:
            files.write_durably(folder / f"{frame.step:08d}-raw.png", _writer(raw))
        files.write_durably(folder / f"{frame.step:08d}.png", _writer(frame.averaged))
        self.frames = [f for f in self.frames if f.step < frame.step] + [frame]

    def _end(self, minutes: float) -> None:
        steps = self.request.steps
        if self.step >= steps:
            return self.become("done", f"Finished: {steps:,} steps.")
        if self.wish == "paused":
            text = f"Paused at step {self.step:,}: all is saved, and the machine is free."
            return self.become("paused", text)
        if self.wish == "interrupted":
            return self.become("interrupted")
        why = "" if self.wish else f" after {minutes:.0f} min, as asked for,"
        text = f"Stopped{why} at step {self.step:,} of {steps:,}: the model is kept."
        return self.become("stopped", text)

    # ---- the model ----
    def model(self, patience: float = 60.0) -> Any:
        """The averaged model: a copy from the next step's end, or what was saved last."""
        answer: Future = Future()
        deadline = time.monotonic() + patience
        self._copies.put(answer)
        while self.state == "running" and not answer.done():
            wait([answer], timeout=0.5)  # in slices: the last step may have been before we asked
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"a step of this training takes more than {patience:.0f} s: try again later"
                )
        live = answer.result() if answer.done() else None
        return live or self._saved_model()

    def _saved_model(self) -> Any:
        from ddpm_hub import GaussianDiffusion

        if not (self.folder / "model.safetensors").exists():
            raise ConfigError(
                f"training {self.id[:4]} has saved no model yet: wait for its first step"
            )
        return GaussianDiffusion.from_pretrained(self.folder).to(machine.device()).eval()

    def _answer(self, ema: Any) -> None:
        """Give everybody who asked a copy of the averaged model; None: look at the folder."""
        while not self._copies.empty():
            asked = self._copies.get()
            asked.set_result(
                None if ema is None else copy.deepcopy(ema).requires_grad_(False).eval()
            )


def _read_frame(path: Path) -> Frame:
    raw = path.with_name(f"{path.stem}-raw.png")
    return Frame(int(path.stem), path.read_bytes(), raw.read_bytes() if raw.exists() else None)


def _writer(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


def _png(samples: Any) -> bytes:
    return images.encode(images.grid(samples), "png")


def number(value: float) -> float | None:
    """JSON has no NaN: what is not finite is nothing."""
    return value if math.isfinite(value) else None


def _free_memory() -> None:
    if machine.device().type == "cuda":
        import torch

        torch.cuda.empty_cache()
