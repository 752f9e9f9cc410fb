"""What a training begins with: new weights of a preset, or a model that is loaded.

A model to begin with is kept in the training's folder, so that the training can be resumed when
nobody has that model any more. Not in the room: the training (job.py), models in memory
(models.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_hub.app import limits, models
from ddpm_hub.errors import ConfigError

if TYPE_CHECKING:
    from ddpm_hub import GaussianDiffusion

FOLDER = "start"  # in the training's folder
MAX_PARAMETERS = 40_000_000  # a training holds them five times: gradients, Adam's two, the average
MAX_PIXELS = 128 * 32 * 32  # of a batch: 128 images of 32 x 32, 32 of 64 x 64


def shape_of(preset: str, start: GaussianDiffusion | None) -> tuple[int, int, int]:
    """(C, H, W) of the images that such a training takes."""
    return limits.shape_of(preset) if start is None else (start.channels, *start.image_size)


def check(start: GaussianDiffusion, request: limits.TrainRequest) -> None:
    """Raise ConfigError for a model that this machine cannot train beside its visitors."""
    count = sum(parameter.numel() for parameter in start.parameters())
    if count > MAX_PARAMETERS:
        raise ConfigError(
            f"this model has {count:,} parameters, and a training here takes up to "
            f"{MAX_PARAMETERS:,}: train it with the library, on a machine of your own"
        )
    row = limits.train_row(request.preset)
    batch = request.options.get("train_batch_size", row.train_batch_size)
    height, width = start.image_size
    if batch * height * width > MAX_PIXELS:
        raise ConfigError(
            f"a batch of {batch} images of {width} x {height} pixels is too large for here: set "
            f"train_batch_size to {max(1, MAX_PIXELS // (height * width))} or less"
        )


def save(start: GaussianDiffusion, folder: Path) -> None:
    """Keep the model in the training's folder."""
    start.save_pretrained(folder / FOLDER)


def network(folder: Path, request: limits.TrainRequest) -> GaussianDiffusion:
    """The model of a training before its first step, on the best device."""
    if not (folder / FOLDER).is_dir():
        return models.fresh(request.preset, request.seed)
    from ddpm_hub import GaussianDiffusion

    return models.placed(GaussianDiffusion.from_pretrained(folder / FOLDER)).train()
