"""Strips as a Gradio component: labelled pictures in rows and columns, with or without a slider.

In the room: the component and the message it takes. The behaviour is strips.js, the look
strips.css. Not in the room: where the pictures come from (app/experiments/, whose `Board` writes
these messages).

A message (the component's value) is a dict; every key but `run` and `state` may be left out:
    run       id of the result; a new id clears what is shown
    state     "waiting" | "running" | "done" | "stopped" | "error"
    message   a sentence for the status line
    progress  0 .. 1, how much of the work is done; without it no bar
    rows      [{label, kind}]: kind "x0" or "xt" gives the quantity's colour and sign, "" neither
    columns   [{label, kind, notes, total}]: `notes` are short lines under the column, `total` its
              number of frames (1 if left out)
    pictures  [{row, column, index, src, t}]: `src` a data URI of native size (CSS enlarges it);
              `index` the frame, 0 where there is one; a picture of the same place and index is
              replaced; `t` (for the slider's words) may be left out
    complete  true: `pictures` are all there are; a browser that merged two updates loses none
All texts are plain text. Frames are kept in the browser, so the slider never asks the server; it
moves all columns together, those of another length by the same fraction.

The element says what it shows: data-run, data-state, and with a slider data-index. Each picture is
an <img> with data-row and data-column, so a test reads its pixels from `src`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

SCRIPT = Path(__file__).with_suffix(".js")


def strips(
    *,
    label: str,
    idle: str,
    scrubber: bool = False,
    turn: bool = False,
    elem_id: str | None = None,
) -> gr.HTML:
    """Rows and columns of pictures. With a `scrubber` one slider moves all columns through time.

    label: what a screen reader calls it. idle: a sentence for the place where pictures will be.
    turn: on a phone rows become columns, for strips too long to be seen there.
    """
    setup: dict[str, Any] = {"label": label, "idle": idle, "scrubber": scrubber, "turn": turn}
    # A function and not a subclass: for each subclass Gradio writes a .pyi file into the package.
    return gr.HTML(
        None,
        html_template="",
        js_on_load=SCRIPT.read_text(encoding="utf-8"),
        setup=setup,
        elem_id=elem_id,
        apply_default_css=False,
    )
