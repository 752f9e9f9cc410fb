"""Files of a run: its picture with what made it inside, its film, a strip of moments.

In the room: formats, file names, what a file says of its run. Not in the room: the runs themselves
(runs.py), how pixels and metadata are written (`ddpm_hub.images`), how a file brings its run back
(recall.py). No torch, no gradio here.
"""

from __future__ import annotations

import base64
import io
import threading
from functools import partial

from PIL import Image

from ddpm_hub import images
from ddpm_hub.app import models, recall, runs
from ddpm_hub.version import __version__

FILM_FRAMES = 60  # of a downloaded film: bounds the seconds it costs
FILM_SIDE = 384  # pixels of each of its two pictures, at most: bounds seconds and bytes, too
FILM_FPS = 12
STRIP_FRAMES = 8
STRIP_SIDE = 256  # of each picture of a strip, at most
PICTURE_SIDE = 512  # a 28-pixel PNG is no keepsake: whole-number enlargement up to here
MIME = {"png": "image/png", "webp": "image/webp", "gif": "image/gif", "strip": "image/png"}

_desks = threading.BoundedSemaphore(2)  # films and strips made at once: each takes a core's time


def export(query: dict) -> dict:
    """A file of a run: {run, format, image} -> {name, mime, data} (base64) or {error}.

    png: the last picture (of a stopped run, what the network last believed). webp, gif: x0 beside
    x_t as a film. strip: eight moments side by side, x0 above x_t, as PNG. `image` is the number of
    one image of the batch, from 0; none, or -1: all. Each carries what made it.
    """
    run = runs.STORE.get(query.get("run")) if isinstance(query, dict) else None
    if run is None or not run.frames:
        return {"error": "This run is no longer kept on the server: run it again."}
    format, only = query.get("format"), query.get("image")
    if format not in list(MIME):
        return {"error": f"The formats are {', '.join(MIME)}."}
    only = only if isinstance(only, int) and 0 <= only < run.request.batch else None
    if format == "png":  # costs nothing worth waiting for
        data = picture(run, only)
    elif not _desks.acquire(blocking=False):
        return {"error": "The server is making files for others: try again in a few seconds."}
    else:
        try:
            data = _MAKERS[format](run, only)
        finally:
            _desks.release()
    return {
        "name": _name(run, format, only),
        "mime": MIME[format],
        "data": base64.b64encode(data).decode("ascii"),
    }


def picture(run: runs.Run, only: int | None = None) -> bytes:
    """The run's result as PNG; `images.read_metadata` gives back what made it."""
    last = run.frames[-1]
    image = _pane(run, last, "x" if last["done"] else "x0", only)
    shown = images.enlarge(image, PICTURE_SIDE)
    return images.save_png(shown, about(run, only) | {"enlarged": shown.width // image.width})


def film(run: runs.Run, only: int | None = None, format: str = "webp") -> bytes:
    """The run as an endless animation, x0 on the left and x_t on the right."""
    frames = [
        _sheet([[_shown(_pane(run, frame, name, only), 256, FILM_SIDE) for name in ("x0", "x")]])
        for frame in _moments(run, FILM_FRAMES)
    ]
    return images.animate(frames, format, FILM_FPS, about(run, only))


def strip(run: runs.Run, only: int | None = None) -> bytes:
    """Eight moments from the first step to the last as one PNG, x0 above x_t."""
    moments = _moments(run, STRIP_FRAMES)
    rows = [
        [_shown(_pane(run, frame, name, only), 128, STRIP_SIDE) for frame in moments]
        for name in ("x0", "x")
    ]
    times = {"shows": "x0 above x_t", "times": [frame["t"] for frame in moments]}
    return images.save_png(_sheet(rows), about(run, only) | times)


def about(run: runs.Run, only: int | None = None) -> dict:
    """What a file says of its run: all that `recall.from_picture` needs, and no key of anybody."""
    last = run.frames[-1]
    return {
        **run.request._asdict(),
        "model": models.public_name(run.request.model),
        "midway": recall.midway(run),
        "turns": [list(turn) for turn in run.plan.turns],  # (frames before it, seed of its noise)
        "image": only,
        "total": last["total"],
        "step": last["index"] + 1,
        "shows": "x" if last["done"] else "x0",
        "device": models.describe_device(),
        "ddpm_hub_version": __version__,
    }


_MAKERS = {  # of what takes a while
    "webp": partial(film, format="webp"),
    "gif": partial(film, format="gif"),
    "strip": strip,
}


def _name(run: runs.Run, format: str, only: int | None) -> str:
    parts = ["ddpm", run.request.sampler, run.frames[-1]["total"], f"seed{run.request.seed}"]
    parts += [] if only is None else [f"image{only + 1}"]
    ending = "-strip.png" if format == "strip" else f".{format}"
    return "-".join(map(str, parts)) + ending


def _moments(run: runs.Run, count: int) -> list[dict]:
    """At most so many frames, evenly from the first to the last."""
    known = list(run.frames)
    count = min(count, len(known))
    return [known[round(i * (len(known) - 1) / max(count - 1, 1))] for i in range(count)]


def _pane(run: runs.Run, frame: dict, name: str, only: int | None) -> Image.Image:
    """The batch as a grid, or one image of it, as many pixels as it has."""
    grid = Image.open(io.BytesIO(base64.b64decode(frame[name].split(",", 1)[1])))
    if only is None:
        return grid
    columns = images.grid_columns(run.request.batch)
    width = grid.width // columns
    height = grid.height // -(-run.request.batch // columns)
    left, top = only % columns * width, only // columns * height
    return grid.crop((left, top, left + width, top + height))


def _shown(image: Image.Image, least: int, most: int) -> Image.Image:
    """Enlarged by a whole number until the shorter side has `least`; never more than `most`."""
    image = images.enlarge(image, least)
    image.thumbnail((most, most))
    return image


def _sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """Pictures of one size in rows, on white."""
    first = rows[0][0]
    gap = max(2, first.width // 16)
    size = (
        len(rows[0]) * (first.width + gap) - gap,
        len(rows) * (first.height + gap) - gap,
    )
    sheet = Image.new(first.mode, size, "white")
    for down, row in enumerate(rows):
        for across, image in enumerate(row):
            sheet.paste(image, (across * (image.width + gap), down * (image.height + gap)))
    return sheet
