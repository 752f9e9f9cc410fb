"""Pictures to choose from, and a board of the model's own pixels to paint on, as a component.

In the room: the component, its setup and its messages. The behaviour is pad_board.js and
pad.js, the look pad.css. Not in the room: uploads (the hidden gr.UploadButton that the setup
names), and what is done with the picture (experiments/).

One pixel of the board is one pixel of the model: what is painted is what is computed, with no
resampling between, and a mask has no soft border. Pixels and no files come in, so there is nothing
to decode. (gr.ImageEditor paints on a picture of its own size, sends files, and needs WebGL.)

The setup, given once:
    mode      "pick" (choose only), "sketch" (paint greys) or "mask" (mark what shall be redrawn)
    label     what this is, for who cannot see it
    width, height, channels  of the board: the model's
    garments  [{name, width, height, channels, data}]: pictures to start from, base64 of the bytes
    upload    elem_id of the gr.UploadButton that carries files
The value, as Python gets it: {picture, mask}, base64 of the bytes (height, width, channels) and
(height, width; 255 where painted; only in mode "mask"). `app/experiments/canvas.py` reads it.
A message to it: {image: {name, width, height, channels, data}} or {error: a sentence, nonce}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent
SCRIPTS = ("pad_board.js", "pad.js")  # gr.HTML takes one script
MODES = ("pick", "sketch", "mask")


def pad(setup: dict[str, Any], *, elem_id: str) -> gr.HTML:
    """Thumbnails, an upload tile and, unless the mode is "pick", a board with brushes."""
    # A function and not a subclass: for each subclass Gradio writes a .pyi file into the package.
    return gr.HTML(
        None,
        html_template="",
        js_on_load="\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        setup=setup,
        elem_id=elem_id,
        apply_default_css=False,
    )
