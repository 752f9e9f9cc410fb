"""Shared latents: what is decided when, by continuing one state several times.

In the room: components. What is drawn is experiments/latents.py's. No torch.
"""

from __future__ import annotations

import gradio as gr

from ddpm_hub.app.experiments import limits
from ddpm_hub.app.experiments.latents import continuations
from ddpm_hub.app.tabs.lab import tool
from ddpm_hub.app.widgets.strips import strips

INTRO = """
One run is held at four moments, and from each the rest is drawn four times with other noise. Held
early, the continuations have little in common; held late, only details differ (section 4.3,
Figure 7).
"""


def build(demo: gr.Blocks, model: gr.State) -> None:
    """Fill the surrounding gr.Tab; `model` holds the name of the model that is asked."""
    tool.intro(INTRO)
    with gr.Row(equal_height=False, elem_classes="ddpm-row"):
        with gr.Column(scale=3, min_width=290, elem_classes="ddpm-controls ddpm-card"):
            steps = gr.Radio(
                list(limits.CHAIN_STEPS),
                value=100,
                label="Steps of the whole run",
                elem_classes="ddpm-segments",
                elem_id="continuations-steps",
            )
            seed = tool.seed_box("continuations")
            run_stop = tool.buttons("continuations")
        with gr.Column(scale=8, min_width=340, elem_classes="ddpm-first"):
            panes = strips(
                label="Continuations of four shared states",
                idle="Press Run: first the shared run, then what may become of it.",
                elem_id="continuations-strips",
            )

    def start(*values):
        return continuations(limits.continuations_request(*values))

    tool.wire(start, [model, steps, seed], run_stop, panes)
