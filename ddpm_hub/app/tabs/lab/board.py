"""The picture that a tool begins with: garments, uploads, and a board to paint on.

In the room: the pad with its hidden upload button, and the border where files come in. Not in the
room: the pad itself (widgets/pad), and reading what was painted (experiments/canvas.py). No torch.
"""

from __future__ import annotations

import gradio as gr

from ddpm_hub.app.experiments import canvas
from ddpm_hub.app.tabs.forward import complaint
from ddpm_hub.app.tabs.lab import tool
from ddpm_hub.app.widgets.pad import pad
from ddpm_hub.errors import DDPMHubError


def board(name: str, mode: str, label: str) -> gr.HTML:
    """A pad of that mode, with uploads wired; its value is what `canvas.painted` reads."""
    channels, height, width = canvas.SHAPE
    widget = pad(
        {
            "mode": mode,
            "label": label,
            "channels": channels,
            "height": height,
            "width": width,
            "garments": canvas.garments(),
            "upload": f"{name}-upload",
        },
        elem_id=f"{name}-pad",
    )
    # the pad's own Upload tile presses this one: Gradio checks and stores what comes in
    upload = gr.UploadButton(
        "Upload", file_types=["image"], visible="hidden", elem_id=f"{name}-upload"
    )
    upload.upload(take_upload, upload, widget, **tool.QUIET)
    return widget


def take_upload(path: str) -> dict:
    """A picture that Gradio has stored, as the pad draws it, or a sentence why not."""
    try:
        return {"image": canvas.uploaded(path)}
    except DDPMHubError as error:
        return complaint(error)
