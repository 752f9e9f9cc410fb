"""The Lab tab: small experiments with the loaded network, one sub-tab each.

In the room: the list of tools. Each tool is a module here with a `build` that fills the
surrounding gr.Tab; what it computes lies in app/experiments/, what all have is in tool.py. No
torch.
"""

from __future__ import annotations

import html

import gradio as gr

from ddpm_hub.app.models import title_of
from ddpm_hub.app.tabs.lab import (
    coding,
    compare,
    continuations,
    fewsteps,
    inpaint,
    interpolation,
    losses,
    sketch,
)
from ddpm_hub.app.tabs.lab.tool import LIGHT

ASKED = "Compare samplers, How few steps, Shared latents and Interpolate ask <b>{}</b>."
BOUND = (
    '<p class="hub-note">This tool asks the bundled model: the pictures it works on are garments '
    "of 28 x 28 pixels, as that one draws them.</p>"
)
BOUND_TOOLS = 4


def build(demo: gr.Blocks, tab: gr.Tab, model: gr.State) -> None:
    """Fill `tab` with a sub-tab for each tool.

    model: the name of the model that the first four ask. The others ask the bundled one, whose
    data they have; while another is loaded, each says so.
    """
    says = gr.HTML(visible=False, elem_id="lab-model")
    notes: list[gr.HTML] = []
    built: dict[str, gr.Slider | None] = {}
    with gr.Tabs(overflow_behavior="wrap", elem_id="lab-tabs", elem_classes="ddpm-subtabs"):
        for name, title, tool in (
            ("compare", "Compare samplers", compare),
            ("fewsteps", "How few steps", fewsteps),
            ("continuations", "Shared latents", continuations),
            ("interpolation", "Interpolate", interpolation),
        ):
            with gr.Tab(title, id=f"lab-{name}", elem_id=f"lab-{name}"):
                built[name] = tool.build(demo, model)
        for name, title, tool in (
            ("coding", "Rate and distortion", coding),
            ("losses", "Loss by t", losses),
            ("sketch", "From a sketch", sketch),
            ("inpaint", "Inpaint", inpaint),
        ):
            with gr.Tab(title, id=f"lab-{name}", elem_id=f"lab-{name}"):
                notes.append(gr.HTML(BOUND, visible=False, elem_classes="lab-bound"))
                tool.build(demo)
    t = built["interpolation"]
    for event in (tab.select, model.change):
        event(_follow, [model, t], [says, t, *notes], **LIGHT)


def _follow(model: str, t: int) -> list:
    """Which model the first four ask, its range of t, and whether the others must say anything."""
    other = model != "bundled"
    text = f'<p class="hub-note">{ASKED.format(html.escape(title_of(model)))}</p>'
    said = gr.update(value=text, visible=other)
    return [said, interpolation.levels(model, t), *[gr.update(visible=other)] * BOUND_TOOLS]
