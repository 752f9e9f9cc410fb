"""The real images that a model is held against: to compare samples with, and to measure losses on.

In the room: which part of a data set. Not in the room: reading it (data/).
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm_hub.data import DATASETS, SPLITS, ImageSet, ImageStream, load_data
from ddpm_hub.errors import ConfigError, check_choice, check_int
from ddpm_hub.images import pixels_of, to_pil
from ddpm_hub.randomness import generator

Source = str | Path | ImageSet | ImageStream
OF_A_STREAM = 10_000  # images taken of a set that has no end, unless told how many


class RealImages(NamedTuple):
    """images uint8 (N, C, H, W), and their name in a report."""

    images: Tensor
    name: str


def real_images(
    source: Source,
    image_size: tuple[int, int],
    channels: int,
    *,
    split: str = "train",
    limit: int | None = None,
) -> RealImages:
    """Images of a data set in a model's size; `limit` of them at random, always the same ones.

    source: what `load_data` takes. split: "train", or of the bundled set "test": of a folder or
    a data set of the Hub we know only one part. Raises ConfigError and DataError.
    """
    check_choice("split", split, SPLITS)
    if limit is not None:
        check_int("limit", limit, 2, 10_000_000)
    if str(source) in DATASETS and split == "test":
        images = _fitted(DATASETS[str(source)]("test").images, image_size, channels)
    elif split == "test":
        raise ConfigError(
            f"split 'test' of {str(source)!r} is not known: give its test images as a folder"
        )
    else:
        found = load_data(source, image_size, channels)
        images = _first(found, limit) if isinstance(found, ImageStream) else found.images
    chosen = images if limit is None else _some(images, limit)
    return RealImages(chosen, _name(source, split))


def held_out_images(
    source: Source, image_size: tuple[int, int], channels: int, limit: int
) -> RealImages:
    """Images to measure losses on: the test split where there is one, else of the set itself.

    The name says which.
    """
    if str(source) in DATASETS:
        return real_images(source, image_size, channels, split="test", limit=limit)
    images, name = real_images(source, image_size, channels, limit=limit)
    return RealImages(images, f"{name}, perhaps trained on")


def _name(source: Source, split: str) -> str:
    if isinstance(source, ImageSet | ImageStream):
        return source.name
    return f"{source}, {split}" if str(source) in DATASETS else str(source)


def _first(stream: ImageStream, limit: int | None) -> Tensor:
    return torch.stack(list(islice(stream.images(), limit or OF_A_STREAM)))


def _some(images: Tensor, limit: int) -> Tensor:
    order = generator(torch.device("cpu"), "real images")
    rows = torch.randperm(len(images), generator=order)[:limit]
    return images[rows.sort().values]


def _fitted(images: Tensor, image_size: tuple[int, int], channels: int) -> Tensor:
    """The images in the model's size, scaled as `load_data` scales."""
    if tuple(images.shape[1:]) == (channels, *image_size):
        return images
    pictures = to_pil(images.float() / 255)
    return torch.from_numpy(np.stack([pixels_of(p, image_size, channels) for p in pictures]))
