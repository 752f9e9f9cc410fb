"""The Sample timeline as a Gradio component: two panes over one time axis, all frames kept in JS.

In the room: the component and the message it takes. The behaviour is timeline.js, the look
timeline.css. Not in the room: where the frames come from (engine.py).

A message (the component's value) is a dict; every key but `state` may be left out:
    run      id of the run; a new id clears the frames
    state    "waiting" | "starting" | "running" | "done" | "stopped" | "error"
    message  a sentence for the status line, instead of the one made from the newest frame
    meta     {total, batch, columns, seed, sampler, device, ...}: the same for all frames
    frames   [{index, total, t, steps_per_second, change, x0, x}]: stored by index, once
    kept     with "done": all indexes of the run; the browser asks `frames` for those it missed
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gradio as gr

SCRIPT = Path(__file__).with_suffix(".js")


def timeline(*, frames: Callable, export: Callable, elem_id: str = "timeline") -> gr.HTML:
    """Panes, slider, sparkline and downloads of a sampling run.

    `frames({run, missing})` gives a message with frames the browser lacks; `export({run, format})`
    gives {name, mime, data} (base64) or {error}. Both run outside the queue and must be cheap.
    """
    # A function and not a subclass: for each subclass Gradio writes a .pyi file into the package.
    return gr.HTML(
        None,
        html_template="",
        js_on_load=SCRIPT.read_text(encoding="utf-8"),
        server_functions=[frames, export],
        elem_id=elem_id,
        apply_default_css=False,
    )
