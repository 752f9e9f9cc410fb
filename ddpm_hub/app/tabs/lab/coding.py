"""Rate and distortion: how many bits of a picture have been sent, and how good it is by then.

In the room: components and words. What is computed is experiments/coding.py's. No torch.
"""

from __future__ import annotations

import gradio as gr

from ddpm_hub.app.experiments import edit_limits
from ddpm_hub.app.experiments.coding import coding
from ddpm_hub.app.tabs.lab import tool
from ddpm_hub.app.tabs.lab.board import board
from ddpm_hub.app.widgets.plot import plot

INTRO = """
A diffusion model is also a way to send a picture, roughest features first: each step from noise to
image costs some bits. Drag the cursor to spend them, and see what the receiver has by then: most of
the bits go into details that nobody can see (section 4.3 of the paper, Figure 5).
"""
SETUP = {
    "label": "Rate and distortion",
    "idle": "Press Run, then drag on either chart to spend bits.",
    "start": 0.5,
    "charts": [
        {
            "title": "Cost of each step",
            "kind": "bars",
            "x": {"key": "t", "label": "t, from noise to image", "even": True},
            "y": {"label": "bits/dim", "log": True},
            "series": [{"key": "bits", "name": "bits/dim", "colour": "xt"}],
        },
        {
            "title": "What the bits buy",
            "kind": "line",
            "x": {"key": "rate", "label": "bits/dim spent so far"},
            "y": {"label": "RMSE, of 255"},
            "series": [{"key": "rmse", "name": "RMSE", "colour": "x0"}],
        },
    ],
    "panes": [
        {
            "key": "xt",
            "caption": "<b><i>x</i><sub>t</sub></b> received",
            "label": "x_t, what was received",
            "colour": "xt",
        },
        {
            "key": "x0_hat",
            "caption": "<b><i>x̂</i><sub>0</sub></b> decoded from it",
            "label": "x0-hat, decoded from it",
            "colour": "x0",
        },
        {
            "key": "x0",
            "caption": "<b><i>x</i><sub>0</sub></b> sent",
            "label": "x0, what was sent",
            "colour": "x0",
        },
    ],
}


def build(demo: gr.Blocks) -> None:
    """Fill the surrounding gr.Tab."""
    tool.intro(INTRO)
    with gr.Row(elem_classes="lab-desk"):
        with gr.Column(elem_classes="ddpm-controls ddpm-card lab-pad"):
            picture = board("coding", "pick", "Picture to send")
            run_stop = tool.buttons("coding")
        with gr.Column(elem_classes="lab-result"):
            chart = plot(SETUP, elem_id="coding-plot")
        with gr.Column(elem_classes="ddpm-controls ddpm-card lab-options"):
            steps = gr.Radio(
                list(edit_limits.CODING_STEPS),
                value=100,
                label="Steps of the chain",
                info="Fewer than 100 are quicker, and cost more bits.",
                elem_classes="ddpm-segments",
                elem_id="coding-steps",
            )
            seed = tool.seed_box("coding")

    def start(*values):
        return coding(edit_limits.coding_request(*values))

    tool.wire(start, [picture, steps, seed], run_stop, chart)
