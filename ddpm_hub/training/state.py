"""All that changes while a model is trained: what a checkpoint holds, and what a step works on.

In the room: the weights, their average, the optimiser, the counters, and their way into and out
of a checkpoint. Not in the room: the loop (loop.py) and files (checkpoint.py). There is no
generator here: random numbers follow from the seed and the step (randomness.py).
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ddpm_hub import checkpoint, runtime
from ddpm_hub.card.facts import record
from ddpm_hub.config import TrainConfig
from ddpm_hub.config_file import plain
from ddpm_hub.errors import CheckpointError, shown
from ddpm_hub.model import GaussianDiffusion
from ddpm_hub.training.times import Importance
from ddpm_hub.version import __version__
from ddpm_hub.weights import clean_state

BINS = 10  # of t, in which the loss is told apart
SMOOTHING = 0.98  # of the loss shown, per step
BEST_OF = 100  # steps whose mean loss says which checkpoint is the best
PROCESS = ("timesteps", "objective", "beta_schedule", "schedule_fn_kwargs", "zero_terminal_snr")
COUNTERS = ("step", "images_seen", "skipped", "bad", "seconds", "best_loss", "best_step")


class State:
    """A training between two steps.

    step: optimiser steps done. images_seen: of all processes together. skipped, bad: steps that
    were not finite, in all and in a row just now. seconds: spent in steps.
    """

    def __init__(self, diffusion: GaussianDiffusion, config: TrainConfig):
        self.diffusion, self.config = diffusion, config
        if diffusion.device.type != "cpu":  # where Adam's fused kernel would copy such weights
            runtime.channels_last(diffusion)
        self.ema = AveragedModel(diffusion, multi_avg_fn=ema_with_warmup(config.ema_decay))
        self.optimizer = torch.optim.Adam(
            diffusion.parameters(), lr=config.train_lr, betas=config.adam_betas, fused=True
        )
        half = runtime.precision(diffusion.device, config.mixed_precision) == "fp16"
        self.scaler = torch.amp.GradScaler(diffusion.device.type, enabled=half)
        self.step = self.images_seen = self.skipped = self.bad = 0
        self.seconds, self.best_loss, self.best_step = 0.0, None, None
        self.losses: list[float] = []
        self.smoothed = math.nan
        self.loss_by_t = [math.nan] * BINS
        wanted = config.time_sampling == "importance"
        self.importance = Importance(diffusion.num_timesteps) if wanted else None

    def record(self, loss: float, bins: list[float]) -> None:
        """Take down a step's loss, and its mean in each tenth of t (NaN: no image was there)."""
        self.losses.append(loss)
        keep = min(SMOOTHING, 1 - 1 / len(self.losses))  # the plain mean of the first steps
        self.smoothed = smoothed(self.smoothed, loss, keep)
        self.loss_by_t = [smoothed(a, b, keep) for a, b in zip(self.loss_by_t, bins, strict=True)]

    def judge(self) -> None:
        """Whether this is the best state so far, by the mean of its last losses."""
        last = [loss for loss in self.losses[-BEST_OF:] if math.isfinite(loss)]
        mean = sum(last) / len(last) if last else math.inf
        if last and (self.best_loss is None or mean < self.best_loss):
            self.best_loss, self.best_step = mean, self.step

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is numbers in bulk, copied to the CPU under readable names."""
        found = {f"model.{name}": value for name, value in clean_state(self.diffusion).items()}
        found |= {f"ema.{name}": value for name, value in clean_state(self.ema.module).items()}
        found |= {
            f"optimizer.{name}.{key}": value
            for name, parameter in self._parameters()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        if self.importance:
            found["loss_history"] = self.importance.history
        found = {name: value.to("cpu", copy=True).contiguous() for name, value in found.items()}
        return found | {
            checkpoint.LOSSES: torch.tensor(self.losses, dtype=torch.float64),
            "loss_by_t": torch.tensor([self.smoothed, *self.loss_by_t], dtype=torch.float64),
            "ema_updates": self.ema.n_averaged.cpu(),
        }

    def facts(self) -> dict[str, Any]:
        """Everything else, as JSON: counters, and what a person wants to know of the run."""
        return {
            "ddpm_hub_version": __version__,
            "torch_version": torch.__version__,
            "device": runtime.describe(self.diffusion.device),
            **{name: getattr(self, name) for name in COUNTERS},
            "scaler": self.scaler.state_dict(),
            "config": asdict(self.config),
            "process": self._process(),
        }

    def _process(self) -> dict[str, Any]:
        """What the losses and the weights belong to, beside the network."""
        return {name: plain(self.diffusion.config[name]) for name in PROCESS}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Become the state that `tensors` and `facts` describe; CheckpointError if impossible."""
        told = record(facts.get("process"))  # states of before 2026-11-28 do not say it
        for name, own in self._process().items():
            if told.get(name, own) != own:
                raise CheckpointError(
                    f"the checkpoint was trained with {name} {shown(told[name])}, this process has "
                    f"{shown(own)}: build it as it was, or choose another results_folder"
                )
        checkpoint.take(tensors, "model.", clean_state(self.diffusion))
        checkpoint.take(tensors, "ema.", clean_state(self.ema.module))
        try:
            self._restore_optimizer(tensors)
            for name in COUNTERS:
                setattr(self, name, facts[name])
            if facts["scaler"]:
                self.scaler.load_state_dict(facts["scaler"])
            self.losses = tensors[checkpoint.LOSSES].tolist()
            self.smoothed, *self.loss_by_t = tensors["loss_by_t"].tolist()
            self.ema.n_averaged.copy_(tensors["ema_updates"])
            # a run that began with uniform times has none: its history begins now
            if self.importance and "loss_history" in tensors:
                self.importance.history.copy_(tensors["loss_history"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"the checkpoint is incomplete or of another version ({shown(str(error))}): resume "
                "with the version that wrote it, or from another checkpoint"
            ) from error

    def _restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        moments: dict[int, dict[str, Tensor]] = {}
        for i, (name, parameter) in enumerate(self._parameters()):
            for key in ("step", "exp_avg", "exp_avg_sq"):
                value = tensors.get(f"optimizer.{name}.{key}")
                if value is not None:
                    # in the parameter's own layout: the fused kernel walks both side by side
                    own = torch.empty_like(parameter if value.ndim else value).copy_(value)
                    moments.setdefault(i, {})[key] = own
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [
            (name.replace("_orig_mod.", ""), p) for name, p in self.diffusion.named_parameters()
        ]


def smoothed(before: float, now: float, keep: float) -> float:
    """The running mean, as it stands after `now`; what is not finite is left out."""
    if not math.isfinite(now):
        return before
    return keep * before + (1 - keep) * now if math.isfinite(before) else now


def ema_with_warmup(decay: float) -> Any:
    """An AveragedModel rule: decay min(decay, (1 + n) / (10 + n)) at the n-th update."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - now)

    return torch.no_grad()(update)
