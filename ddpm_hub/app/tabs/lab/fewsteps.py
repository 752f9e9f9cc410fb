"""How few steps are enough: one sampler and one seed, with fewer and more network calls.

In the room: components. What is drawn is experiments/compare.py's. No torch.
"""

from __future__ import annotations

import gradio as gr

from ddpm_hub import SAMPLERS
from ddpm_hub.app.experiments import limits
from ddpm_hub.app.experiments.compare import few_steps
from ddpm_hub.app.tabs.lab import tool
from ddpm_hub.app.widgets.strips import strips

INTRO = """
The paper draws each picture with 1000 calls of the network (section 4). Here one seed is drawn
with far fewer. Under a column: its calls, their seconds, and how far its pixels (0 to 1) are off
those of the last column, on average.
"""


def build(demo: gr.Blocks, model: gr.State) -> None:
    """Fill the surrounding gr.Tab; `model` holds the name of the model that is asked."""
    tool.intro(INTRO)
    with gr.Row(equal_height=False, elem_classes="ddpm-row"):
        with gr.Column(scale=3, min_width=290, elem_classes="ddpm-controls ddpm-card"):
            sampler = gr.Radio(
                list(SAMPLERS),
                value="ddim",
                label="Sampler",
                elem_classes=["ddpm-segments", "lab-wide"],
                elem_id="few-sampler",
            )
            steps = gr.CheckboxGroup(
                list(limits.FEW_STEPS),
                value=list(limits.FEW_STEPS[:-1]),
                label="Steps",
                elem_classes="ddpm-segments",
                elem_id="few-steps",
            )
            batch = gr.Radio(
                list(limits.BATCHES),
                value=4,
                label="Images",
                elem_classes="ddpm-segments",
                elem_id="few-batch",
            )
            seed = tool.seed_box("few")
            run_stop = tool.buttons("few")
        with gr.Column(scale=8, min_width=340, elem_classes="ddpm-first"):
            panes = strips(
                label="The same seed with fewer and more steps",
                idle="Press Run: the fewest steps come first.",
                elem_id="few-strips",
            )

    def start(*values):
        return few_steps(limits.few_steps_request(*values))

    tool.wire(start, [model, sampler, steps, batch, seed], run_stop, panes)
