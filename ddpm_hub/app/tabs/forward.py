"""The Forward tab: noise an image step by step, and the endpoints `/forward` and `/schedule`.

In the room: components, wiring, and the border where uploads come in and errors go out as one
sentence. Not in the room: maths (`ddpm_hub.app.process`) and drawing (widgets/scrubber.js).
"""

import base64
import binascii
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder, is_in_or_equal

from ddpm_hub.app import process
from ddpm_hub.app.tabs.endpoint import endpoint
from ddpm_hub.app.widgets.scrubber import scrubber
from ddpm_hub.errors import DataError, DDPMHubError

MAX_URI = 7_000_000  # characters of a data URI: the 5 MB that an upload may have
NAME_LENGTH = 60

INTRODUCTION = """
Noise takes over, one small step at a time. Drag **t**: the picture is the sum of what is left of
the image and of the noise so far, with one fixed noise picture. Training teaches a network to
look at the left-hand picture and tell the two apart.
"""


def build() -> None:
    """Fill the surrounding gr.Tab, and register the tab's two endpoints."""
    gr.Markdown(INTRODUCTION, elem_id="forward-intro")
    start = {"curves": process.all_curves(process.MAX_TIMESTEPS), "samples": process.samples()}
    widget = scrubber(start, elem_id="forward-scrubber")
    # the widget's own Upload tile presses this one: Gradio checks and stores what comes in
    upload = gr.UploadButton(
        "Upload", file_types=["image"], visible="hidden", elem_id="forward-upload"
    )
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    widget.rebuild(rebuild, None, widget, trigger_mode="always_last", **quiet)
    upload.upload(take_upload, upload, widget, **quiet)
    endpoint(forward, "forward")
    endpoint(schedule_curves, "schedule")


def rebuild(event: gr.EventData) -> dict[str, Any]:
    """The widget asks for a chain of another length: new curves, or a sentence why not."""
    try:
        return {"curves": process.all_curves(event.timesteps)}
    except DDPMHubError as error:
        return complaint(error)


def take_upload(path: str) -> dict[str, Any]:
    """A picture that Gradio has stored: its pixels, or a sentence why not."""
    try:
        return {"image": process.pixels(process.small_picture(path), Path(path).name[:NAME_LENGTH])}
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
