"""Between tensors and pictures: Pillow images, grids, encoded bytes, metadata in a PNG.

In the room: everything that turns (B, C, H, W) floats in [0, 1] into something a person can look
at, and a file somebody brought into such floats, safely. Not in the room: data sets (data/),
the model's [-1, 1] range (`GaussianDiffusion.unnormalize`) and anything that knows the app. Over
300 lines, since what a file says of its run is read beside where it is written.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor

from ddpm_hub.errors import DataError

# Formats people have photographs in. Pillow knows fifty more; each is a parser to attack.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 4_000_000  # a 140 kB PNG can decode to 432 MB: the size is checked before decoding
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
PNG_KEY = "ddpm_hub"  # the tEXt chunk that carries the run
DESCRIPTION = 0x010E  # the tag of EXIF in which a WebP carries it; a GIF has a comment


def to_uint8(images: Tensor) -> np.ndarray:
    """(B, C, H, W) floats in [0, 1] -> (B, H, W, C) uint8, rounded; out-of-range is clipped.

    NaN becomes black. Raises DataError for another rank or a channel count no picture has.
    """
    if images.ndim != 4:
        raise DataError(f"images have shape {tuple(images.shape)}: give (B, C, H, W)")
    if images.shape[1] not in MODES:
        raise DataError(f"{images.shape[1]} channels make no picture: give 1, 3 or 4")
    clipped = images.detach().float().nan_to_num(0.0).clamp(0, 1)
    return (clipped * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def to_pil(images: Tensor) -> list[Image.Image]:
    """(B, C, H, W) floats in [0, 1] -> B images: grey, RGB or RGBA by the channel count."""
    return [_picture(pixels) for pixels in to_uint8(images)]


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def from_pil(image: Image.Image, size: tuple[int, int], channels: int) -> Tensor:
    """A picture of any size and mode -> (channels, h, w) floats in [0, 1]; `size` is (h, w).

    Turned upright by its EXIF tag, alpha laid on white, scaled (antialiased) until it covers
    `size`, cropped at the centre. `channels` is 1 (grey), 3 (RGB) or 4 (RGBA: alpha is kept).
    """
    return torch.from_numpy(pixels_of(image, size, channels)).float() / 255


def pixels_of(image: Image.Image, size: tuple[int, int], channels: int) -> np.ndarray:
    """The same as `from_pil`, as uint8 0 .. 255: what a data set keeps."""
    if channels not in MODES:
        raise DataError(f"channels {channels} is not 1 (grey), 3 (RGB) or 4 (RGBA)")
    height, width = size
    if height < 1 or width < 1:
        raise DataError(f"size {(height, width)} is not at least (1, 1)")
    upright = _eight_bit(_upright(image))
    flat = upright if channels == 4 else _opaque(upright)
    if flat.mode == "LAB":  # from which Pillow goes nowhere else
        flat = flat.convert("RGB")
    fitted = ImageOps.fit(
        flat.convert(MODES[channels]), (width, height), method=Image.Resampling.BILINEAR
    )
    pixels = np.array(fitted).reshape(height, width, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))  # (C, H, W)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the pixels: keep them as they lie
        return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey as 8-bit grey: Pillow would clip it at 255, not scale it.

    16 bits keep their range. Floats are 0 .. 1 or 0 .. 255; where neither fits, and for longer
    integers, nobody says what white is: the darkest becomes 0, the brightest 255.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    grey = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0, neginf=0)
    low, high = grey.min(), grey.max()
    if image.mode == "F" and low >= 0 and high <= 255:
        grey = grey * 255 if high <= 1 else grey
    elif low >= 0 and high <= 65535:
        grey = grey / 257
    else:
        grey = (grey - low) * (255 / (high - low)) if high > low else grey * 0
    return Image.fromarray(grey.clip(0, 255).round().astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


class Unreadable(DataError):
    """Why one picture cannot be used, "it is {why}", apart from its name and from the cure."""

    def __init__(self, why: str, cure: str):
        super().__init__(f"a picture is {why}: {cure}")
        self.why, self.cure = why, cure


def open_image(source: str | PathLike | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read one PNG, JPEG, WebP, GIF (its first frame) or BMP; `source` is a path or its bytes.

    The pixel limit is checked on the header, before anything is decoded. Raises DataError, one
    sentence, for a missing, truncated, oversized or foreign file.
    """
    raw = isinstance(source, (bytes, bytearray, memoryview))
    try:
        with _opened(source, max_pixels, FORMATS) as image:
            image.load()
            return image.copy()
    except Unreadable as error:
        name = "the upload" if raw else Path(source).name or source
        raise DataError(f"{name} is {error.why}: {error.cure}") from None


def read_pixels(
    source: str | PathLike | bytes,
    size: tuple[int, int],
    channels: int,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = FORMATS,
) -> np.ndarray:
    """One file of a data set as uint8 (channels, h, w), like `pixels_of`. Raises Unreadable."""
    with _opened(source, max_pixels, formats) as image:
        # A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, twice the wanted one at least:
        # 3000 x 2000 to 64 x 64 takes 20 ms instead of 55. Which side is up is not known yet.
        image.draft(None, (2 * max(size),) * 2)
        image.load()
        return pixels_of(image, size, channels)


@contextmanager
def _opened(
    source: str | PathLike | bytes, max_pixels: int, formats: Sequence[str]
) -> Iterator[Image.Image]:
    """The picture, its header read; whatever then goes wrong inside becomes an Unreadable."""
    with _stream(source) as stream:
        try:
            with Image.open(stream, formats=formats) as image:
                _check_pixels(image.size, max_pixels)
                yield image
        except DataError:
            raise
        except Image.UnidentifiedImageError:
            cure = "give PNG, JPEG, WebP, GIF or BMP"
            raise Unreadable("not an image we read", cure) from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise Unreadable(f"larger than {max_pixels:,} pixels", "scale it down") from None
        except MemoryError:
            raise Unreadable("too large for the memory", "scale it down") from None
        except Exception:  # Pillow's decoders raise whatever their parsers raise
            raise Unreadable("truncated or corrupt", "save it again") from None


def _stream(source: str | PathLike | bytes) -> BinaryIO:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    try:
        return open(source, "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = getattr(error, "strerror", None) or "not a path"
        raise Unreadable(f"unreadable ({reason})", "check the path") from None


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        cure = f"it has {width} x {height}, scale it down"
        raise Unreadable(f"larger than {max_pixels:,} pixels", cure)


def grid(images: Tensor, columns: int | None = None, gap: int = 0) -> Image.Image:
    """(B, C, H, W) floats in [0, 1] -> one picture, row by row, near-square unless told.

    `gap` white pixels lie between neighbours, none around. Empty places are white too.
    """
    tiles = to_uint8(images)
    if not len(tiles):
        raise DataError("a grid of 0 images is no picture: give at least 1")
    columns = min(columns or grid_columns(len(tiles)), len(tiles))
    rows = math.ceil(len(tiles) / columns)
    height, width, channels = tiles.shape[1:]
    sheet = np.full((rows * columns, height + gap, width + gap, channels), 255, np.uint8)
    sheet[: len(tiles), :height, :width] = tiles
    sheet = sheet.reshape(rows, columns, height + gap, width + gap, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + gap), columns * (width + gap), channels)
    return _picture(sheet[: len(sheet) - gap, : sheet.shape[1] - gap])


def grid_columns(count: int) -> int:
    """Columns of a near-square grid of `count` images: the smallest n with n * n >= count."""
    return max(1, math.ceil(math.sqrt(count)))


def enlarge(image: Image.Image, shorter_side: int = 256) -> Image.Image:
    """Whole-number nearest-neighbour enlargement until the shorter side reaches the given one."""
    factor = math.ceil(shorter_side / min(image.size))
    if factor <= 1:
        return image
    size = (image.width * factor, image.height * factor)
    return image.resize(size, Image.Resampling.NEAREST)


def encode(image: Image.Image, format: str = "jpeg", quality: int = 90) -> bytes:
    """The picture as bytes: "jpeg" (no chroma subsampling), "png" (exact) or "webp".

    For streaming choose jpeg: a noisy 128 x 128 grid costs 0.2 ms, WebP 2.7 ms, PNG 3.6 ms.
    """
    options = {
        # 4:2:0 would smear colour over the borders of tiles that are a few pixels wide
        "jpeg": {"quality": quality, "subsampling": 0},
        "png": {"compress_level": 6},
        "webp": {"quality": quality, "method": 2},
    }
    if format not in options:
        raise DataError(f"format {format!r} is not one of {', '.join(options)}")
    if format == "jpeg" and image.mode not in ("L", "RGB"):
        image = _opaque(_eight_bit(image)).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, format, **options[format])
    return buffer.getvalue()


def data_uri(image: Image.Image, format: str = "jpeg", quality: int = 90) -> str:
    """The picture as text that <img src> takes: `data:image/jpeg;base64,...`."""
    body = base64.b64encode(encode(image, format, quality)).decode("ascii")
    return f"data:image/{format};base64,{body}"


def save_png(image: Image.Image, metadata: dict) -> bytes:
    """A PNG whose tEXt chunk holds `metadata` as JSON: the picture knows which run made it."""
    info = PngImagePlugin.PngInfo()
    info.add_text(PNG_KEY, json.dumps(metadata, allow_nan=False))  # ASCII: tEXt is Latin-1
    buffer = io.BytesIO()
    image.save(buffer, "png", pnginfo=info)
    return buffer.getvalue()


def read_metadata(data: bytes) -> dict:
    """What `save_png` or `animate` wrote into these bytes; {} where there is nothing of ours."""
    text = _written_in(open_image(data))
    if text is None:
        return {}
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise DataError(f"the picture's {PNG_KEY} text is not a JSON object: it was edited")
    return metadata


def _written_in(image: Image.Image) -> str | None:
    if PNG_KEY in image.info:
        return image.info[PNG_KEY]
    try:
        text = image.info.get("comment") or image.getexif().get(DESCRIPTION)
    except Exception:  # a broken EXIF block is none of ours
        return None
    text = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    sign = f"{PNG_KEY} "  # others describe their pictures, too
    return text.removeprefix(sign) if isinstance(text, str) and text.startswith(sign) else None


def animate(
    frames: Sequence[Image.Image],
    format: str = "webp",
    fps: float = 12.0,
    metadata: dict | None = None,
) -> bytes:
    """Frames of one size -> an endless animation: "webp" (small, fast) or "gif" (anywhere).

    The last frame stays for a second and a half: it is the picture the rest leads to.
    `metadata` is written into it as JSON, for `read_metadata`.
    """
    if format not in ("webp", "gif"):
        raise DataError(f"format {format!r} is not one of webp, gif")
    if not frames:
        raise DataError("an animation of 0 frames is no film: give at least 1")
    if not 0 < fps <= 50:  # browsers slow anything faster than 20 ms a frame down to 10 fps
        raise DataError(f"fps {fps} is not in (0, 50]")
    durations = [round(1000 / fps)] * (len(frames) - 1) + [1500]
    options = {"quality": 85, "method": 2} if format == "webp" else {"optimize": False}
    options |= _note(format, metadata) if metadata else {}
    first, *rest = [_film_frame(frame, format) for frame in frames]
    buffer = io.BytesIO()
    first.save(
        buffer, format, save_all=True, append_images=rest, duration=durations, loop=0, **options
    )
    return buffer.getvalue()


def _note(format: str, metadata: dict) -> dict:
    text = f"{PNG_KEY} {json.dumps(metadata, allow_nan=False)}"
    if format == "gif":
        return {"comment": text.encode("ascii")}
    exif = Image.Exif()
    exif[DESCRIPTION] = text
    return {"exif": exif}


def _film_frame(image: Image.Image, format: str) -> Image.Image:
    # GIF keeps grey as it is (256 greys are exact) and quantises colour; WebP knows only RGB
    return (
        image
        if format == "gif" and image.mode == "L"
        else _opaque(_eight_bit(image)).convert("RGB")
    )
