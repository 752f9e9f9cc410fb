"""The chart of a training as a Gradio component: losses, where they come from, and figures.

In the room: the component and the message it takes. The behaviour is curve.js, the look curve.css.
Not in the room: where the numbers come from (job.py, reports.py), the pictures (timeline.py).

A message (the component's value) is a dict:
    run      id of the training; a new id clears the chart
    state    "queued" | "preparing" | "running" | "paused" | "stopped" | "done" | "error" |
             "interrupted"
    message  a sentence about the state; may be empty
    name     what trains on what
    total    optimiser steps asked for
    count    losses there are: the browser then has exactly so many, whatever it had before
    from     index of the first loss of this message; if the browser has fewer, it waits for the
             next message, which it asks for by what it has
    losses   from `from` on, in step order; null where a loss was not finite
    figures  {images_per_second, eta_seconds, grad_norm, lr, skipped, loss_by_t, device}
The element says what it has: data-run, data-count.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

SCRIPT = Path(__file__).with_suffix(".js")


def curve(*, elem_id: str = "curve") -> gr.HTML:
    """State, figures, the loss on a log axis with its smoothed line, and the loss by time."""
    # A function and not a subclass: for each subclass Gradio writes a .pyi file into the package.
    return gr.HTML(
        None,
        html_template="",
        js_on_load=SCRIPT.read_text(encoding="utf-8"),
        elem_id=elem_id,
        apply_default_css=False,
    )
