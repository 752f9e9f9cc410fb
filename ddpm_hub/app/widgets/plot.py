"""A small chart with a cursor, and pictures that follow it, as a Gradio component.

In the room: the component, its setup and the message it takes. The behaviour is plot_draw.js and
plot.js, the look plot.css. Not in the room: the numbers and pictures (experiments/), the words
(the tab that asks).

The setup, given once:
    label   what this is, for who cannot see it
    idle    the status line before the first run
    charts  [{title, kind: "bars" | "line", x: {key, label, even}, y: {label, log}, series: [{key,
            name, colour}]}]: `key` names a value of a point, `colour` one of theme.css (x0, xt,
            third); `even` puts all points at the same distance, with x as a label; `log` is how y
            starts: true or false gives a button that changes it, none gives no button. Bars pale
            beyond the cursor
    panes   [{key, caption, label, colour}]: `key` names a picture of a point; the caption is HTML
    start   where the cursor rests until somebody moves it: a share of the points, 0 .. 1

A message (the component's value) is a dict; every key but `run` and `state` may be left out:
    run      id of the run; a new id clears the points
    state    "waiting" | "running" | "done" | "stopped" | "error"
    message  a sentence for the status line
    progress 0 .. 1, how much of the work is done
    points   [{index, text, values: {key: number}, pictures: {key: data URI}}]: stored by index; one
             that comes again replaces its values and text, and keeps its pictures unless it has
             new ones. `text` is shown, and read aloud, while the cursor is there
    complete true: `points` are all there are; a browser that merged two updates loses none
Points may come without pictures: the panes then show those of the nearest point that has some.
The element says what it shows: data-run, data-state, data-index, data-count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent
SCRIPTS = ("plot_draw.js", "plot.js")  # gr.HTML takes one script


def plot(setup: dict[str, Any], *, elem_id: str) -> gr.HTML:
    """One or two charts over the same points, with one cursor: pointer, finger, arrow keys."""
    # A function and not a subclass: for each subclass Gradio writes a .pyi file into the package.
    return gr.HTML(
        None,
        html_template="",
        js_on_load="\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        setup=setup,
        elem_id=elem_id,
        apply_default_css=False,
    )
