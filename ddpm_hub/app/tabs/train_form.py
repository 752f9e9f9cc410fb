"""The Train tab's form: pictures, preset, limits, and the Advanced part made from TrainConfig.

In the room: components, what they do before a training starts, and the small cards of HTML that
stand between them. Every text that comes from a visitor is escaped. Not in the room: trainings
(tabs/train.py). No torch.
"""

from __future__ import annotations

import html
from dataclasses import fields

import gradio as gr
from gradio.components import Component

from ddpm_hub.app import estimate, limits, models, starts, uploads
from ddpm_hub.app.models import title_of
from ddpm_hub.app.tabs import train_copy
from ddpm_hub.app.tabs.common import LIGHT, QUIET, sentences
from ddpm_hub.config import TrainConfig
from ddpm_hub.errors import ConfigError, DDPMHubError

# In the queue, unlike what is light, since only there a refusal reaches the visitor as a
# sentence; but not in the lane of what is heavy.
ASKING = QUIET | {"concurrency_id": "asking", "concurrency_limit": 16}
CHOOSE = "Choose images, or one zip of them: each is cropped and scaled to what the network takes."
GARMENTS, OWN = "Garments", "Your images"
UNMEASURED = "How long a step takes shows when it runs; stop or pause it at any time."
NEW, LOADED = "New weights", "Model in Sample"
HELP = {f.name: f.metadata.get("help", "") for f in fields(TrainConfig)}


def build() -> dict[str, Component]:
    """The controls, top to bottom, by name; those of OPTIONS under their TrainConfig names."""
    form = _pictures()
    form["preset"] = gr.Radio(
        list(limits.TRAIN_PRESETS),
        value=limits.TRAIN_PRESETS[0],
        label="Preset",
        elem_classes="ddpm-segments",
        elem_id="train-preset",
    )
    form["begin"] = gr.Radio(
        [NEW, LOADED],
        value=NEW,
        label="Begin with",
        elem_classes=["ddpm-segments", "lab-wide"],
        elem_id="train-begin",
    )
    _limits(form)
    with gr.Accordion("Advanced", open=False, elem_id="train-advanced"):
        for name in limits.OPTIONS:
            form[name] = option(name)
    form |= train_copy.build()
    form["estimate"] = gr.HTML(elem_id="train-estimate")
    with gr.Row(elem_classes="ddpm-buttons"):
        form["start"] = gr.Button("Start", variant="primary", elem_id="train-start", min_width=90)
        form["measure"] = gr.Button("Measure", elem_id="train-measure", min_width=90)
    return form


def _pictures() -> dict[str, Component]:
    """What is trained on: the choice, the visitor's files, and a card that shows them."""
    form: dict[str, Component] = {}
    form["data"] = gr.Radio(
        [GARMENTS, OWN],
        value=GARMENTS,
        label="Pictures",
        elem_classes="ddpm-segments",
        elem_id="train-data",
    )
    form["files"] = gr.File(
        file_count="multiple",
        file_types=["image", ".zip"],
        label="Up to 500, or one zip",
        visible=False,
        height=130,
        elem_id="train-files",
    )
    with gr.Column(elem_id="train-card"):
        # two, since what a page is first told may come after the visitor has chosen
        form["garments"] = gr.HTML()
        form["card"] = gr.HTML(visible=False)
    return form


def _limits(form: dict[str, Component]) -> None:
    """Numbers have no bounds of Gradio's: `limits` refuses with a sentence that has a cure."""
    row = limits.train_row(limits.TRAIN_PRESETS[0])
    with gr.Row(elem_classes="ddpm-numbers"):
        form["steps"] = gr.Number(
            row.train_num_steps,
            label="Steps",
            precision=0,
            min_width=80,
            elem_id="train-steps",
        )
        form["minutes"] = gr.Number(
            limits.MINUTES,
            label="Minutes",
            min_width=80,
            elem_id="train-minutes",
        )
        form["seed"] = gr.Number(
            row.seed,
            label="Seed",
            precision=0,
            min_width=80,
            elem_id="train-seed",
        )


def option(name: str) -> Component:
    """The component for one field of TrainConfig: its type, bounds and help make it."""
    kind, bounds = limits.option_type(name), limits.OPTIONS[name]
    value = getattr(limits.train_row(limits.TRAIN_PRESETS[0]), name)
    known = {"label": name, "info": HELP[name], "value": value, "elem_id": f"train-{name}"}
    if kind is bool:
        return gr.Checkbox(**known)
    if kind is str:
        return gr.Radio(list(bounds), elem_classes="ddpm-segments", **known)
    return gr.Number(precision=0 if kind is int else None, **known)


def options_of(preset: str) -> list:
    """The preset's own values of OPTIONS, in their order."""
    row = limits.train_row(preset)
    return [getattr(row, name) for name in limits.OPTIONS]


def wire(demo: gr.Blocks, form: dict[str, Component], upload: gr.State, model: gr.State) -> None:
    """Let the form answer: pictures as they are chosen, and what it will cost.

    `upload` holds the id of the visitor's pictures, `model` the name of the model in Sample.
    """
    batch = form["train_batch_size"]
    costs = [form["preset"], form["steps"], form["minutes"], batch, form["begin"], model]
    network = [form["preset"], form["begin"], model]
    pictures = [form["files"], form["garments"], upload, form["card"]]
    options = [form[name] for name in limits.OPTIONS]
    demo.load(_form_now, costs, [form["garments"], form["estimate"]], **LIGHT)
    form["data"].input(_choose_data, [form["data"], form["files"], *network], pictures, **ASKING)
    form["files"].change(_take_files, [form["files"], *network], pictures[2:], **ASKING)
    form["begin"].input(
        _choose_data, [form["data"], form["files"], *network], pictures, **ASKING
    ).then(_estimate, costs, form["estimate"], **LIGHT)
    form["preset"].input(
        _choose_preset, form["preset"], [form["steps"], form["seed"], *options], **LIGHT
    ).then(_estimate, costs, form["estimate"], **LIGHT)
    for component in (form["steps"], form["minutes"], batch):
        component.input(_estimate, costs, form["estimate"], **LIGHT, trigger_mode="always_last")
    form["measure"].click(_measuring, None, form["measure"], **LIGHT)
    form["measure"].click(_measure, costs, form["estimate"], **ASKING).then(
        _measured, None, form["measure"], **LIGHT
    )


# ---- handlers -----------------------------------------------------------------------------------
def _form_now(preset, steps, minutes, batch, begin, model):
    card = _garments_card(preset, begin, model)
    return card, _estimate(preset, steps, minutes, batch, begin, model)


def start_of(begin: str, model: str):
    """The model that a training goes on from; None for new weights."""
    return models.load(model) if begin == LOADED else None


def _garments_card(preset: str, begin: str, model: str) -> str:
    try:
        shape = starts.shape_of(preset, start_of(begin, model))
        return pictures_card(uploads.find("bundled", shape).card())
    except DDPMHubError as error:
        return waiting_card(f"{error}.")


def _choose_data(choice: str, files: list[str] | None, *network: str):
    shown, hidden = gr.update(visible=True), gr.update(visible=False)
    if choice == GARMENTS:
        return hidden, gr.update(value=_garments_card(*network), visible=True), "", hidden
    chosen, card = _take_files(files, *network)
    return shown, hidden, chosen, gr.update(value=card, visible=True)


def _take_files(files: list[str] | None, preset: str, begin: str, model: str):
    if not files:
        return "", waiting_card(CHOOSE)
    try:
        pictures = uploads.take(files, starts.shape_of(preset, start_of(begin, model)))
    except DDPMHubError as error:
        return "", waiting_card(f"{error}.")
    return pictures.id, pictures_card(pictures.card())


def _choose_preset(preset: str):
    row = limits.train_row(preset)
    return row.train_num_steps, row.seed, *options_of(preset)


def _estimate(preset, steps, minutes, batch, begin, model) -> str:
    if begin == LOADED:
        return waiting_card(f"Goes on from {title_of(model)}. {UNMEASURED}")
    row = limits.train_row(preset)
    steps = row.train_num_steps if steps is None else steps
    batch = row.train_batch_size if batch is None else batch
    minutes = limits.MINUTES if minutes is None else minutes
    try:
        limits.train_request("bundled", preset, steps, 0, minutes, {"train_batch_size": batch})
    except DDPMHubError as error:
        return waiting_card(f"{error}.")
    facts = estimate.facts(preset, int(batch), int(steps), minutes)
    return estimate_card(facts, int(steps), minutes)


def _measuring():
    return gr.update(value="Measuring", interactive=False)


def _measure(preset, steps, minutes, batch, begin, model) -> str:
    with sentences():
        if begin == LOADED:
            raise ConfigError("a loaded model is measured while it trains: press Start")
        request = limits.train_request(
            "bundled", preset, steps, 0, minutes, {"train_batch_size": batch}
        )
        size = request.options.get("train_batch_size", limits.train_row(preset).train_batch_size)
        estimate.measure(preset, size)
    return _estimate(preset, steps, minutes, batch, begin, model)


def _measured():
    return gr.update(value="Measure", interactive=True)


# ---- cards --------------------------------------------------------------------------------------
def pictures_card(card: dict) -> str:
    """A set of images: eight as the network sees them, how many, how large, what to know."""
    kind = "grey" if card["channels"] == 1 else "colour"
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in card["notes"])
    images = "image" if card["count"] == 1 else "images"
    text = f"{card['count']:,} {images}, {card['width']} x {card['height']} {kind}"
    return (
        f'<div class="ddpm-chip tr-pictures"><img src="{html.escape(card["thumbnails"])}" '
        f'alt="{card["shown"]} of the images as the network sees them">'
        f"<p>{text}, as the network sees them</p>"
        + (f"<ul>{notes}</ul>" if notes else "")
        + "</div>"
    )


def waiting_card(text: str) -> str:
    """The same place, while there are no images yet."""
    return f'<div class="ddpm-chip tr-pictures"><p>{html.escape(text)}</p></div>'


def estimate_card(facts: dict, steps: int, minutes: float) -> str:
    """What it will cost: in the preset's words, in numbers, and in time as measured here."""
    rows = {
        "parameters": f"{facts['parameters'] / 1e6:.2f} M",
        "model": f"{facts['megabytes']:.1f} MB",
        "100 steps": "not measured"
        if facts["per_hundred"] is None
        else _time(facts["per_hundred"]),
    }
    cells = "".join(f"<div><dt>{k}</dt><dd>{html.escape(v)}</dd></div>" for k, v in rows.items())
    return (
        f'<div class="ddpm-chip"><p>{html.escape(facts["cost"])}</p><dl>{cells}</dl>'
        f"<p>{_total(facts, steps, minutes)}</p></div>"
    )


def _total(facts: dict, steps: int, minutes: float) -> str:
    if facts["seconds"] is None:
        return f"Ends after {steps:,} steps, or {minutes:g} min. Measure says how long that is."
    if facts["reached"] < steps:
        return f"{minutes:g} min are enough for about {facts['reached']:,} of {steps:,} steps."
    return f"{steps:,} steps take about {_time(facts['seconds'])}, and the samples between."


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    value, unit = (seconds / 60, "min") if seconds < 5400 else (seconds / 3600, "h")
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
