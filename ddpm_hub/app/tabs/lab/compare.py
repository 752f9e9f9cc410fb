"""Compare: two to four samplers from one seed, beside each other on one slider.

In the room: components. What is drawn is experiments/compare.py's. No torch.
"""

from __future__ import annotations

import gradio as gr

from ddpm_hub import SAMPLERS
from ddpm_hub.app.experiments import limits
from ddpm_hub.app.experiments.compare import compare
from ddpm_hub.app.tabs.lab import tool
from ddpm_hub.app.widgets.strips import strips

INTRO = """
The same network and the same first noise, taken to a picture by different samplers: the paper's own
is **ddpm** (Algorithm 2, section 3.2). One slider moves all columns together; under each are its
calls of the network, and their seconds.
"""


def build(demo: gr.Blocks, model: gr.State) -> None:
    """Fill the surrounding gr.Tab; `model` holds the name of the model that is asked."""
    tool.intro(INTRO)
    with gr.Row(equal_height=False, elem_classes="ddpm-row"):
        with gr.Column(scale=3, min_width=290, elem_classes="ddpm-controls ddpm-card"):
            samplers = gr.CheckboxGroup(
                list(SAMPLERS),
                value=list(SAMPLERS)[:2],
                label="Samplers, two to four",
                elem_classes=["ddpm-segments", "lab-wide"],
                elem_id="compare-samplers",
            )
            steps = gr.Radio(
                list(limits.COMPARE_STEPS),
                value=50,
                label="Steps, for each",
                elem_classes="ddpm-segments",
                elem_id="compare-steps",
            )
            batch = gr.Radio(
                list(limits.BATCHES),
                value=4,
                label="Images",
                elem_classes="ddpm-segments",
                elem_id="compare-batch",
            )
            seed = tool.seed_box("compare")
            run_stop = tool.buttons("compare")
        with gr.Column(scale=8, min_width=340, elem_classes="ddpm-first"):
            panes = strips(
                label="Samplers beside each other",
                idle="Press Run: every column starts from the same noise.",
                scrubber=True,
                elem_id="compare-strips",
            )

    def start(*values):
        return compare(limits.compare_request(*values))

    tool.wire(start, [model, samplers, steps, batch, seed], run_stop, panes)
