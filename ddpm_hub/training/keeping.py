"""What of a training is kept, and when: samples, checkpoints, the model people open, the Hub.

In the room: decisions and the results folder. Not in the room: what a state holds (state.py),
how a checkpoint becomes a file (checkpoint.py) and how files travel to the Hub (hub/publish.py).

    results/config.json, model.safetensors, README.md     the averaged model, for from_pretrained
    results/samples.png, loss.png, training.json          its samples, and how it was trained
    results/checkpoints/step-00001000.safetensors         the whole state, to go on from
"""

from __future__ import annotations

import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ddpm_hub import checkpoint, files, hub, runtime
from ddpm_hub.card import CARD, CURVE, is_generated, of_folder
from ddpm_hub.card.curve import curve_png
from ddpm_hub.card.facts import EVALUATION
from ddpm_hub.config import TrainConfig
from ddpm_hub.distributed import Team
from ddpm_hub.errors import CheckpointError, ConfigError, HubError
from ddpm_hub.images import MODES, encode, grid
from ddpm_hub.model import GaussianDiffusion
from ddpm_hub.training.state import State

CURVE_POINTS = 500  # of the loss in training.json: each the mean of its stretch


class Keeper:
    """Opens a results folder, saves to it, and leaves it in order."""

    def __init__(self, state: State, config: TrainConfig, team: Team, data: dict[str, Any]):
        self.state, self.config, self.team, self.data = state, config, team, data
        self.folder = None if config.results_folder is None else Path(config.results_folder)
        self.saved_step, self.saved_at = 0, time.monotonic()
        self.pushed_at = time.monotonic()
        self.failed = False

    def open(self, resume: str | None = None) -> None:
        """Continue from what `resume` (or `config.resume`) names, or make way for a new run."""
        if self.team.leads and self.folder is not None:
            checkpoint.clean(self.folder)
        path = self._resume_from(resume or self.config.resume)
        if path is not None:
            self.state.restore(*checkpoint.read(path))
            self.saved_step = self.state.step
        elif self.team.leads and self.folder is not None and checkpoint.newest(self.folder):
            old = checkpoint.set_aside(self.folder)
            warnings.warn(
                f"{str(self.folder)!r} held an earlier run: its checkpoints are now in "
                f'{str(old)!r}; resume="auto" would have gone on from them',
                stacklevel=4,
            )
        self._check_that_all_agree()

    def _resume_from(self, resume: str | None) -> Path | None:
        if resume is None:
            return None
        if resume == "auto" and self.config.push_to_hub is not None:
            if self.team.leads and checkpoint.newest(self.folder) is None:
                hub.fetch_checkpoint(self.config.push_to_hub, self.folder)
            self.team.sum(torch.zeros(1, device=self.state.diffusion.device))  # all wait for it
        return checkpoint.find(resume, self.folder)

    def _check_that_all_agree(self) -> None:
        step = torch.tensor(float(self.state.step), device=self.state.diffusion.device)
        if self.team.sum(step.clone()).item() != self.team.size * self.state.step:
            raise CheckpointError(
                "the processes found different checkpoints: results_folder must be one folder "
                "that all of them see"
            )

    def due(self) -> bool:
        """Whether it is time for a checkpoint: by the step, or by the clock of who leads."""
        if self.state.step % self.config.save_and_sample_every == 0:
            return True
        late = time.monotonic() - self.saved_at >= 60 * self.config.save_every_minutes
        return late and self.folder is not None and self.team.leads

    def sample(self) -> dict[str, Tensor]:
        """{"samples": ...} of the averaged weights, and of the raw ones if they are asked for."""
        found = {"samples": draw(self.state.ema.module, self.config, self.team)}
        if self.config.sample_raw:
            found["raw_samples"] = draw(self.state.diffusion, self.config, self.team)
        return found

    def save(self, samples: Tensor | None = None, *, final: bool = False) -> str | None:
        """Write the state, the averaged model and its report, and push; the folder's name."""
        if self.folder is None or not self.team.leads:
            return None
        self.state.judge()
        try:
            checkpoint.write(self.folder, self.state.tensors(), self.state.facts())
            limit, best = self.config.checkpoints_total_limit, self.state.best_step
            checkpoint.prune(self.folder, limit, best)
            self._write_model(samples)
        except CheckpointError:
            self.failed = True  # closing must not try again
            raise
        self.saved_step, self.saved_at = self.state.step, time.monotonic()
        self._push(final)
        return str(self.folder)

    def close(self) -> None:
        """Save the last whole step, if it is not saved yet."""
        if self.state.step > self.saved_step and not self.failed:
            self.save(final=True)

    def _write_model(self, samples: Tensor | None) -> None:
        report = self._report()
        text = json.dumps(report, indent=2, allow_nan=False) + "\n"
        plot = curve_png(report)
        try:
            self._set_figures_aside()
            self._write_average()
            if samples is not None and samples.shape[1] in MODES:  # else nobody can look at them
                png = encode(grid(samples), "png")
                files.write_durably(self.folder / "samples.png", lambda path: path.write_bytes(png))
            if plot is not None:
                files.write_durably(self.folder / CURVE, lambda path: path.write_bytes(plot))
            files.write_text(self.folder / "training.json", text)
            self._write_card()
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"the model could not be written to {str(self.folder)!r} "
                f"({files.reason(error)}); the checkpoint of step {self.state.step} is there: "
                "make room, then resume"
            ) from error

    def _set_figures_aside(self) -> None:
        """What `ddpm-hub eval` measured was of the weights before: no card may go on showing it."""
        path = self.folder / EVALUATION
        if self.state.step > self.saved_step and path.exists():
            path.replace(path.with_suffix(".old.json"))

    def _write_average(self) -> None:
        ema = self.state.ema.module
        try:
            ema.to_config()
        except ConfigError:
            return  # a network of somebody's own: its weights are in the checkpoint
        ema.save_pretrained(self.folder)

    def _write_card(self) -> None:
        """What all these files say together; a card that somebody has edited stays as it is."""
        path = self.folder / CARD
        if path.exists() and is_generated(path.read_text(encoding="utf-8", errors="replace")):
            files.write_text(path, of_folder(self.folder, self.config.push_to_hub))

    def _report(self) -> dict[str, Any]:
        state = self.state
        facts = state.facts()
        facts["config"] = {
            k: v for k, v in facts["config"].items() if k not in ("results_folder", "resume")
        }
        last = state.losses[-1] if state.losses else math.nan
        by_t = [None if math.isnan(loss) else loss for loss in state.loss_by_t]
        rate = state.images_seen / state.seconds if state.seconds else 0.0
        return facts | {
            "data": self.data,
            "loss": last if math.isfinite(last) else None,
            "images_per_second": round(rate, 1),
            "loss_by_t": by_t,
            "curve": curve(state.losses),
        }

    def _push(self, final: bool) -> None:
        """To the Hub, if it is time; a network that is down must not end a training."""
        late = time.monotonic() - self.pushed_at >= 60 * self.config.push_every_minutes
        if self.config.push_to_hub is None or not (late or final):
            return
        try:
            hub.push_run(self.folder, self.config.push_to_hub, self.state.step)
        except HubError as error:
            warnings.warn(
                f"step {self.state.step} was not pushed: {error}; it is saved in "
                f"{str(self.folder)!r}, and the next push is tried as usual",
                stacklevel=2,
            )
        self.pushed_at = time.monotonic()


def draw(diffusion: GaussianDiffusion, config: TrainConfig, team: Team) -> Tensor:
    """Samples, always from the same noise, so that they show progress; each process a share."""
    device, count = diffusion.device, config.num_samples
    rng = torch.Generator(device).manual_seed(config.seed)
    shape = (count, diffusion.channels, *diffusion.image_size)
    noise = torch.randn(shape, generator=rng, device=device)
    share = -(-count // team.size)
    rows = torch.arange(team.rank, share * team.size, team.size, device=device) % count
    number = getattr(diffusion.model, "num_classes", None)
    with runtime.autocast(device, config.mixed_precision):
        samples = diffusion.sample(
            noise=noise[rows],
            sampler="ddim",
            steps=min(config.sample_steps, diffusion.num_timesteps),
            eta=0.0,  # no noise on the way: what a process draws does not depend on the others
            seed=config.seed,
            classes=rows % number if number else None,
            progress=False,
        )
    return team.gather(samples)[:count]


def curve(losses: list[float]) -> dict[str, list[float]]:
    """{"step", "loss"}: the losses as at most 500 means over equal stretches, finite ones only."""
    stride = max(1, -(-len(losses) // CURVE_POINTS))
    steps, means = [], []
    for start in range(0, len(losses), stride):
        part = [loss for loss in losses[start : start + stride] if math.isfinite(loss)]
        if part:
            steps.append(min(start + stride, len(losses)))
            means.append(sum(part) / len(part))
    return {"step": steps, "loss": means}
