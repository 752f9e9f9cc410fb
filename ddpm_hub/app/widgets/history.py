"""The history as a Gradio component: past runs in the visitor's own browser, and ways back to them.

In the room: the component and the messages between it and Python. The behaviour is history.js, what
is remembered history_store.js, the look history.css. Not in the room: what a link or a picture
means (app/recall.py), the form that is set (tabs/history.py).

It hears of a run by the event `ddpm:run` of the document: {run, state, thumbnail}.
It triggers "recall" with {run, link, why}: a run that may still be kept here, the link to draw it
again, and the sentence why there is none; all come from a browser, so from anybody.
A message (the component's value) is {say | error, shown, nonce}: a sentence, and the id of the run
that the panes show now.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import gradio as gr

HERE = Path(__file__).parent
SCRIPTS = ("history_store.js", "history.js")  # gr.HTML takes one script


def history(
    *,
    describe: Callable,
    read: Callable,
    export: Callable,
    keys: tuple[str, ...],
    most_bytes: int,
    elem_id: str = "history",
) -> gr.HTML:
    """The strip of runs, with links, comparison, and a place to drop pictures.

    `describe({run})` gives {link, why, facts} or None, `read({picture})` {link} or {error},
    `export({run, format})` {data} or {error}: outside the queue, so they must be cheap.
    keys: of a link, any of which means that the page is to follow it.
    """
    # A function and not a subclass: for each subclass Gradio writes a .pyi file into the package.
    return gr.HTML(
        None,
        html_template="",
        js_on_load="\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        server_functions=[describe, read, export],
        setup={"keys": keys, "most_bytes": most_bytes, "space": os.environ.get("SPACE_ID", "")},
        elem_id=elem_id,
        apply_default_css=False,
    )
