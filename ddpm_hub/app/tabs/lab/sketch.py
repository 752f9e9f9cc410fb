"""From a sketch: a drawing of a few strokes becomes a garment, more or less freely.

In the room: components and words. What is computed is experiments/edits.py's. No torch.
"""

from __future__ import annotations

import gradio as gr

from ddpm_hub import SAMPLERS
from ddpm_hub.app.experiments import edit_limits
from ddpm_hub.app.experiments.edits import sketch
from ddpm_hub.app.tabs.lab import tool
from ddpm_hub.app.tabs.lab.board import board
from ddpm_hub.app.widgets.strips import strips

INTRO = """
Paint a garment, or change one: the sketch is noised part of the way and drawn again from there. The
further up it was noised, its strength, the less is left of your strokes. This is SDEdit (Meng et
al. 2022), the reverse process of the paper (Algorithm 2) begun in the middle.
"""


def build(demo: gr.Blocks) -> None:
    """Fill the surrounding gr.Tab."""
    tool.intro(INTRO)
    with gr.Row(elem_classes="lab-desk"):
        with gr.Column(elem_classes="ddpm-controls ddpm-card lab-pad"):
            drawing = board("sketch", "sketch", "Sketch")
            run_stop = tool.buttons("sketch")
        with gr.Column(elem_classes="lab-result"):
            panes = strips(
                label="A sketch drawn anew at five strengths",
                idle="Paint something, or choose a garment, and press Run.",
                turn=True,
                elem_id="sketch-strips",
            )
        with gr.Column(elem_classes="ddpm-controls ddpm-card lab-options"):
            sampler = gr.Radio(
                list(SAMPLERS),
                value="ddpm",
                label="Sampler",
                elem_classes=["ddpm-segments", "lab-wide"],
                elem_id="sketch-sampler",
            )
            steps = gr.Radio(
                list(edit_limits.SKETCH_STEPS),
                value=100,
                label="Steps, for all of the way",
                elem_classes="ddpm-segments",
                elem_id="sketch-steps",
            )
            seed = tool.seed_box("sketch")

    def start(*values):
        return sketch(edit_limits.sketch_request(*values))

    tool.wire(start, [drawing, sampler, steps, seed], run_stop, panes)
