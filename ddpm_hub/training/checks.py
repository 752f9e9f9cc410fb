"""What a training accepts: its configuration, its data, its processes. One sentence each."""

from __future__ import annotations

import os
from dataclasses import fields, replace

from torch import nn

from ddpm_hub import runtime
from ddpm_hub.config import TrainConfig
from ddpm_hub.config_file import plain
from ddpm_hub.data import ImageSet, ImageStream
from ddpm_hub.distributed import Team
from ddpm_hub.errors import (
    ConfigError,
    DataError,
    check_bool,
    check_choice,
    check_float,
    check_int,
    shown,
)
from ddpm_hub.hub import check_repo_id
from ddpm_hub.model import GaussianDiffusion

COUNTS = (
    "train_batch_size", "gradient_accumulate_every", "train_num_steps", "ema_update_every",
    "save_and_sample_every", "num_samples", "sample_steps", "checkpoints_total_limit",
)  # fmt: skip
PATHS = ("results_folder", "resume")
NUMBERS = {
    "train_lr": (0, 10),
    "ema_decay": (0, 1),
    "max_grad_norm": (0, 1e9),
    "save_every_minutes": (0, 1e9),
    "push_every_minutes": (0, 1e9),
}


def checked(config: TrainConfig) -> TrainConfig:
    """The same in plain numbers and text, as a state can say it: not numpy's, no Path.

    Raises ConfigError for the first field that cannot be.
    """
    for name in PATHS:
        if not isinstance(getattr(config, name), str | os.PathLike | None):
            raise ConfigError(f"{name} {shown(getattr(config, name))} is no path: use text")
    check_train_config(config)
    told = {field.name: plain(getattr(config, field.name)) for field in fields(config)}
    for name in PATHS:
        told[name] = None if told[name] is None else os.fspath(told[name])
    return replace(config, **told | {"adam_betas": tuple(told["adam_betas"])})


def check_train_config(config: TrainConfig) -> None:
    """Raise ConfigError for the first field that cannot be."""
    for name in COUNTS:
        check_int(name, getattr(config, name), 1, 10**9)
    check_int("lr_warmup_steps", config.lr_warmup_steps, 0, 10**9)
    check_int("seed", config.seed, 0, 2**63 - 1)
    for name, (low, high) in NUMBERS.items():
        check_float(name, getattr(config, name), low, high)
    if config.max_minutes is not None:
        check_float("max_minutes", config.max_minutes, 0, 1e9)
    for name in ("augment_horizontal_flip", "compile", "sample_raw"):
        check_bool(name, getattr(config, name))
    betas = config.adam_betas
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise ConfigError(f"adam_betas {shown(betas)} is not a pair: use (0.9, 0.99)")
    for beta in betas:
        check_float("adam_betas", beta, 0, 0.999999)
    check_choice("lr_schedule", config.lr_schedule, ("constant", "cosine"))
    check_choice("time_sampling", config.time_sampling, ("uniform", "importance"))
    check_choice("mixed_precision", config.mixed_precision, runtime.PRECISIONS)
    if config.push_to_hub is not None:
        check_push(config)


def check_push(config: TrainConfig) -> None:
    """Raise HubError or ConfigError now, and not at the first push."""
    check_repo_id(config.push_to_hub)
    if config.results_folder is None:
        raise ConfigError("push_to_hub needs files to push: give a results_folder")


def check_team(config: TrainConfig, team: Team) -> None:
    """Raise ConfigError unless the batch can be shared evenly."""
    if config.train_batch_size % team.size:
        raise ConfigError(
            f"train_batch_size {config.train_batch_size} cannot be shared by {team.size} "
            f"processes: use {team.size * max(1, round(config.train_batch_size / team.size))}"
        )


def check_data(images: ImageSet | ImageStream, diffusion: GaussianDiffusion) -> None:
    """Raise DataError unless this model can train on them."""
    shape = images.shape if isinstance(images, ImageStream) else tuple(images.images.shape[1:])
    expected = (diffusion.channels, *diffusion.image_size)
    if tuple(shape) != expected:
        raise DataError(
            f"the data is {tuple(shape)}, the model takes {expected}: change image_size and "
            "channels, or the data"
        )


def check_labels(images: ImageSet | ImageStream, net: nn.Module) -> bool:
    """Whether the images' labels go to the network; DataError if it asks for others."""
    count = getattr(net, "num_classes", None)
    if not count:
        return False
    labels = getattr(images, "labels", None)
    if labels is None:
        raise DataError(
            f"the network has {count} classes and the data has no labels: build it without "
            "num_classes, or train on a set with labels"
        )
    if int(labels.max()) >= count:
        raise DataError(
            f"the data has label {int(labels.max())}, the network {count} classes: build it with "
            f"num_classes={int(labels.max()) + 1}"
        )
    return True
