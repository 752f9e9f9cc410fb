"""The timeline as a Gradio component: one to three panes over one time axis, frames kept in JS.

In the room: the component, the message it takes, and its words for a sampling run and for a
training. The behaviour is timeline*.js, the look timeline.css. Not in the room: where the frames
come from (engine.py, job.py).

A message (the component's value) is a dict; every key but `state` may be left out:
    run      id of the run; a new id clears the frames, an empty one the pictures, too
    of       id of the run it branches from: where that is shown, it becomes the second row
    state    "waiting" | "starting" | "running" | "paused" | "done" | "stopped" | "error"
    message  a sentence for the status line, instead of the one made from the newest frame
    meta     {total, batch, columns, seed, sampler, device, ...}: the same for all frames; of a
             branch also {turns: [[after so many steps, seed], ...], noise_by}
    frames   [{index, t, steps_per_second, change, seed, x0, x, eps, labels}]: stored by index,
             once; without an `x` the second pane is hidden
    kept     with "done": all indexes of the run; the browser asks `frames` for those it missed
The element says what it shows: data-run, data-branch, data-index, and data-have, the frames before
a hole. Its event `branch` carries `run` and `index`: the frame that a branch is to leave from. When
a run is over, the document hears of it, once: event "ddpm:run", its detail {run, state, meta,
thumbnail (a data URI of at most 64 px)}; the example is not announced.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent
SCRIPTS = ("timeline_page.js", "timeline_row.js", "timeline.js")  # gr.HTML takes one script
SAMPLING: dict[str, Any] = {
    "label": "Sampling run: pictures and timeline",
    "title": "",  # in the place of a badge that says the state
    "idle": "Waking the model",
    "status": "",  # the status line, unless it is made of speed, seed and sampler
    "panes": [
        {
            "caption": "<b><i>x̂</i><sub>0</sub></b> what the network believes",
            "label": "Predicted x0",
        },
        {
            "caption": "<b><i>x</i><sub>t</sub></b> the picture so far",
            "label": "x_t, the state after the step",
        },
        {
            "caption": "<b><i>ε̂</i></b> the noise it finds",
            "label": "Predicted noise",
        },
    ],
    "hint": "how much <i>x̂</i><sub>0</sub> changes in each step",
    "where": "frame {n}/{total} · t {t}",
    "says": "frame {n} of {total}, t {t}",
    "frame_ms": 90,  # about eleven frames a second
    "resumes": False,  # whether a run that was stopped may go on
    "example": True,  # show the example until the first run
    "download": True,
}
TRAINING: dict[str, Any] = SAMPLING | {
    "label": "Training run: its pictures over time",
    "title": "Samples on the way",
    "idle": "always from the same noise: what changes is the network",
    "status": "grid {n} of {total}, always from the same noise",
    "panes": [
        {"caption": "<b>EMA</b> the averaged weights", "label": "Samples, averaged weights"},
        {"caption": "<b>raw</b> the weights as they are", "label": "Samples, raw weights"},
    ],
    "hint": "how much the pictures change from one grid to the next",
    "where": "step {t} · grid {n}/{total}",
    "says": "step {t}, grid {n} of {total}",
    "frame_ms": 350,
    "resumes": True,
    "example": False,
    "download": False,
}


def timeline(
    setup: dict[str, Any] = SAMPLING,
    *,
    frames: Callable | None = None,
    export: Callable | None = None,
    elem_id: str = "timeline",
) -> gr.HTML:
    """Panes, slider, sparkline and downloads of a run.

    `frames({run, missing})` gives a message with frames the browser lacks (for `example` and
    `kept`); `export({run, format})` gives {name, mime, data} (base64) or {error} (for
    `download`). Both run outside the queue and must be cheap.
    """
    # A function and not a subclass: for each subclass Gradio writes a .pyi file into the package.
    return gr.HTML(
        None,
        html_template="",
        js_on_load="\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        server_functions=[function for function in (frames, export) if function],
        setup=setup,
        elem_id=elem_id,
        apply_default_css=False,
    )
