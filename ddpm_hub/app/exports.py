"""Files of a run: its picture with what made it inside, and its film.

In the room: formats and file names. Not in the room: the runs themselves (runs.py), pixels and
metadata (`ddpm_hub.images`). No torch, no gradio here.
"""

from __future__ import annotations

import base64
import io
import math

from PIL import Image

from ddpm_hub import images
from ddpm_hub.app import models, runs
from ddpm_hub.version import __version__

FILM_FRAMES = 60  # of a downloaded film: bounds the seconds it costs
FILM_FPS = 12
PICTURE_SIDE = 512  # a 28-pixel PNG is no keepsake: whole-number enlargement up to here
MIME = {"png": "image/png", "webp": "image/webp", "gif": "image/gif"}


def export(query: dict) -> dict:
    """A file of a run: {run, format: png | webp | gif} -> {name, mime, data} or {error}.

    PNG: the last picture (of a stopped run, what the network last believed), with the settings
    in its metadata. WebP and GIF: x0 beside x_t through at most 60 frames.
    """
    run = runs.STORE.get(query.get("run")) if isinstance(query, dict) else None
    format = query.get("format") if run else None
    if run is None or not run.frames:
        return {"error": "This run is no longer kept on the server: run it again."}
    if format not in MIME:
        return {"error": "The formats are png, webp and gif."}
    data = picture(run) if format == "png" else film(run, format)
    name = f"ddpm-{run.request.sampler}-{run.meta()['total']}-seed{run.request.seed}.{format}"
    return {"name": name, "mime": MIME[format], "data": base64.b64encode(data).decode("ascii")}


def picture(run: runs.Run) -> bytes:
    """The run's result as PNG; `images.read_metadata` gives back what made it."""
    last = run.frames[-1]
    image = _decode(last["x"] if last["done"] else last["x0"])
    shown = images.enlarge(image, PICTURE_SIDE)
    metadata = {
        **run.meta(),
        "model": models.public_name(run.request.model),
        "ddpm_hub_version": __version__,
        "shows": "x" if last["done"] else "x0",
        "step": last["index"] + 1,
        "enlarged": shown.width // image.width,
    }
    return images.save_png(shown, metadata)


def film(run: runs.Run, format: str) -> bytes:
    """The run as an endless animation, x0 on the left and x_t on the right."""
    known = list(run.frames)
    stride = max(1, math.ceil((len(known) - 1) / (FILM_FRAMES - 1)))
    chosen = [*known[:-1:stride], known[-1]]
    return images.animate([_side_by_side(frame) for frame in chosen], format, FILM_FPS)


def _side_by_side(frame: dict) -> Image.Image:
    x0, x = (images.enlarge(_decode(frame[name])) for name in ("x0", "x"))
    gap = x0.width // 16
    sheet = Image.new(x0.mode, (2 * x0.width + gap, x0.height), "white")
    sheet.paste(x0, (0, 0))
    sheet.paste(x, (x0.width + gap, 0))
    return sheet


def _decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))
