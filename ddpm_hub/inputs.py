"""What a diffusion accepts: its network, image size, images and labels.

Each check raises one sentence with the value, the limit and the cure. Plain arguments (a number, a
name) are checked by `errors.py`, those of the network by `nets/`.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_hub.errors import ConfigError, DataError, check_int, shown
from ddpm_hub.nets.arguments import check_divisible

RANGE_TOLERANCE = 0.01  # resampling an image overshoots [0, 1] a little


def check_image_size(image_size: Any, model: nn.Module) -> tuple[int, int]:
    """(height, width), or a ConfigError; what the network can halve is its own business."""
    pair = (image_size, image_size) if isinstance(image_size, Integral) else image_size
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ConfigError(f"image_size {shown(image_size)} is not a side or (height, width)")
    height, width = (check_int("image_size", side, 1, 65_536) for side in pair)
    check_divisible((height, width), getattr(model, "downsample_factor", 1))
    return height, width


def check_model(model: nn.Module) -> None:
    """Raise ConfigError unless a plain Gaussian process can train this network."""
    missing = [n for n in ("channels", "out_dim", "self_condition") if not hasattr(model, n)]
    if missing or not callable(model):
        raise ConfigError(
            f"model {shown(model)} is no network of ours, it has no {', '.join(missing)}: pass a "
            "Unet, or give your own these attributes"
        )
    if model.out_dim not in (model.channels, 2 * model.channels):
        raise ConfigError(
            f"the network gives {model.out_dim} channels for images of {model.channels}: build it "
            "with out_dim=None, which gives one for each, or two with learned_variance=True"
        )
    if getattr(model, "random_or_learned_sinusoidal_cond", False):
        raise ConfigError(
            "a network with learned or random Fourier time features is for continuous time, not "
            "for timesteps 0 .. T-1: build it with random_fourier_features=False and "
            "learned_sinusoidal_cond=False"
        )


def check_options(options: Any) -> dict[str, float]:
    """The options of a schedule as a dict, empty for None; what they are, the schedule checks."""
    options = {} if options is None else options
    if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
        raise ConfigError(
            f"schedule_fn_kwargs {shown(options)} is not a dict of names: use {{'s': 0.008}}"
        )
    return options


def check_images(images: Any, expected: tuple[int, ...], first: bool, unit: bool) -> None:
    """Raise DataError unless images are floats, (B, *expected), in range.

    The range is looked at on the CPU always; elsewhere that would wait, so only if `first`.
    """
    if not isinstance(images, Tensor):
        raise DataError(f"images are a {type(images).__name__}: pass a tensor, floats in [0, 1]")
    if images.ndim != 4 or not len(images) or tuple(images.shape[1:]) != expected:
        raise DataError(
            f"images of shape {tuple(images.shape)} do not fit: this model takes "
            f"(batch, {', '.join(map(str, expected))})"
        )
    if not images.is_floating_point():
        raise DataError(
            f"images are {images.dtype}, not floats in [0, 1]: pass images.float() / 255"
        )
    if first or images.device.type == "cpu":
        check_range(images, unit)


def check_times(times: Tensor, batch: int, timesteps: int) -> None:
    """Raise ConfigError unless times are (batch,) whole numbers in 0 .. timesteps - 1."""
    if times.shape != (batch,) or times.is_floating_point():
        raise ConfigError(
            f"times of shape {tuple(times.shape)}, {times.dtype}, do not fit: pass ({batch},) int64"
        )
    if times.device.type == "cpu" and not ((times >= 0) & (times < timesteps)).all():
        raise ConfigError(
            f"times {shown(times.tolist())} leave 0 .. {timesteps - 1}: pass timesteps in that "
            "range, which count from 0"
        )


def check_range(images: Tensor, unit: bool) -> None:
    """Raise DataError for NaN or infinity, or if `unit` for values outside [0, 1]."""
    low, high = (value.item() for value in images.aminmax()) if images.numel() else (0.0, 0.0)
    if not -float("inf") < low <= high < float("inf"):
        raise DataError(f"images hold {low:g} .. {high:g}: find the NaN or infinity in the data")
    if unit and not -RANGE_TOLERANCE <= low <= high <= 1 + RANGE_TOLERANCE:
        raise DataError(
            f"images hold {low:g} .. {high:g}, outside [0, 1]: rescale them (the model maps them "
            "to [-1, 1] itself), or build it with auto_normalize=False"
        )


def as_labels(classes: Any, batch: int, model: nn.Module, device: torch.device) -> Tensor:
    """One label, or one per image, as a (B,) int64 tensor on `device`; ConfigError if odd."""
    count = getattr(model, "num_classes", None)
    if count is None:
        raise ConfigError(
            f"classes {shown(classes)} were given, but this network has no classes: build it "
            "with Unet(num_classes=...)"
        )
    try:
        labels = torch.as_tensor(classes)
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise TypeError("not whole numbers")
        labels = labels.long().expand(batch) if labels.ndim == 0 else labels.long()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"classes {shown(classes)} are not labels: {error}") from error
    on_host = labels.device.type == "cpu"  # elsewhere a look at the values would wait
    if labels.shape != (batch,) or (on_host and not ((labels >= 0) & (labels < count)).all()):
        raise ConfigError(
            f"classes {shown(classes)} do not fit: give one label in 0 .. {count - 1}, "
            f"or {batch} of them"
        )
    return labels.to(device)
