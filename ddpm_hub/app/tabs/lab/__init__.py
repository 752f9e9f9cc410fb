"""The Lab tab: small experiments with the loaded network, one sub-tab each.

In the room: the list of tools. Each tool is a module here with a `build` that fills the
surrounding gr.Tab; what it computes lies in app/experiments/, what all have is in tool.py. No
torch.
"""

from __future__ import annotations

import gradio as gr

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


def build(demo: gr.Blocks, model: gr.State | None = None) -> None:
    """Fill the surrounding gr.Tab with a sub-tab for each tool.

    model: the name of the model that the first four ask; the bundled one if None. The others ask
    the bundled one, whose data they have.
    """
    model = model or gr.State("bundled")
    with gr.Tabs(overflow_behavior="wrap", elem_id="lab-tabs", elem_classes="ddpm-subtabs"):
        for name, title, tool in (
            ("compare", "Compare samplers", compare),
            ("fewsteps", "How few steps", fewsteps),
            ("continuations", "Shared latents", continuations),
            ("interpolation", "Interpolate", interpolation),
        ):
            with gr.Tab(title, id=f"lab-{name}", elem_id=f"lab-{name}"):
                tool.build(demo, model)
        for name, title, tool in (
            ("coding", "Rate and distortion", coding),
            ("losses", "Loss by t", losses),
            ("sketch", "From a sketch", sketch),
            ("inpaint", "Inpaint", inpaint),
        ):
            with gr.Tab(title, id=f"lab-{name}", elem_id=f"lab-{name}"):
                tool.build(demo)
