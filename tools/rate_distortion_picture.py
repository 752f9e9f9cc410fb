"""Draw the figures of `plot_rate_distortion.py` as Figure 5 of Ho et al. 2020, with Pillow alone.

In the room: one picture of three panels, with axes, ticks and labels. Not in the room: figures.
It is 1800 pixels wide, to be shown at 900.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

FINE = 2  # drawn larger by this and scaled down: Pillow's own lines have jagged edges
WIDTH, HEIGHT = 1800, 620
PANEL, LEFT, TOP, BOTTOM = 600, 88, 96, 470  # in pixels of the picture
PAPER, INK, FAINT, GRID = "#ffffff", "#1f2937", "#6b7280", "#e5e7eb"
COLOURS = ("#c2410c", "#1d4ed8", "#6d28d9")


class Curve(NamedTuple):
    """One panel: what it shows, over what, and its points; the last is the lossless end."""

    title: str
    below: str
    x: Sequence[float]
    y: Sequence[float]


def draw(figures: dict) -> Image.Image:
    """The three panels, from the dict that is rate_distortion.json."""
    steps = [len(figures["t"]) - 2 - t for t in figures["t"]]  # reverse steps that led to x_t
    reverse, bits = "reverse process steps", "rate (bits/dim)"
    error = "distortion (RMSE of 0 to 255)"
    panels = (
        Curve(error, reverse, steps, figures["distortions"]),
        Curve(bits, reverse, steps, figures["rates"]),
        Curve(error, bits, figures["rates"], figures["distortions"]),
    )
    picture = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), PAPER)
    pen = ImageDraw.Draw(picture)
    for i, (curve, colour) in enumerate(zip(panels, COLOURS, strict=True)):
        Panel(pen, i * PANEL, curve).draw(colour)
    caption = (
        f"{figures['images']} test images, {figures['model']} model, T = {len(figures['t']) - 1}: "
        f"{figures['rate']:.2f} bits/dim for an image with an error of "
        f"{figures['distortion']:.2f} grey levels, {figures['L0']:.2f} more for it without any"
    )
    text(pen, (WIDTH / 2, HEIGHT - 34), caption, 24, FAINT, "mm")
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def text(pen: ImageDraw.ImageDraw, at: tuple, words: str, size: int, fill: str, anchor: str):
    """Words at a place of the picture; the font is the one that comes with Pillow."""
    place = (at[0] * FINE, at[1] * FINE)
    pen.text(place, words, fill, ImageFont.load_default(size * FINE), anchor)


def ticks(highest: float, about: int = 6) -> list[float]:
    """0 and up in steps of 1, 2 or 5 times a power of ten, as far as `highest`."""
    rough = highest / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
    return [step * n for n in range(int(highest / step + 1e-9) + 1)]


class Panel:
    """One curve in its axes, `left` pixels from the picture's edge."""

    def __init__(self, pen: ImageDraw.ImageDraw, left: float, curve: Curve):
        self.pen, self.curve = pen, curve
        self.x0, self.x1 = left + LEFT, left + PANEL - 28
        self.top_x, self.top_y = max(curve.x), max(curve.y) * 1.04

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a point."""
        across = self.x0 + (self.x1 - self.x0) * x / self.top_x
        return across, BOTTOM - (BOTTOM - TOP) * y / self.top_y

    def line(self, points: Sequence[tuple[float, float]], fill: str, width: float) -> None:
        """A line through pixels."""
        fine = [(x * FINE, y * FINE) for x, y in points]
        self.pen.line(fine, fill, round(width * FINE), joint="curve")

    def draw(self, colour: str) -> None:
        """Grid, axes, words and the curve; its last step, to no error at all, is a dotted line."""
        curve = self.curve
        text(self.pen, (self.x0 - LEFT + 24, TOP - 44), curve.title, 28, INK, "lm")
        text(self.pen, ((self.x0 + self.x1) / 2, BOTTOM + 66), curve.below, 28, INK, "mm")
        for value in ticks(self.top_y):
            left, y = self.at(0, value)
            self.line([(left, y), (self.x1, y)], GRID, 1.5)
            text(self.pen, (left - 14, y), f"{value:g}", 26, FAINT, "rm")
        for value in ticks(self.top_x):
            x, y = self.at(value, 0)
            self.line([(x, y), (x, y + 8)], FAINT, 1.5)
            text(self.pen, (x, y + 28), f"{value:g}", 26, FAINT, "mm")
        self.line([(self.x0, BOTTOM), (self.x1, BOTTOM)], FAINT, 2)
        points = [self.at(x, y) for x, y in zip(curve.x, curve.y, strict=True)]
        self.line(points[:-1], colour, 4)
        self.dots(points[-2], points[-1], colour)

    def dots(self, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        """A dotted line, and a ring at its end."""
        count = max(2, round(math.dist(start, end) / 10))
        for n in range(count):
            x, y = (a + (b - a) * n / count for a, b in zip(start, end, strict=True))
            self.pen.circle((x * FINE, y * FINE), 2 * FINE, colour)
        self.pen.circle(
            (end[0] * FINE, end[1] * FINE), 6 * FINE, PAPER, colour, width=round(3 * FINE)
        )
