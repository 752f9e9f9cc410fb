"""Interpolate: from one picture to another, through states at level t.

In the room: components. What is drawn is experiments/latents.py's. No torch.
"""

from __future__ import annotations

import gradio as gr

from ddpm_hub.app import models
from ddpm_hub.app.experiments import garments, limits
from ddpm_hub.app.experiments.latents import interpolation
from ddpm_hub.app.tabs.lab import tool
from ddpm_hub.app.widgets.pair import pair
from ddpm_hub.app.widgets.strips import strips
from ddpm_hub.errors import ConfigError, DDPMHubError, shown

INTRO = """
Two real pictures are blended, noised to level **t** and denoised again (section 4.4, Figures 8
and 9). A small t keeps the double exposure; a large one gives pictures that are neither of the two.
"""


def build(demo: gr.Blocks, model: gr.State) -> gr.Slider:
    """Fill the surrounding gr.Tab; `model` holds the name of the model that is asked.

    Gives the slider for t, whose range is that model's.
    """
    tool.intro(INTRO)
    items = garments.thumbnails()
    first = {"pair": [items[5]["index"], items[0]["index"]], "extra": []}
    with gr.Row(equal_height=False, elem_classes="ddpm-row"):
        with gr.Column(scale=3, min_width=290, elem_classes="ddpm-controls ddpm-card"):
            chosen = pair(items, first, "mix-pair")
            chance = gr.Button("Any two of the test set", size="sm", elem_id="mix-chance")
            t = gr.Slider(0, 999, 500, step=1, label="t, the level of noise", elem_id="mix-t")
            steps = gr.Radio(
                list(limits.MIX_STEPS),
                value=50,
                label="Steps, at most t + 1",
                elem_classes="ddpm-segments",
                elem_id="mix-steps",
            )
            seed = tool.seed_box("mix")
            run_stop = tool.buttons("mix")
        with gr.Column(scale=8, min_width=340, elem_classes="ddpm-first"):
            panes = strips(
                label="From one picture to the other",
                idle="Press Run: nine mixes of the two pictures, all with the same noise.",
                turn=True,
                elem_id="mix-strips",
            )
    chance.click(garments.by_chance, None, chosen, **tool.LIGHT)

    def start(model, chosen, *values):
        if not isinstance(chosen, dict):
            raise ConfigError(f"pictures {shown(chosen)} are no pair: choose one on each side")
        return interpolation(
            limits.interpolation_request(model, chosen.get("pair"), *values, garments.count())
        )

    tool.wire(start, [model, chosen, t, steps, seed], run_stop, panes)
    return t


def levels(model: str, t: int):
    """The slider for t, from 0 to that model's last; in the middle if it stood beyond."""
    try:
        last = models.load(model).num_timesteps - 1
    except DDPMHubError:  # Sample says what is the matter with it
        return gr.skip()
    return gr.update(maximum=last, value=t if t <= last else (last + 1) // 2)
