"""`load_data`: from a name, a folder, a zip, a data set of the Hub or an array to images.

In the room: the bundled set, arrays, and who reads which kind of source. Not in the room: files
(files.py), the Hub (hub.py), where pixels lie (store.py), batches (feed.py).
"""

from __future__ import annotations

import io
import lzma
import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import is_zipfile

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddpm_hub.data.files import read_folder, read_zip
from ddpm_hub.data.imageset import ImageSet, ImageStream
from ddpm_hub.data.store import Pictures, Progress, decode, tensor_of
from ddpm_hub.errors import DataError, check_choice, shown
from ddpm_hub.images import pixels_of

FASHION = Path(__file__).parents[1] / "assets" / "fashion_mnist.npz.xz"
SPLITS = ("train", "test")
HUB = "hub:"


class LabelledImages(NamedTuple):
    """images uint8 (N, C, H, W), labels int64 (N,), and what the labels mean."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]


GARMENTS = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@cache
def fashion_mnist(split: str = "train") -> LabelledImages:
    """12,000 train or 1,000 test images of Fashion-MNIST (Xiao et al. 2017, MIT), 1x28x28.

    Drawn from the originals' 60,000 and 10,000 with `tools/make_assets.py`, lossless. The tensors
    are shared between callers: copy before you write.
    """
    check_choice("split", split, SPLITS)
    with np.load(io.BytesIO(lzma.decompress(FASHION.read_bytes())), allow_pickle=False) as data:
        images, labels = data[f"{split}_images"], data[f"{split}_labels"]
    return LabelledImages(torch.from_numpy(images)[:, None], torch.from_numpy(labels), GARMENTS)


DATASETS: dict[str, Callable[[str], LabelledImages]] = {"bundled": fashion_mnist}


def bundled(split: str = "train") -> Tensor:
    """The images of the bundled set, uint8 (N, 1, 28, 28)."""
    return fashion_mnist(split).images


def load_data(
    source: str | Path | np.ndarray | Tensor | ImageSet | ImageStream,
    image_size: tuple[int, int] = (28, 28),
    channels: int = 1,
    *,
    progress: Progress = True,
) -> ImageSet | ImageStream:
    """`source` as images of (channels, height, width), uint8.

    source: a row of DATASETS; a folder, read with all its subfolders; a .zip; "hub:user/name", a
        data set of the Hugging Face Hub; an array of images, uint8, (N, H, W), (N, H, W, C) or
        (N, C, H, W), which keeps its size; or what an earlier call returned.
    image_size, channels: of the result: the shorter side is scaled, the middle cut out. Channels:
        1 (grey), 3 (RGB) or 4 (RGBA).
    progress: a bar if it takes long, or none, or a function of (done, total).

    What a person should know (`notes()`: files skipped, few images) comes as warnings, too.
    Raises DataError if there is no image that can be read.
    """
    if isinstance(source, ImageSet | ImageStream):
        return source
    loaded = _load(source, tuple(image_size), channels, progress)
    for note in loaded.notes():
        warnings.warn(note, stacklevel=2)
    return loaded


def _load(
    source: Any, image_size: tuple[int, int], channels: int, progress: Progress
) -> ImageSet | ImageStream:
    if isinstance(source, np.ndarray | Tensor):
        return ImageSet(as_images(source), "array")
    if not isinstance(source, str | Path):
        raise DataError(f"{shown(source)} is no source of images: {_known()}")
    if str(source) in DATASETS:
        return _named(str(source), image_size, channels, progress)
    if str(source).startswith(HUB):
        from ddpm_hub.data.hub import read_hub

        return read_hub(str(source)[len(HUB) :], image_size, channels, progress)
    path = Path(os.path.expanduser(source))  # unlike Path's, it leaves a ~ that is nobody's
    if path.is_dir():
        return read_folder(path, image_size, channels, progress)
    if path.is_file() and (path.suffix.lower() == ".zip" or is_zipfile(path)):
        return read_zip(path, image_size, channels, progress)
    raise DataError(f"{str(source)!r} is not a folder or a zip: {_known()}")


def _known() -> str:
    return f"give a folder, a .zip, hub:user/name, an array, or one of: {', '.join(DATASETS)}"


def _named(name: str, image_size: tuple[int, int], channels: int, progress: Progress) -> ImageSet:
    """A row of DATASETS, its own tensor if it has the right shape, else scaled."""
    images, labels, classes = DATASETS[name]("train")
    shape = (channels, *image_size)
    if images.shape[1:] != shape:
        arrays = images.permute(0, 2, 3, 1).squeeze(3).numpy()  # (N, H, W) or (N, H, W, C)

        def read(i: int) -> np.ndarray:
            return pixels_of(Image.fromarray(arrays[i]), image_size, channels)

        pictures = Pictures(range(len(arrays)), read, lambda: [name, int(images.sum())])
        images = decode(pictures, shape, progress).images
    return ImageSet(images, name, labels, classes)


def as_images(array: np.ndarray | Tensor) -> Tensor:
    """An array of images as uint8 (N, C, H, W); DataError if it is none.

    Nothing is copied but channels that come last, and those not if the array is mapped from a
    file.
    """
    if str(array.dtype).removeprefix("torch.") != "uint8":
        raise DataError(f"images are {array.dtype}: pass uint8, 0 to 255")
    images = array if isinstance(array, Tensor) else tensor_of(_forward(array))
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] > 4 >= images.shape[3]:
        images = images.permute(0, 3, 1, 2)
    if images.ndim != 4 or not len(images) or images.shape[1] > 4:
        raise DataError(
            f"an array of shape {tuple(array.shape)} is no set of images: pass (N, H, W), "
            "(N, H, W, C) or (N, C, H, W)"
        )
    return images if isinstance(array, np.memmap) else images.contiguous()


def _forward(array: np.ndarray) -> np.ndarray:
    """Tensors cannot walk backwards, as x[::-1] does."""
    return array if min(array.strides, default=0) >= 0 else array.copy()
