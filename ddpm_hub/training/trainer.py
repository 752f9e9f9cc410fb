"""Trainer: the reference's face of `train`, for programs that were written for it.

In the room: names and habits of denoising-diffusion-pytorch's Trainer, translated. What happens
is loop.py's.
"""

from __future__ import annotations

import inspect
import warnings
from dataclasses import fields
from numbers import Integral
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ddpm_hub import checkpoint, distributed, runtime
from ddpm_hub.config import TrainConfig
from ddpm_hub.errors import ConfigError, check_choice, shown
from ddpm_hub.images import MODES
from ddpm_hub.model import GaussianDiffusion
from ddpm_hub.training.follow import follow
from ddpm_hub.training.loop import Event, Training
from ddpm_hub.training.sinks import open_sinks


class Trainer:
    """Train `diffusion_model` on `folder`, keep its average, samples and checkpoints.

    Args:
        diffusion_model: moved to the GPU, if there is one, and trained in place.
        folder: a folder, or anything else that `train` takes: "bundled", a zip, "hub:user/name",
            uint8 images.
        train_batch_size .. results_folder, max_grad_norm: as in TrainConfig.
        amp: None chooses (bf16 or fp16 where the hardware has it), False is float32, True is
            `mixed_precision_type` on a GPU and the choice elsewhere.
        split_batches: `train_batch_size` is shared by the processes; False: each has so many.
        convert_image_to: "L", "RGB" or "RGBA"; it must be what the model's channels are.
        save_best_and_latest_only: keep one checkpoint beside the best, which here is the one of
            the lowest mean loss, not of the lowest FID.
        calculate_fid: FID is not computed while training: a warning says so.
        more: further fields of TrainConfig (resume="auto", push_to_hub=, seed=, ...).

    Differs from the reference's: files of a results folder are ours (checkpoint.py), fewer than
    100 images are a warning, photos are cropped and not squashed, and any number of trainers may
    live in one process. Raises ConfigError, DataError or CheckpointError.
    """

    def __init__(  # noqa: PLR0913  the reference's arguments
        self,
        diffusion_model: GaussianDiffusion,
        folder: Any,
        *,
        train_batch_size: int = 16,
        gradient_accumulate_every: int = 1,
        augment_horizontal_flip: bool = True,
        train_lr: float = 1e-4,
        train_num_steps: int = 100_000,
        ema_update_every: int = 10,
        ema_decay: float = 0.995,
        adam_betas: tuple[float, float] = (0.9, 0.99),
        save_and_sample_every: int = 1000,
        num_samples: int = 25,
        results_folder: str | Path | None = "./results",
        amp: bool | None = None,
        mixed_precision_type: str = "fp16",
        split_batches: bool = True,
        convert_image_to: str | None = None,
        calculate_fid: bool = False,
        inception_block_idx: int = 2048,
        max_grad_norm: float = 1.0,
        num_fid_samples: int = 50_000,
        save_best_and_latest_only: bool = False,
        log_with: tuple[str, ...] = (),
        **more: Any,
    ):
        arguments = {k: v for k, v in locals().items() if k in FIELDS} | check_more(more)
        self.model = diffusion_model.to(runtime.pick_device())
        self.device = self.model.device
        if not split_batches:
            arguments["train_batch_size"] *= distributed.join(self.device).size
        if save_best_and_latest_only:
            arguments["checkpoints_total_limit"] = 1
        arguments.setdefault(
            "mixed_precision", precision_of(amp, mixed_precision_type, self.device)
        )
        check_conversion(convert_image_to, self.model.channels)
        if calculate_fid:
            warnings.warn(
                "calculate_fid: FID is not computed while training here; the loss tells which "
                "checkpoint is the best",
                stacklevel=2,
            )
        self.results_folder = None if results_folder is None else Path(results_folder)
        arguments["results_folder"] = None if results_folder is None else str(results_folder)
        self.config, self.log_with, self.opened = TrainConfig(**arguments), log_with, False
        self.training = Training(self.model, folder, self.config)
        self.named: dict[str, int] = {}  # what `save` was told, and the step then

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self.training.state.step

    @property
    def ema(self) -> SimpleNamespace:
        """`.ema_model`, the averaged GaussianDiffusion, as the reference has it."""
        return SimpleNamespace(ema_model=self.training.state.ema.module)

    @property
    def opt(self) -> torch.optim.Optimizer:
        """The optimiser."""
        return self.training.state.optimizer

    def train(self, progress: bool = True) -> Event | None:
        """Train to `train_num_steps`, from wherever this trainer is; its last Event.

        Ctrl-C and SIGTERM finish the step, save and raise; call it again to go on.
        """
        if not self.opened:
            self._open(None)
        leads = self.training.team.leads
        name = self.results_folder.resolve().name if self.results_folder else "run"
        sinks = open_sinks(self.log_with, name, self.config) if leads else []
        try:
            return follow(
                self.training.events(),
                self.config.train_num_steps,
                done=self.step,
                progress=progress and leads,
                sinks=sinks,
            )
        finally:
            for sink in sinks:
                sink.close()

    def save(self, milestone: int | str | None = None) -> str | None:
        """Write a checkpoint of this step, and the model beside it; the results folder.

        milestone: a name by which this trainer's `load` finds it again; the file is named after
            the step.
        """
        if not self.opened:
            self._open(None)
        folder = self.training.keeper.save()
        if milestone is not None:
            self.named[str(milestone)] = self.step
        return folder

    def load(self, milestone: int | str | Path) -> None:
        """Go on from a checkpoint.

        milestone: what `save` was told, k for step k * save_and_sample_every, "latest", "best"
            (of the lowest mean loss), or a path.

        Raises ConfigError for a milestone that is not kept, CheckpointError for what cannot be
        read or is of another model.
        """
        kept = {} if self.results_folder is None else checkpoint.all_of(self.results_folder)
        step = self._step_of(milestone, kept)
        if step is not None and step not in kept:
            raise ConfigError(
                f"milestone {milestone} (step {step}) is not in {str(self.results_folder)!r}: "
                f"it has steps {shown(list(kept))}"
            )
        self._open(str(milestone if step is None else kept[step]))

    def _step_of(self, milestone: int | str | Path, kept: dict[int, Path]) -> int | None:
        """The step that a milestone means; None if it is a path."""
        if str(milestone) in self.named:
            return self.named[str(milestone)]
        if isinstance(milestone, Integral):
            return int(milestone) * self.config.save_and_sample_every
        if milestone in ("latest", "best") and kept:
            newest = max(kept)
            best = checkpoint.read_facts(kept[newest])["best_step"]
            return newest if milestone == "latest" or best is None else best
        return None

    def _open(self, resume: str | None) -> None:
        self.training.keeper.open(resume)
        self.opened = True


FIELDS = {field.name for field in fields(TrainConfig)} & set(
    inspect.signature(Trainer.__init__).parameters
)


def check_more(more: dict[str, Any]) -> dict[str, Any]:
    """Arguments beyond the reference's; ConfigError unless they are TrainConfig's."""
    known = {field.name for field in fields(TrainConfig)}
    unknown = sorted(more.keys() - known)
    if unknown:
        raise ConfigError(
            f"Trainer has no argument {shown(unknown)}: beside the reference's it takes "
            f"{', '.join(sorted(known - FIELDS))}"
        )
    return more


def precision_of(amp: bool | None, kind: str, device: torch.device) -> str:
    """TrainConfig.mixed_precision for the reference's `amp` and `mixed_precision_type`."""
    check_choice("mixed_precision_type", kind, ("no", "fp16", "bf16"))
    if amp is None or (amp and device.type != "cuda"):
        return "auto"  # float16 on a CPU is slower than float32
    return kind if amp else "no"


def check_conversion(mode: str | None, channels: int) -> None:
    """Raise ConfigError if images of `mode` are not what a model of so many channels takes."""
    if mode is not None and mode != MODES.get(channels):
        raise ConfigError(
            f"convert_image_to {shown(mode)} does not fit a model of {channels} channels: it "
            f"takes {MODES.get(channels)!r}, leave it out"
        )
