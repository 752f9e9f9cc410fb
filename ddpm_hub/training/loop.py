"""Training as a generator of events: one for each optimiser step.

Nothing is printed or drawn here: whoever drains the generator does that. Images come from
`data/`, the loss from `loss.py`; what a step changes is `state.py`'s, what is written and
when is `keeping.py`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ddpm_hub import distributed, runtime
from ddpm_hub.config import TrainConfig
from ddpm_hub.data import ImageSet, ImageStream, load_data
from ddpm_hub.data.feed import Feed, StreamFeed, feed_for
from ddpm_hub.data.sets import HUB
from ddpm_hub.errors import DDPMHubError
from ddpm_hub.model import GaussianDiffusion
from ddpm_hub.randomness import SeededGlobals, generator
from ddpm_hub.training.checks import check_data, check_labels, check_team, checked
from ddpm_hub.training.clock import Clock
from ddpm_hub.training.interrupts import undivided
from ddpm_hub.training.keeping import Keeper
from ddpm_hub.training.state import BINS, State

MAX_BAD_STEPS = 10  # non-finite losses in a row after which training is over


class Event(NamedTuple):
    """One optimiser step. Times in seconds; samples in [0, 1], (num_samples, C, H, W)."""

    step: int  # 1 .. total
    total: int
    loss: float
    grad_norm: float  # before clipping
    lr: float
    images_per_second: float
    eta_seconds: float
    samples: Tensor | None = None  # of the averaged weights, always from the same noise
    checkpoint: str | None = None  # the results folder, just saved: for from_pretrained, or resume
    raw_samples: Tensor | None = None  # of the weights as they are, with config.sample_raw
    skipped: int = 0  # steps so far whose loss or gradient was not finite
    smoothed_loss: float = math.nan
    loss_by_t: tuple[float, ...] = ()  # smoothed, in ten equal bins of t; NaN: none seen yet
    ema: GaussianDiffusion | None = None  # the averaged model, live: copy it to keep it


def train(
    diffusion: GaussianDiffusion,
    data: str | Path | np.ndarray | Tensor | ImageSet | ImageStream,
    config: TrainConfig | None = None,
) -> Iterator[Event]:
    """Algorithm 1 with Adam, EMA and gradient clipping: yields an Event after every step.

    diffusion: trained in place, on the device where it is; its EMA comes with each event.
    data: what `load_data` takes: "bundled", a folder, a zip, "hub:user/name", uint8 images.
    config: see TrainConfig.

    Order, noise and dropout follow from `config.seed` and the step: on the CPU a run that was
    resumed repeats the uninterrupted one bit for bit, and so do several processes (`torchrun`)
    with a share of the batch each, up to rounding. The caller's random state is left alone.
    However it ends, the state of the last whole step is in `config.results_folder`, if there is
    one: closing the generator saves it.

    Raises ConfigError, DataError, CheckpointError or HubError (`push_to_hub` is no repo id, or the
    Hub cannot be asked) before the first step; then CheckpointError if a state cannot be saved,
    and DDPMHubError if the loss is not finite for 10 steps in a row: the weights are those of the
    last good step.
    """
    training = Training(diffusion, data, config or TrainConfig())
    training.keeper.open()
    return training.events()


class Training:
    """One run: a state, the images it learns from, and the keeper of its results."""

    def __init__(self, diffusion: GaussianDiffusion, data: Any, config: TrainConfig):
        config = checked(config)
        self.config, self.team = config, distributed.join(diffusion.device)
        check_team(config, self.team)
        images = load_data(data, diffusion.image_size, diffusion.channels, progress=self.team.leads)
        check_data(images, diffusion)
        self.images, self.classes = images, check_labels(images, diffusion.model)
        self.state = State(diffusion, config)
        self.keeper = Keeper(self.state, config, self.team, self._about(data))
        self.feed: Feed | StreamFeed = feed_for(
            images,
            config.seed,
            config.augment_horizontal_flip,
            diffusion.device,
            self.team,
        )

    def _about(self, data: Any) -> dict[str, Any]:
        """What the report says of the images: a name without a path, and how many if known."""
        count = len(self.images) if isinstance(self.images, ImageSet) else None
        of_hub = isinstance(data, str) and data.startswith(HUB)
        return {"name": data if of_hub else getattr(self.images, "name", None), "images": count}

    def images_in_words(self) -> str:
        """What is trained on, for a person."""
        name = getattr(self.images, "name", "stream")
        count = f"{len(self.images):,} images" if isinstance(self.images, ImageSet) else "a stream"
        return f"{name}, {count}"

    def events(self) -> Iterator[Event]:
        """Steps until the last one, or until time is up; saves on the way and at the end."""
        state, config = self.state, self.config
        net, clock = self._prepared(), Clock(config)
        try:
            while state.step < config.train_num_steps and not clock.over:
                clock.start()
                event = self._step(net, clock)
                last = state.step == config.train_num_steps or clock.over
                if last or state.step % config.save_and_sample_every == 0:
                    event = event._replace(**self.keeper.sample())
                if last or self.keeper.due():
                    event = event._replace(checkpoint=self.keeper.save(event.samples, final=last))
                clock.stop()
                yield event
        finally:  # Ctrl-C, an early close, a loss that diverged: what was learnt is kept
            self.keeper.close()

    def _prepared(self) -> nn.Module:
        diffusion = self.state.diffusion.train()
        if self.config.compile:
            runtime.compile(diffusion.model)
        return self.team.wrap(diffusion)

    def _step(self, net: nn.Module, clock: Clock) -> Event:
        state, config = self.state, self.config
        lr = learning_rate(config, state.step + 1)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        names = ("inside", config.seed, state.step)
        with SeededGlobals(state.diffusion.device, *names, rank=self.team.rank):
            result = self._gradients(net, clock.expired())
        with undivided():
            norm = self._update(result)
            took = clock.tick()
            state.seconds += took
        if state.bad == MAX_BAD_STEPS:
            state.bad = 0  # who resumes with another learning rate starts to count anew
            raise DDPMHubError(
                f"the loss was not finite for {MAX_BAD_STEPS} steps in a row (step {state.step}, "
                f"train_lr {config.train_lr}): the weights are those of the last good step; train "
                "on from them with a lower train_lr"
            )
        clock.over |= result.expired
        return Event(
            state.step, config.train_num_steps, result.loss, norm, lr, *clock.rates(state.step),
            skipped=state.skipped, smoothed_loss=state.smoothed,
            loss_by_t=tuple(state.loss_by_t), ema=state.ema.module,
        )  # fmt: skip

    def _gradients(self, net: nn.Module, expired: bool) -> Result:
        """Backward of `gradient_accumulate_every` batches, each process on its share of them."""
        state, config, team = self.state, self.config, self.team
        device, batch = state.diffusion.device, config.train_batch_size
        rng = generator(device, "noise", config.seed, state.step)
        state.optimizer.zero_grad()  # also of a step that was interrupted half-way
        tally = torch.zeros(2 * BINS + 2, device=device)
        chances = state.importance.probabilities() if state.importance else None
        seen: list[Tensor] = []
        for call in range(config.gradient_accumulate_every):
            images, labels = self.feed.take(state.images_seen + call * batch, batch)
            times, noise = self._draw(rng, images, chances)
            extra = {"classes": labels} if self.classes else {}
            last = call == config.gradient_accumulate_every - 1
            with nullcontext() if last else distributed.unsynced(net):
                with runtime.autocast(device, config.mixed_precision):
                    losses = net(images, times=times, noise=noise, loss_reduction="none", **extra)
                found = losses.detach()
                if chances is not None:  # the mean is as it was: rarer times count for more
                    weights = 1 / (len(chances) * chances)
                    losses = losses * weights.to(losses)[times]
                    seen.append(torch.stack((times.to(found.dtype), found), dim=1))
                loss = losses.mean() / config.gradient_accumulate_every
                state.scaler.scale(loss).backward()
            tally[0] += loss.detach()
            tally[2:] += by_time(found, times, state.diffusion.num_timesteps)
        tally[1] = float(expired)
        total, late, *bins = team.sum(tally).tolist()
        means = [s / n if n else math.nan for s, n in zip(bins[:BINS], bins[BINS:], strict=True)]
        pairs = team.gather(torch.cat(seen)).cpu() if seen else None
        return Result(total / team.size, means, late > 0, pairs)

    def _draw(
        self, rng: torch.Generator, images: Tensor, chances: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """t and eps of the whole batch, and of them this process's share: (B,), (B, C, H, W)."""
        team, count = self.team, self.config.train_batch_size
        shape = (count, *images.shape[1:])
        T = self.state.diffusion.num_timesteps
        if chances is None:
            times = torch.randint(0, T, (count,), generator=rng, device=images.device)
        else:
            chances = chances.to(images.device, torch.float32)
            times = chances.multinomial(count, replacement=True, generator=rng)
        noise = torch.randn(shape, generator=rng, device=images.device)
        share = slice(team.rank * len(images), (team.rank + 1) * len(images))
        return times[share], noise[share]

    def _update(self, result: Result) -> float:
        """The optimiser's step, the average's and the counters'; the gradient's norm.

        A step that is not finite is dropped: the weights stay as they were.
        """
        state, config = self.state, self.config
        state.scaler.unscale_(state.optimizer)
        norm = clip_grad_norm_(state.diffusion.parameters(), config.max_grad_norm).item()
        good = math.isfinite(result.loss + norm)
        # float16 finds the scale it can bear by overflowing: that is no sign of divergence
        searching = math.isfinite(result.loss) and state.scaler.get_scale() > 1
        if good or state.scaler.is_enabled():
            state.scaler.step(state.optimizer)
        state.scaler.update()
        state.step += 1
        state.images_seen += config.train_batch_size * config.gradient_accumulate_every
        state.bad = 0 if good or searching else state.bad + 1
        state.skipped += not good
        state.record(result.loss, result.bins)
        if state.importance:
            state.importance.record(result.seen[:, 0].long(), result.seen[:, 1])
        if good and state.step % config.ema_update_every == 0:
            state.ema.update_parameters(state.diffusion)
        return norm


@dataclass(frozen=True)
class Result:
    """What one step's batches gave, over all processes.

    Loss, loss by t, whether to stop, and with importance sampling each (t, loss), (N, 2).
    """

    loss: float
    bins: list[float]
    expired: bool
    seen: Tensor | None = None


def by_time(losses: Tensor, times: Tensor, timesteps: int) -> Tensor:
    """Sums of the losses (B,) in ten bins of t, then how many fell into each: (20,)."""
    bins = F.one_hot(times * BINS // timesteps, BINS).to(losses.dtype)
    return torch.cat((losses.nan_to_num() @ bins, bins.sum(0)))


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up to `train_lr`, then constant, or half a cosine down to 0."""
    warmup = config.lr_warmup_steps
    if step < warmup:
        return config.train_lr * step / warmup
    if config.lr_schedule == "constant":
        return config.train_lr
    done = (step - warmup) / max(config.train_num_steps - warmup, 1)
    return config.train_lr * 0.5 * (1 + math.cos(math.pi * done))
