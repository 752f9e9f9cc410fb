"""Training as a generator of events: one for each optimiser step.

Nothing is printed or drawn here: whoever drains the generator does that. Data comes ready from
`data.py`; what the loss is, `diffusion.py` says.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel

from ddpm_hub import runtime
from ddpm_hub.config import TrainConfig
from ddpm_hub.data import batches, load_data
from ddpm_hub.errors import (
    DataError,
    DDPMHubError,
    check_choice,
    check_float,
    check_int,
)
from ddpm_hub.images import grid
from ddpm_hub.model import GaussianDiffusion
from ddpm_hub.samplers import global_rng_state

MAX_BAD_STEPS = 10  # non-finite losses in a row after which training is over
SMOOTHING = 0.95  # of the speed shown, per step


class Event(NamedTuple):
    """One optimiser step. Times in seconds; samples in [0, 1], (num_samples, C, H, W)."""

    step: int  # 1 .. total
    total: int
    loss: float
    grad_norm: float  # before clipping
    lr: float
    images_per_second: float
    eta_seconds: float
    skipped: int  # steps so far whose loss or gradient was not finite
    ema: GaussianDiffusion  # the averaged model, live: copy it to keep it
    samples: Tensor | None = None
    checkpoint: str | None = None  # folder just written, for from_pretrained


def train(
    diffusion: GaussianDiffusion, data: Any, config: TrainConfig | None = None
) -> Iterator[Event]:
    """Algorithm 1 with Adam, EMA and gradient clipping: yields an Event after every step.

    diffusion: trained in place, on the device where it is; its EMA comes with each event.
    data: what `load_data` takes: "bundled", a folder, or uint8 images.
    config: see TrainConfig.

    The caller's random state is left alone: data order, noise and dropout follow `config.seed`.
    However it ends, the averaged model of the last step is in `config.results_folder`.
    Raises ConfigError or DataError before the first step, and DDPMHubError if the loss is not
    finite for 10 steps in a row; the weights are then those of the last good step.
    """
    config = config or TrainConfig()
    check_train_config(config)
    images = check_data(load_data(data, diffusion.image_size, diffusion.channels), diffusion)
    return _train(diffusion, images, config)


def _train(diffusion: GaussianDiffusion, images: Tensor, config: TrainConfig) -> Iterator[Event]:
    runtime.channels_last(diffusion.model)
    diffusion.train()
    ema = AveragedModel(diffusion, multi_avg_fn=ema_with_warmup(config.ema_decay))
    optimizer = torch.optim.Adam(
        diffusion.parameters(), lr=config.train_lr, betas=config.adam_betas, fused=True
    )
    order = torch.Generator().manual_seed(config.seed)
    feed = batches(
        images.to(diffusion.device), config.train_batch_size, order, config.augment_horizontal_flip
    )
    rng = SeededRandom(config.seed, diffusion.device)
    clock, skipped, bad = Clock(config), 0, 0
    event = None
    try:
        for step in range(1, config.train_num_steps + 1):
            lr = learning_rate(config, step)
            for group in optimizer.param_groups:
                group["lr"] = lr
            with rng:
                loss, norm = optimizer_step(diffusion, feed, optimizer, config)
            bad = 0 if math.isfinite(loss + norm) else bad + 1
            skipped += bad > 0
            if bad == MAX_BAD_STEPS:
                raise DDPMHubError(
                    f"the loss was not finite for {bad} steps in a row (step {step}, train_lr "
                    f"{config.train_lr}): the weights are those of the last good step; train on "
                    "from them with a lower train_lr"
                )
            if not bad and step % config.ema_update_every == 0:
                ema.update_parameters(diffusion)
            event = Event(
                step, config.train_num_steps, loss, norm, lr, *clock.tick(step), skipped, ema.module
            )
            if step % config.save_and_sample_every == 0 or step == config.train_num_steps:
                event = event._replace(samples=draw(ema.module, config))
                event = event._replace(checkpoint=save(event, config))
            yield event
    finally:  # Ctrl-C, an early close, a loss that diverged: what was learnt is kept
        if event is not None and event.checkpoint is None:
            save(event, config)


def optimizer_step(
    diffusion: GaussianDiffusion,
    feed: Iterator[Tensor],
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
) -> tuple[float, float]:
    """One step on `gradient_accumulate_every` batches: its loss and its gradient's norm.

    A step that is not finite is dropped: the weights stay as they were.
    """
    total = 0.0
    for _ in range(config.gradient_accumulate_every):
        with runtime.autocast(diffusion.device, config.mixed_precision):
            loss = diffusion(next(feed)) / config.gradient_accumulate_every
        loss.backward()
        total += loss.item()
    norm = clip_grad_norm_(diffusion.parameters(), config.max_grad_norm).item()
    if math.isfinite(total + norm):
        optimizer.step()
    optimizer.zero_grad()
    return total, norm


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up to `train_lr`, then constant, or half a cosine down to 0."""
    warmup = config.lr_warmup_steps
    if step < warmup:
        return config.train_lr * step / warmup
    if config.lr_schedule == "constant":
        return config.train_lr
    done = (step - warmup) / max(config.train_num_steps - warmup, 1)
    return config.train_lr * 0.5 * (1 + math.cos(math.pi * done))


def ema_with_warmup(decay: float) -> Any:
    """An AveragedModel rule: decay min(decay, (1 + n) / (10 + n)) at the n-th update."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - now)

    return torch.no_grad()(update)


def draw(ema: GaussianDiffusion, config: TrainConfig) -> Tensor:
    """Samples of the averaged model, always from the same noise, so that they show progress."""
    steps = min(config.sample_steps, ema.num_timesteps)
    with runtime.autocast(ema.device, config.mixed_precision):
        return ema.sample(
            config.num_samples, sampler="ddim", steps=steps, seed=config.seed, progress=False
        )


def save(event: Event, config: TrainConfig) -> str | None:
    """Write the averaged model, its samples and how it was trained; the folder's name."""
    if config.results_folder is None:
        return None
    folder = Path(config.results_folder)
    event.ema.save_pretrained(folder)
    if event.samples is not None:
        grid(event.samples).save(folder / "samples.png")
    facts = {
        "step": event.step,
        "loss": event.loss,
        "images_per_second": round(event.images_per_second, 1),
        "device": runtime.describe(event.ema.device),
        "config": {k: v for k, v in asdict(config).items() if k != "results_folder"},
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    return str(folder)


class Clock:
    """Images per second, smoothed, and seconds to the end."""

    def __init__(self, config: TrainConfig):
        self.config, self.last, self.seconds = config, time.perf_counter(), 0.0

    def tick(self, step: int) -> tuple[float, float]:
        """(images_per_second, eta_seconds) after optimiser step `step`."""
        now = time.perf_counter()
        took, self.last = now - self.last, now
        keep = min(SMOOTHING, 1 - 1 / step)
        self.seconds = keep * self.seconds + (1 - keep) * took
        images = self.config.train_batch_size * self.config.gradient_accumulate_every
        left = self.config.train_num_steps - step
        return images / self.seconds, self.seconds * left


class SeededRandom:
    """A context in which torch's global generators are a seeded run's own.

    Outside, the caller's random numbers go on as if nothing had happened.
    """

    def __init__(self, seed: int, device: torch.device):
        self.devices = [torch.device("cpu")] + ([device] if device.type != "cpu" else [])
        self.states = [torch.Generator(d).manual_seed(seed).get_state() for d in self.devices]

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    def _swap(self) -> None:
        for i, device in enumerate(self.devices):
            mine, self.states[i] = self.states[i], global_rng_state(device)
            if device.type == "cpu":
                torch.set_rng_state(mine)
            else:
                torch.get_device_module(device).set_rng_state(mine, device)


def check_train_config(config: TrainConfig) -> None:
    """Raise ConfigError for the first field that cannot be."""
    for name in (
        "train_batch_size", "gradient_accumulate_every", "train_num_steps", "ema_update_every",
        "save_and_sample_every", "num_samples", "sample_steps",
    ):  # fmt: skip
        check_int(name, getattr(config, name), 1, 10**9)
    check_int("lr_warmup_steps", config.lr_warmup_steps, 0, 10**9)
    check_int("seed", config.seed, 0, 2**63 - 1)
    check_float("train_lr", config.train_lr, 0, 10)
    check_float("ema_decay", config.ema_decay, 0, 1)
    check_float("max_grad_norm", config.max_grad_norm, 0, 1e9)
    check_choice("lr_schedule", config.lr_schedule, ("constant", "cosine"))
    check_choice("mixed_precision", config.mixed_precision, runtime.PRECISIONS)


def check_data(images: Tensor, diffusion: GaussianDiffusion) -> Tensor:
    """`images`, or a DataError if this model cannot train on them."""
    expected = (diffusion.channels, *diffusion.image_size)
    if tuple(images.shape[1:]) != expected:
        raise DataError(
            f"the data is {tuple(images.shape[1:])}, the model takes {expected}: change "
            "image_size and channels, or the data"
        )
    return images
