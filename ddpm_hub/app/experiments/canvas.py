"""What a visitor chose or painted on widgets/pad, as tensors; and what the pad is given.

In the room: the garments to start from, and the border where pixels come in: every length is
checked. Not in the room: the widget, and what is computed with the picture. No gradio.
"""

from __future__ import annotations

import base64
import binascii
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ddpm_hub import data, images
from ddpm_hub.app import process
from ddpm_hub.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

# Images of the bundled test set, one of each kind that one recognises at 28 x 28.
GARMENTS = {
    "ankle boot": 22,
    "bag": 0,
    "dress": 13,
    "sweater": 62,
    "trousers": 53,
    "sneaker": 12,
    "T-shirt": 38,
    "coat": 54,
}
SHAPE = (1, 28, 28)  # (C, H, W) of the bundled model, which the Lab asks


class Painted(NamedTuple):
    """A picture, (1, C, H, W) in [0, 1], and where it was painted over, (1, 1, H, W) bool."""

    picture: Tensor
    marked: Tensor


@cache
def garments() -> list[dict[str, Any]]:
    """The garments as the pad draws them."""
    test = data.bundled("test")  # uint8 (N, C, H, W)
    return [process.pixels(test[index].float() / 255, name) for name, index in GARMENTS.items()]


def uploaded(path: str) -> dict[str, Any]:
    """A file somebody brought, cropped and scaled to the model's pixels, as the pad draws it."""
    picture = images.open_image(path, max_pixels=process.MAX_UPLOAD_PIXELS)
    channels, *size = SHAPE
    return process.pixels(images.from_pil(picture, tuple(size), channels), "your picture")


def painted(value: object) -> Painted:
    """The pad's value, checked byte for byte. Raises DataError, one sentence."""
    if not isinstance(value, dict):
        raise DataError("there is no picture yet: choose a garment, or upload one")
    channels, height, width = SHAPE
    picture = _bytes("picture", value.get("picture"), channels * height * width)
    shaped = picture.view(height, width, channels).permute(2, 0, 1)[None]
    if value.get("mask") is None:
        return Painted(shaped.float() / 255, torch.zeros(1, 1, height, width, dtype=torch.bool))
    mask = _bytes("mask", value["mask"], height * width)
    return Painted(shaped.float() / 255, mask.view(1, 1, height, width) > 127)


def _bytes(name: str, text: object, count: int) -> Tensor:
    """`text` as exactly `count` bytes; its length is checked before it is decoded."""
    if not isinstance(text, str) or len(text) > 2 * count:
        raise DataError(f"the {name} is not base64 of {count} bytes: draw it in the page")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"the {name} is broken base64: draw it in the page") from None
    if len(raw) != count:
        raise DataError(f"the {name} has {len(raw)} bytes, not {count}: draw it in the page")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)
