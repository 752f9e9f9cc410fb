"""Images to train on: from a name, a folder or an array to one uint8 tensor, (N, C, H, W).

Small sets only, decoded once and kept in memory; batches, flips and normalisation happen in
torch, in `training.py`. Decoding single images is in `images.py`.
"""

from __future__ import annotations

import io
import lzma
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ddpm_hub.errors import DataError, check_choice
from ddpm_hub.images import from_pil, open_image

FASHION = Path(__file__).parent / "assets" / "fashion_mnist.npz.xz"
SPLITS = ("train", "test")
EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}
FEW_IMAGES = 100


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
    source: str | Path | np.ndarray | Tensor,
    image_size: tuple[int, int] = (28, 28),
    channels: int = 1,
    *,
    progress: bool = True,
) -> Tensor:
    """`source` as uint8 (N, channels, height, width).

    source: a row of DATASETS; a folder, read with all its subfolders; or an array of images,
        uint8, (N, H, W), (N, H, W, C) or (N, C, H, W), which keeps its size.
    image_size, channels: of the result, for a folder: the shorter side is scaled, the middle cut.

    Raises DataError if there are no images. Files that cannot be read are skipped with a warning.
    """
    if isinstance(source, np.ndarray | Tensor):
        return as_images(source)
    if str(source) in DATASETS:
        return DATASETS[str(source)]("train").images
    return read_folder(Path(source), image_size, channels, progress)


def read_folder(
    folder: Path, image_size: tuple[int, int], channels: int, progress: bool = True
) -> Tensor:
    """Every image below `folder`, uint8 (N, channels, *image_size), in the order of their paths."""
    if not folder.is_dir():
        raise DataError(
            f"{str(folder)!r} is not a folder: give one with images, or {', '.join(DATASETS)}"
        )
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
    skipped: list[str] = []
    images = []
    bar = tqdm(paths, desc="reading images", delay=2, disable=not progress)
    for path in bar:
        try:
            image = from_pil(open_image(path), image_size, channels)
            images.append((image * 255).round().to(torch.uint8))
        except DataError as error:
            skipped.append(f"{path.name}: {error}")
    if not images:
        why = f" ({skipped[0]})" if skipped else ""
        raise DataError(
            f"{str(folder)!r} holds no image that can be read{why}: put PNG, JPEG, WebP, BMP or "
            "GIF files there"
        )
    if skipped:
        warnings.warn(f"skipped {len(skipped)} files: {'; '.join(skipped[:5])}", stacklevel=2)
    if len(images) < FEW_IMAGES:
        warnings.warn(
            f"{len(images)} images are few: the model will learn them by heart, use "
            f"{FEW_IMAGES} or more for new pictures",
            stacklevel=2,
        )
    return torch.stack(images)


def as_images(array: np.ndarray | Tensor) -> Tensor:
    """An array of images as uint8 (N, C, H, W); DataError if it is none."""
    images = torch.as_tensor(array)
    if images.dtype != torch.uint8:
        raise DataError(f"images are {images.dtype}: pass uint8, 0 to 255")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] > 4 >= images.shape[3]:
        images = images.permute(0, 3, 1, 2)
    if images.ndim != 4 or not len(images) or images.shape[1] > 4:
        raise DataError(
            f"an array of shape {tuple(array.shape)} is no set of images: pass (N, H, W), "
            "(N, H, W, C) or (N, C, H, W)"
        )
    return images.contiguous()


def batches(
    images: Tensor, batch_size: int, rng: torch.Generator, flip: bool = True
) -> Iterator[Tensor]:
    """Endless batches, float in [0, 1], each image once an epoch, half of them mirrored if `flip`.

    images: uint8 (N, C, H, W) on any device, where the batches come to be too; rng on the CPU.
    A set smaller than a batch is repeated within it.
    """
    order = torch.empty(0, dtype=torch.int64)
    while True:
        while len(order) < batch_size:
            order = torch.cat((order, torch.randperm(len(images), generator=rng)))
        now, order = order[:batch_size], order[batch_size:]
        batch = images[now.to(images.device)]
        if flip:
            mirrored = torch.rand(batch_size, generator=rng) < 0.5
            batch = torch.where(
                mirrored.to(batch.device)[:, None, None, None], batch.flip(-1), batch
            )
        yield batch.float() / 255
