"""The line that says where pictures are made: device, number formats, memory in use.

In the room: the component, and when it asks: once the page is there, and after each run of it. The
behaviour is device.js, the look device.css.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gradio as gr

SCRIPT = Path(__file__).with_suffix(".js")


def device(line: Callable[[object], str]) -> gr.HTML:
    """One line of text, `line(None)`, which is asked outside the queue and must be cheap."""
    # A function and not a subclass: for each subclass Gradio writes a .pyi file into the package.
    return gr.HTML(
        None,
        html_template="",
        js_on_load=SCRIPT.read_text(encoding="utf-8"),
        server_functions=[line],
        setup={"ask": line.__name__},
        elem_id="device-line",
        apply_default_css=False,
    )
