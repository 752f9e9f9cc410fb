"""The Sample tab's form: what a visitor may choose of a run, and the buttons that drive it.

In the room: components, and how they show and hide each other. Not in the room: what the buttons
do (sample.py), what may be asked for (app/limits.py). No torch.
"""

from __future__ import annotations

import html

import gradio as gr
from gradio.components import Component

from ddpm_hub import SAMPLERS
from ddpm_hub.app import engine, handoff, limits, models
from ddpm_hub.app.tabs.common import LIGHT, QUIET
from ddpm_hub.app.tabs.header import STEPS
from ddpm_hub.errors import DDPMHubError
from ddpm_hub.samplers import default_eta
from ddpm_hub.spacings import SPACINGS

SAMPLER = "unipc"  # nearest to the data at so few steps: docs/results.md
RANDOM, NO_CLASS = "random", "none"
SEGMENTS = {"elem_classes": "ddpm-segments"}


def build() -> dict[str, Component]:
    """The controls, top to bottom, by name."""
    form: dict[str, Component] = {}
    form["begin"] = gr.HTML(visible=False, elem_id="sample-start")
    form["clear"] = gr.Button(
        "Begin in noise again", size="sm", visible=False, elem_id="sample-start-clear"
    )
    form["sampler"] = gr.Radio(
        list(SAMPLERS), value=SAMPLER, label="Sampler", elem_id="sampler", **SEGMENTS
    )
    form["steps"] = gr.Radio(
        list(limits.STEPS), value=STEPS, label="Steps", elem_id="steps", **SEGMENTS
    )
    form["eta"] = gr.Slider(
        0, 1, 0, step=0.05, label="eta (1: as noisy as DDPM)", visible=False, elem_id="eta"
    )
    form |= _classes()
    form["batch"] = gr.Radio(
        list(limits.BATCHES), value=4, label="Images", elem_id="batch", **SEGMENTS
    )
    form["seed"] = gr.Number(7, label="Seed", precision=0, elem_id="seed")
    form["fresh"] = gr.Checkbox(True, label="New seed every run", elem_id="fresh")
    form |= _buttons()
    with gr.Accordion("More", open=False, elem_id="sample-more"):
        form |= _more()
    return form


def _buttons() -> dict[str, Component]:
    """One button is both Pause and Resume: whoever is on it with the keyboard stays there."""
    with gr.Row(elem_classes="ddpm-buttons sample-buttons"):
        return {
            "run": gr.Button("Run", variant="primary", elem_id="run", min_width=90),
            "pause": gr.Button("Pause", interactive=False, elem_id="pause", min_width=90),
            "step": gr.Button("Step", elem_id="step", min_width=64),
            "stop": gr.Button("Stop", interactive=False, elem_id="stop", min_width=64),
            "reset": gr.Button("Reset", interactive=False, elem_id="reset", min_width=64),
        }


def _classes() -> dict[str, Component]:
    """Only for a model that knows classes."""
    return {
        "classes": gr.Dropdown(
            [RANDOM, NO_CLASS],
            value=RANDOM,
            label="Class",
            info="random: each image one of its own, by the seed",
            visible=False,
            elem_id="classes",
        ),
        "guidance": gr.Slider(
            0,
            10,
            1,
            step=0.5,
            label="Guidance (1: the class alone)",
            visible=False,
            elem_id="guidance",
        ),
    }


def _more() -> dict[str, Component]:
    """What most visitors leave as it is."""
    return {
        "spacing": gr.Radio(
            list(SPACINGS),
            value="linspace",
            label="Spacing",
            info="which timesteps are visited",
            elem_id="spacing",
            **SEGMENTS,
        ),
        "bounds": gr.Radio(
            list(limits.BOUNDS),
            value="clip",
            label="Predicted x0",
            info="held in [-1, 1] by a clamp, by its own scale, or not at all",
            elem_id="bounds",
            **SEGMENTS,
        ),
        "variance": gr.Radio(
            ["fixed_small", "fixed_large"],
            value="fixed_small",
            label="Variance of a step",
            info="ddpm only: beta tilde or beta, the least and the most noise",
            visible=False,
            elem_id="variance",
            **SEGMENTS,
        ),
        "runtime": gr.Radio(
            [(word, name) for name, word in limits.RUNTIMES.items()],
            value="eager",
            label="Arithmetic",
            info="fast: bfloat16 where the machine has it; as good, not the same to the last bit",
            elem_id="runtime",
            **SEGMENTS,
        ),
    }


def wire(form: dict[str, Component]) -> None:
    """Show what the chosen sampler, model and start have to be asked about, hide the rest."""
    sampler, model, start = form["sampler"], form["model"], form["start"]
    sampler.change(_choices_of, sampler, [form["eta"], form["variance"]], **LIGHT)
    sampler.input(_eta_of, sampler, form["eta"], **LIGHT)  # not where a link sets both
    classes = [form["classes"], form["guidance"]]
    model.change(offer_classes, [model, form["classes"]], classes, **LIGHT)
    model.change(lambda: None, None, start, **LIGHT)  # it means nothing to another model
    start.change(_start_of, start, [form["begin"], form["clear"]], **LIGHT)
    form["clear"].click(lambda: None, None, start, **QUIET)  # LIGHT would tell no `change`


def _choices_of(sampler: str):
    """The eta and the variance that a sampler offers: shown, if it does."""
    return (
        gr.update(visible=default_eta(sampler) is not None),
        gr.update(visible=sampler == "ddpm"),
    )


def _eta_of(sampler: str):
    """The sampler's own eta, as whoever has just chosen it expects."""
    return gr.update(value=default_eta(sampler) or 0.0)


def offer_classes(model: str, chosen: str | None = None):
    """The classes that a model offers, and guidance: shown, if it knows any. A choice stays."""
    try:
        count = engine.classes_of(models.load(model))
    except DDPMHubError:  # the chip says it
        count = None
    choices = [RANDOM, NO_CLASS, *map(str, range(count or 0))]
    return (
        gr.update(
            visible=count is not None,
            choices=choices,
            value=chosen if chosen in choices else RANDOM,
        ),
        gr.update(visible=count is not None),
    )


def has_classes(model: str) -> bool:
    """Whether the model can be asked for classes."""
    return engine.classes_of(models.load(model)) is not None


def _start_of(key: str | None):
    """Where the next run begins, in words, if that is not noise."""
    start = handoff.find(key)
    if start is None:
        return gr.update(value="", visible=False), gr.update(visible=False)
    words = (
        f'<div class="sample-start"><b>Begins at t = {start.t}</b>, from '
        f"{html.escape(start.words)}, and draws the rest. All images begin alike: they differ by "
        "the noise of the steps, so choose ddpm, or an eta above 0, to see several.</div>"
    )
    return gr.update(value=words, visible=True), gr.update(visible=True)


def label_of(choice: str | None) -> int | str | None:
    """The class that a choice of the form means to `limits.request`."""
    if choice in (None, NO_CLASS):
        return None
    return int(choice) if str(choice).isdecimal() else choice
