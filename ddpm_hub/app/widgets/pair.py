"""Two pictures to choose, one on each side, as a Gradio component.

In the room: the component and its value. The behaviour is pair.js, the look pair.css. Not in the
room: the pictures (experiments/garments.py), and pictures of a visitor's own (pad.py).

Given once: `sides`, two labels, and `items`, [{index, name, src}], what both sides offer.
The value is {pair: [index, index], extra: [item, item]}: what is chosen, and, if it was drawn by
chance, the pictures that are not among the items. Python reads `pair`, and may set both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

SCRIPT = Path(__file__).with_suffix(".js")


def pair(items: list[dict[str, Any]], value: dict[str, Any], elem_id: str) -> gr.HTML:
    """Two rows of thumbnails; in each, one is chosen."""
    # A function and not a subclass: for each subclass Gradio writes a .pyi file into the package.
    return gr.HTML(
        value,
        html_template="",
        js_on_load=SCRIPT.read_text(encoding="utf-8"),
        setup={"items": items, "sides": ["From", "To"], "id": elem_id},
        elem_id=elem_id,
        apply_default_css=False,
    )
