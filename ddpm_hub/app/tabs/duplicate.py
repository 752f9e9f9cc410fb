"""A way out for who needs more than this Space has: a copy of it, on hardware of their own.

In the room: when it is offered, and its words. Shown on a Space without a GPU of its own, nowhere
else: there is no button that does nothing.
"""

from __future__ import annotations

import html
import os
from urllib.parse import quote

import gradio as gr

from ddpm_hub.app import chunks, machine

LENT = (
    "<b>The GPU is lent.</b> A training takes it for {seconds:.0f} s at a time out of your own "
    "daily minutes of ZeroGPU. When they are used up it pauses: Resume goes on from there."
)
CPU = "<b>No GPU here.</b> Trainings share {cores}, one after another."
COPY = (
    'For longer ones, <a href="{url}" target="_blank" rel="noopener">duplicate this Space</a> and '
    "choose hardware of your own."
)


def note() -> gr.HTML | None:
    """The offer, in the surrounding column; None where there is nothing to be said."""
    words = offer()
    return words and gr.HTML(
        f'<div class="ddpm-chip"><p>{words}</p></div>',
        elem_id="duplicate",
        apply_default_css=False,
    )


def offer() -> str | None:
    """What the page says, as HTML; None at home, and on a Space that has a GPU."""
    space, kind = machine.space(), machine.kind()
    if space is None or kind not in ("cpu", "ZeroGPU"):
        return None
    cores = os.cpu_count() or 1
    shared = "one CPU core" if cores == 1 else f"{cores} CPU cores"
    why = LENT.format(seconds=chunks.chunk_seconds()) if kind == "ZeroGPU" else CPU
    url = f"https://huggingface.co/spaces/{quote(space)}?duplicate=true"
    return f"{why.format(cores=shared)} {COPY.format(url=html.escape(url))}"
