"""The bundled test pictures, by their place in the test set, for experiments with real pictures.

In the room: thumbnails, chance, and pictures in a model's own size. Not in the room: pictures of a
visitor's own (canvas.py), and the widget.
"""

from __future__ import annotations

import random
from functools import cache
from typing import TYPE_CHECKING, Any

from ddpm_hub import data, images
from ddpm_hub.app.experiments.canvas import GARMENTS

if TYPE_CHECKING:
    from torch import Tensor


def count() -> int:
    """How many test pictures there are."""
    return len(data.bundled("test"))


def picture(index: int) -> Tensor:
    """A test picture as it is, (1, C, H, W) in [0, 1]."""
    return data.bundled("test")[index][None].float() / 255


def picture_for(diffusion, index: int) -> Tensor:
    """A test picture, (1, C, H, W) in [0, 1], in the size and on the device of that model."""
    original = picture(index)
    shape = (diffusion.channels, *diffusion.image_size)
    if tuple(original.shape[1:]) != shape:
        (tile,) = images.to_pil(original)
        original = images.from_pil(tile, diffusion.image_size, diffusion.channels)[None]
    return original.to(diffusion.device)


@cache
def thumbnails() -> list[dict[str, Any]]:
    """A few test pictures as widgets/pair offers them: {index, name, src}."""
    return [thumbnail(index, name) for name, index in GARMENTS.items()]


def thumbnail(index: int, name: str = "") -> dict[str, Any]:
    """One test picture as widgets/pair offers it; its name, if it has none, is its class."""
    labelled = data.fashion_mnist("test")
    name = name or labelled.classes[int(labelled.labels[index])].lower()
    (tile,) = images.to_pil(picture(index))
    return {"index": index, "name": name, "src": images.data_uri(tile, "png")}


def by_chance() -> dict[str, Any]:
    """Two different test pictures as the value of widgets/pair."""
    chosen = random.sample(range(count()), 2)
    return {"pair": chosen, "extra": [thumbnail(index) for index in chosen]}
