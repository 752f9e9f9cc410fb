"""The forward-process scrubber: a gr.HTML component that redraws x_t in the browser.

In the room: the component, and the message it takes as its value. Not in the room: its drawing
(scrubber_draw.js), its hands and keys (scrubber.js), what it asks of the network
(scrubber_bridge.js), its looks (scrubber.css, scrubber.html) and the numbers in the message
(`ddpm_hub.app.process`, `ddpm_hub.app.glimpse`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def scrubber(value: dict[str, Any], **options: Any) -> gr.HTML:
    """Drag t and watch x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps, without the server.

    Its value is a message, a dict with any of these keys; what is missing stays as it was:
    `samples` (list of pixels), `image` (pixels of an upload), `curves` (schedule name -> beta,
    alpha_bar, snr_db lists of one length T), `model` (title, timesteps and schedule, the row of
    the curves that is the model's own, or None), `glimpse` (the answer of `glimpse.look`, or an
    `error`), `error` (a sentence to show). See `process.pixels`.

    Its events: `rebuild` carries `timesteps`, the chain length somebody asked for; `glimpse` and
    `denoise` carry what `glimpse.scene` reads, the first once the slider is let go, and never
    while it is dragged. A function and not a subclass: Gradio writes a .pyi file beside the source
    of every component class.
    """
    return gr.HTML(
        value=None,
        greeting=value,  # a prop, which no later message overwrites before the tab is first opened
        html_template=_read("scrubber.html"),
        css_template=_read("scrubber.css"),
        js_on_load="".join(_read(f"scrubber{part}.js") for part in ("_draw", "_bridge", "")),
        apply_default_css=False,
        **options,
    )
