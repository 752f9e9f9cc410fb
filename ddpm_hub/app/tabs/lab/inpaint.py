"""Inpaint: mark a part of a picture, and see it redrawn four times to fit the rest.

In the room: components and words. What is computed is experiments/edits.py's. No torch.
"""

from __future__ import annotations

import gradio as gr

from ddpm_hub.app.experiments import edit_limits
from ddpm_hub.app.experiments.edits import inpaint
from ddpm_hub.app.tabs.lab import tool
from ddpm_hub.app.tabs.lab.board import board
from ddpm_hub.app.widgets.strips import strips

INTRO = """
Mark what shall be redrawn: after each step the rest is set back to your picture, noised as much as
the step left it. Walking each stretch several times lets both parts agree. This is RePaint (Lugmayr
et al. 2022) around the paper's Algorithm 2; the network was never trained for it.
"""


def build(demo: gr.Blocks) -> None:
    """Fill the surrounding gr.Tab."""
    tool.intro(INTRO)
    with gr.Row(elem_classes="lab-desk"):
        with gr.Column(elem_classes="ddpm-controls ddpm-card lab-pad"):
            drawing = board("inpaint", "mask", "Picture and what to redraw")
            run_stop = tool.buttons("inpaint")
        with gr.Column(elem_classes="lab-result"):
            panes = strips(
                label="A picture, its hole, and four completions",
                idle="Mark a part of the picture, and press Run.",
                elem_id="inpaint-strips",
            )
        with gr.Column(elem_classes="ddpm-controls ddpm-card lab-options"):
            options = [
                _radio("steps", edit_limits.INPAINT_STEPS, 50, "Steps of one descent"),
                _radio("jump", edit_limits.JUMP_LENGTHS, 10, "Jump length, in steps"),
                _radio("times", edit_limits.RESAMPLINGS, 3, "How often each stretch is walked"),
            ]
            seed = tool.seed_box("inpaint")

    def start(*values):
        return inpaint(edit_limits.inpaint_request(*values))

    tool.wire(start, [drawing, *options, seed], run_stop, panes)


def _radio(name: str, choices: tuple[int, ...], value: int, label: str) -> gr.Radio:
    return gr.Radio(
        list(choices),
        value=value,
        label=label,
        elem_classes="ddpm-segments",
        elem_id=f"inpaint-{name}",
    )
