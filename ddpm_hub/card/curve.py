"""The loss of a training as a picture, for a model's card: steps across, the loss in decades.

Drawn with Pillow on a transparent ground, in colours that can be read on white and on black. Not in
the room: what else a card says (`__init__.py`), and the curve that the app draws while it trains.
"""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

SIZE = (640, 280)  # pixels
SCALE = 2  # drawn so much larger, then scaled down: Pillow's lines have no soft edges
MARGIN = (64, 30, 20, 40)  # left, top, right, bottom
INK, GRID, RAW, SMOOTH = (128, 134, 146), (128, 134, 146, 70), (99, 132, 255, 90), (88, 120, 245)
KEEP = 0.9  # of the running mean, per point


class Frame(NamedTuple):
    """Where numbers lie in the picture: steps evenly, losses by their logarithm."""

    last: float
    low: float
    high: float

    def at(self, step: float, loss: float) -> tuple[float, float]:
        """The point of a step and a loss, in pixels of the large picture."""
        left, top, right, bottom = MARGIN
        width, height = SIZE[0] - left - right, SIZE[1] - top - bottom
        span = math.log(self.high / self.low)
        x = left + width * step / self.last
        y = top + height * math.log(self.high / min(max(loss, self.low), self.high)) / span
        return x * SCALE, y * SCALE


def curve_png(report: dict[str, Any]) -> bytes | None:
    """The curve of `training.json` as a PNG, 640 x 280; None where it has fewer than two points."""
    points = _points(report.get("curve"))
    if len(points) < 2:
        return None
    losses = [loss for _, loss in points]
    frame = Frame(points[-1][0], min(losses) / 1.15, max(losses) * 1.15)
    picture = Image.new("RGBA", (SIZE[0] * SCALE, SIZE[1] * SCALE))
    _draw_axes(picture, frame)
    _draw_line(picture, [frame.at(*point) for point in points], RAW, 1)
    _draw_line(picture, [frame.at(*point) for point in _smoothed(points)], SMOOTH, 2)
    buffer = io.BytesIO()
    picture.resize(SIZE, Image.Resampling.LANCZOS).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _points(curve: Any) -> list[tuple[float, float]]:
    """(step, loss) of a report that anybody may have edited: positive, finite, in order."""
    curve = curve if isinstance(curve, dict) else {}
    steps, losses = (curve.get(key) for key in ("step", "loss"))
    if not isinstance(steps, list) or not isinstance(losses, list):
        return []
    pairs = [(s, x) for s, x in zip(steps, losses, strict=False) if _sound(s) and _sound(x)]
    return sorted(pairs)


def _sound(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and 1e-12 < value < 1e12


def _smoothed(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The running mean; of the first points the plain one, so that it does not begin with noise."""
    mean, found = 0.0, []
    for count, (step, loss) in enumerate(points):
        keep = min(KEEP, count / (count + 1))
        mean = keep * mean + (1 - keep) * loss
        found.append((step, mean))
    return found


def _draw_line(picture: Image.Image, line: list[tuple[float, float]], colour: tuple, width: int):
    layer = Image.new("RGBA", picture.size)  # a transparent line would replace what is under it
    ImageDraw.Draw(layer).line(line, fill=colour, width=width * SCALE, joint="curve")
    picture.alpha_composite(layer)


def _draw_axes(picture: Image.Image, frame: Frame) -> None:
    font = ImageFont.load_default(13 * SCALE)
    draw = ImageDraw.Draw(picture)
    gap = 8 * SCALE
    for loss in decades(frame.low, frame.high):
        start, end = frame.at(0, loss), frame.at(frame.last, loss)
        draw.line([start, end], fill=GRID, width=SCALE)
        draw.text((start[0] - gap, start[1]), f"{loss:g}", fill=INK, font=font, anchor="rm")
    for step in ticks(frame.last):
        x, y = frame.at(step, frame.low)
        draw.line([(x, y), (x, y + gap / 2)], fill=INK, width=SCALE)
        draw.text((x, y + gap), f"{step:,}", fill=INK, font=font, anchor="mt")
    corner = frame.at(0, frame.high), frame.at(0, frame.low), frame.at(frame.last, frame.low)
    draw.line(corner, fill=INK, width=SCALE)
    right, top = frame.at(frame.last, frame.high)
    draw.text((right, top - gap / 2), "loss by step", fill=INK, font=font, anchor="rb")


def decades(low: float, high: float) -> list[float]:
    """Values for the loss's axis: powers of ten, or 1, 2, 5 of each where that leaves too few."""
    for digits in (
        (1,),
        (1, 3),
        (1, 2, 5),
        tuple(range(1, 10)),
        tuple(x / 10 for x in range(10, 100)),
    ):
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [float(f"{d * 10.0**e:.6g}") for e in exponents for d in digits]
        inside = [value for value in found if low <= value <= high]
        if len(inside) >= 3:
            break
    return inside[:: max(1, len(inside) // 6)]


def ticks(last: float) -> list[int]:
    """At most six whole steps from 0 to the last, at distances of 1, 2 or 5 times ten."""
    size = 1
    while last / size > 5:
        size = int(size * (2.5 if str(size)[0] == "2" else 2))
    return list(range(0, int(last) + 1, size))
