"""Loss by t: the errors of the network over time, and what it sees at any t.

In the room: components and words. What is computed is experiments/losses.py's. No torch.
"""

from __future__ import annotations

import gradio as gr

from ddpm_hub.app.experiments import edit_limits
from ddpm_hub.app.experiments.losses import losses
from ddpm_hub.app.tabs.lab import tool
from ddpm_hub.app.tabs.lab.board import board
from ddpm_hub.app.widgets.plot import plot

INTRO = """
How wrong the network is at each t, on pictures it was never trained on: nearly clean pictures hide
their noise, nearly pure noise hides the picture. Click the curve to see what the network saw there.
This is the paper's training loss, L_simple (Eq. 14, section 3.4), before it is averaged over t.
"""
SETUP = {
    "label": "Loss by time step",
    "idle": "Press Run, then click or drag on the curve.",
    "start": 0.4,
    "charts": [
        {
            "title": "Error by t",
            "kind": "line",
            "x": {"key": "t", "label": "t, from clean to noise"},
            "y": {"label": "mean squared error", "log": True},
            "series": [
                {"key": "eps_loss", "name": "noise, L_simple", "colour": "xt"},
                {"key": "x0_loss", "name": "x0", "colour": "x0"},
                {"key": "loss", "name": "trained by, weighted", "colour": "third"},
            ],
        }
    ],
    "panes": [
        {"key": "xt", "caption": "<b><i>x</i><sub>t</sub></b> seen", "label": "x_t"},
        {"key": "eps", "caption": "<b>ε</b> added", "label": "true noise"},
        {"key": "eps_hat", "caption": "<b>ε̂</b> predicted", "label": "predicted noise"},
        {"key": "x0_hat", "caption": "<b><i>x̂</i><sub>0</sub></b> believed", "label": "x0-hat"},
        {"key": "x0", "caption": "<b><i>x</i><sub>0</sub></b> true", "label": "true x0"},
    ],
}
for pane in SETUP["panes"]:
    pane["colour"] = "x0" if pane["key"].startswith("x0") else "xt"


def build(demo: gr.Blocks) -> None:
    """Fill the surrounding gr.Tab."""
    tool.intro(INTRO)
    with gr.Row(elem_classes="lab-desk"):
        with gr.Column(elem_classes="ddpm-controls ddpm-card lab-pad"):
            picture = board("losses", "pick", "Picture to look at")
            run_stop = tool.buttons("losses")
        with gr.Column(elem_classes="lab-result"):
            chart = plot(SETUP, elem_id="losses-plot")
        with gr.Column(elem_classes="ddpm-controls ddpm-card lab-options"):
            times = gr.Radio(
                list(edit_limits.LOSS_TIMES),
                value=50,
                label="Values of t",
                elem_classes="ddpm-segments",
                elem_id="losses-times",
            )
            seed = tool.seed_box("losses")

    def start(*values):
        return losses(edit_limits.loss_request(*values))

    tool.wire(start, [picture, times, seed], run_stop, chart)
