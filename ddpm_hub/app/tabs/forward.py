"""The Forward tab: noise an image step by step, and the endpoints `/forward` and `/schedule`.

In the room: components, wiring, and the border where uploads come in and errors go out as one
sentence. Not in the room: maths (`ddpm_hub.app.process`), what the network sees
(`ddpm_hub.app.glimpse`) and drawing (widgets/scrubber.js). No torch.
"""

import base64
import binascii
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.utils import get_upload_folder, is_in_or_equal

from ddpm_hub.app import glimpse, limits, models, process
from ddpm_hub.app.tabs.common import GPU, LIGHT, QUIET
from ddpm_hub.app.tabs.endpoint import endpoint
from ddpm_hub.app.widgets.scrubber import scrubber
from ddpm_hub.errors import DataError, DDPMHubError

MAX_URI = 7_000_000  # characters of a data URI: the 5 MB that an upload may have

INTRODUCTION = """
Noise takes over, one small step at a time. Drag **t**: the picture is the sum of what is left of
the image and of the noise so far, with one fixed noise picture. Training teaches a network to
look at the left-hand picture and tell the two apart: ask it what it sees, or let it denoise.
"""


def build(parts: dict[str, Component], tabs: gr.Tabs) -> None:
    """Fill the surrounding gr.Tab, and register the tab's two endpoints.

    parts: of the header; its model is the one that is asked, and its start is set by the button
    that goes to the tab "sample" of `tabs`.
    """
    gr.Markdown(INTRODUCTION, elem_id="forward-intro")
    model = parts["model"]
    widget = scrubber(_greeting(model.value), elem_id="forward-scrubber")
    # the widget's own Upload tile presses this one: Gradio checks and stores what comes in
    upload = gr.UploadButton(
        "Upload", file_types=["image"], visible="hidden", elem_id="forward-upload"
    )
    last = {"trigger_mode": "always_last"}
    widget.rebuild(rebuild, model, widget, **last, **QUIET)
    widget.glimpse(look, model, widget, **last, **QUIET, **GPU)
    widget.denoise(begin, model, [widget, parts["start"], tabs], concurrency_limit=16, **QUIET)
    model.change(follow, model, widget, **LIGHT)
    upload.upload(take_upload, upload, widget, **QUIET)
    endpoint(forward, "forward")
    endpoint(schedule_curves, "schedule")


def _greeting(model: str) -> dict[str, Any]:
    own = follow(model)  # first: it loads the model
    curves = _curves(model, process.MAX_TIMESTEPS)
    return {"curves": curves, "samples": process.samples(), **own}


def _curves(model: str, timesteps: Any) -> dict[str, Any]:
    """All schedules of that length; the model's own too, unless it is away: they need no model."""
    diffusion = models.load(model) if models.holds(model) else None
    return process.curves_beside(diffusion, timesteps)


# ---- what the widget asks for: anybody may send anything ----------------------------------------
def follow(model: str) -> dict[str, Any]:
    """Another model is in use: which schedule is its own, how long its chain, for the widget."""
    try:
        diffusion = models.load(model)
    except DDPMHubError as error:
        return complaint(error)
    facts = {"title": glimpse.title(model), "timesteps": diffusion.num_timesteps}
    return {"model": facts | {"schedule": process.schedule_of(diffusion)}}


def rebuild(model: str, event: gr.EventData) -> dict[str, Any]:
    """The widget asks for a chain of another length: new curves, or a sentence why not."""
    try:
        return {"curves": _curves(model, _said(event, "timesteps"))}
    except DDPMHubError as error:
        return complaint(error)


def look(model: str, event: gr.EventData) -> dict[str, Any]:
    """What the network sees in what is on the screen, or a sentence why it cannot."""
    try:
        ticket = limits.whole("ticket", _said(event, "ticket"), 0, limits.MAX_SEED)
        return {"glimpse": glimpse.look(model, glimpse.scene(event._data)) | {"ticket": ticket}}
    except DDPMHubError as error:
        return {"glimpse": complaint(error)}


def begin(model: str, event: gr.EventData) -> tuple:
    """What is on the screen becomes the start of the next run in Sample, and Sample is shown."""
    try:
        key = glimpse.begin(model, glimpse.scene(event._data))
    except DDPMHubError as error:
        return {"glimpse": complaint(error)}, gr.skip(), gr.skip()
    return gr.skip(), key, gr.Tabs(selected="sample")


def _said(event: gr.EventData, name: str) -> Any:
    """That entry of what the widget sent, if it sent one."""
    return event._data.get(name) if isinstance(event._data, dict) else None


def take_upload(path: str) -> dict[str, Any]:
    """A picture that Gradio has stored: its pixels, or a sentence why not."""
    try:
        name = Path(path).name[: process.NAME_LENGTH]
        return {"image": process.pixels(process.small_picture(path), name)}
    except DDPMHubError as error:
        return complaint(error)


def complaint(error: Exception) -> dict[str, str]:
    """A message that the widget shows; the nonce makes the same fault twice two messages."""
    return {"error": f"{error}.", "nonce": secrets.token_hex(4)}


def forward(image: str | dict, timesteps: int = 1000, schedule: str = "linear", t: int = 0) -> dict:
    """Noise an image by Eq. 4 of DDPM: x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps.

    Args:
        image: a picture, as `handle_file(...)` or as a base64 data URI; PNG, JPEG, WebP, GIF, BMP.
        timesteps: length T of the chain, 2 to 1000 (linear: 20 to 1000).
        schedule: linear, cosine or sigmoid.
        t: time step, 0 (almost clean) to T - 1 (noise).

    Returns:
        t, alpha_bar, snr_db (decibels) and image: x_t as a PNG data URI, at most 64 x 64.
    """
    try:
        picture = process.small_picture(picture_source(image))
        return asdict(process.noised(picture, timesteps, schedule, t))
    except DDPMHubError as error:
        raise gr.Error(str(error), print_exception=False) from error


def schedule_curves(schedule: str = "linear", timesteps: int = 1000) -> dict:
    """A noise schedule's curves over t = 0 .. T-1.

    Args:
        schedule: linear, cosine or sigmoid.
        timesteps: length T of the chain, 2 to 1000 (linear: 20 to 1000).

    Returns:
        beta, alpha_bar and snr_db (decibels), each a list of T numbers.
    """
    try:
        return asdict(process.curves(schedule, timesteps))
    except DDPMHubError as error:
        raise gr.Error(str(error), print_exception=False) from error


def picture_source(image: str | dict) -> str | bytes:
    """What a caller sent as `image` -> a path inside Gradio's upload folder, or bytes.

    A path as text is refused whatever it names: only Gradio's own uploads are opened.
    """
    if isinstance(image, str) and image.startswith("data:image/"):
        return _data_uri_bytes(image)
    if isinstance(image, dict) and isinstance(image.get("path"), str):
        path = Path(image["path"]).resolve()
        if is_in_or_equal(path, Path(get_upload_folder()).resolve()):
            return str(path)
    raise DataError("image is neither an uploaded file nor a data URI: send handle_file(path)")


def _data_uri_bytes(uri: str) -> bytes:
    if len(uri) > MAX_URI:
        raise DataError(f"image has {len(uri):,} characters, more than {MAX_URI:,}: scale it down")
    head, _, body = uri.partition(",")
    if not head.endswith(";base64"):
        raise DataError("image is a data URI that is not base64: encode it as base64")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise DataError("image is a data URI with broken base64: encode it again") from None
