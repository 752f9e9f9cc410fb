"""The Sample tab: draw pictures step by step, and look at every step afterwards.

In the room: components and wiring. Frames and runs are app/runs.py's, models app/engine.py's, what
may be asked for app/limits.py's; the panes are widgets/timeline. No torch.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from ddpm_hub import SAMPLERS
from ddpm_hub.app import engine, limits, runs
from ddpm_hub.app.widgets.timeline import timeline
from ddpm_hub.errors import DDPMHubError

GPU = {"concurrency_id": "gpu", "concurrency_limit": 1}  # one lane for everything heavy


def build(demo: gr.Blocks) -> None:
    """Fill the surrounding gr.Tab of `demo`, and register the tab's two endpoints."""
    with gr.Row(equal_height=False, elem_classes="ddpm-row"):
        with gr.Column(scale=3, min_width=290, elem_classes="ddpm-controls ddpm-card"):
            form = _form()
        with gr.Column(scale=8, min_width=340):
            panes = timeline(frames=runs.frames, export=runs.export)
    _wire(demo, form, panes)
    gr.api(api_sample, api_name="sample", **GPU)
    gr.api(api_load_model, api_name="load_model", **GPU)


def _form() -> dict:
    """The controls, top to bottom, by name."""
    form = {"model": gr.State("bundled"), "chip": gr.HTML(elem_id="model-chip")}
    form["sampler"] = gr.Radio(
        list(SAMPLERS),
        value="ddim",
        label="Sampler",
        elem_classes="ddpm-segments",
        elem_id="sampler",
    )
    form["steps"] = gr.Radio(
        list(limits.STEPS), value=50, label="Steps", elem_classes="ddpm-segments", elem_id="steps"
    )
    form["eta"] = gr.Slider(0, 1, 0, step=0.05, label="eta (1: as noisy as DDPM)", elem_id="eta")
    form["batch"] = gr.Radio(
        list(limits.BATCHES), value=4, label="Images", elem_classes="ddpm-segments", elem_id="batch"
    )
    form["seed"] = gr.Number(
        7, label="Seed", precision=0, minimum=0, maximum=limits.MAX_SEED, elem_id="seed"
    )
    form["fresh"] = gr.Checkbox(True, label="New seed every run", elem_id="fresh")
    with gr.Row(elem_classes="ddpm-buttons"):
        form["run"] = gr.Button("Run", variant="primary", elem_id="run", min_width=90)
        form["stop"] = gr.Button("Stop", interactive=False, elem_id="stop", min_width=90)
    return form


def _wire(demo: gr.Blocks, form: dict, panes: gr.HTML) -> None:
    buttons = [form["run"], form["stop"]]
    settings = [form[n] for n in ("model", "sampler", "steps", "eta", "batch", "seed", "fresh")]
    ticket = gr.State("")  # the id of this visitor's run
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    light = quiet | {"queue": False}
    demo.load(_on_load, None, [form["chip"], form["steps"]], **light)
    form["sampler"].change(_eta_for, form["sampler"], form["eta"], **light)

    # In the queue, unlike what is light: only there a refusal reaches the visitor as a sentence.
    asked = form["run"].click(
        _prepare, settings, [ticket, form["seed"], panes, *buttons], concurrency_limit=16, **quiet
    )
    drawn = asked.success(_draw, ticket, panes, **quiet, **GPU)
    drawn.then(_buttons, ticket, buttons, **light)
    form["stop"].click(_stop, ticket, [panes, *buttons], **light)


# ---- handlers -----------------------------------------------------------------------------------
def _eta_for(sampler: str):
    return gr.update(visible=sampler == "ddim")


def _prepare(model, sampler, steps, eta, batch, seed, fresh):
    seed = limits.new_seed() if fresh or seed is None else seed
    eta = eta if sampler == "ddim" else None
    with _sentences():
        run = runs.Run(limits.request(model, sampler, steps, eta, batch, seed))
    run.message = "Waiting for the machine"
    message = runs.STORE.add(run).message_with([])
    run.message = None
    return run.id, seed, message, *_buttons(run.id)


def _draw(ticket: str) -> Iterator[dict]:
    run = runs.STORE.get(ticket)
    if run is None:
        return
    try:
        yield from runs.stream(run)
    except DDPMHubError as error:
        yield run.message_with([])
        raise gr.Error(str(error), print_exception=False) from None


def _stop(ticket: str):
    run = runs.STORE.get(ticket)
    if run is None:
        return gr.skip(), *_buttons(ticket)
    run.stop()
    return run.message_with([]), *_buttons(ticket)


def _buttons(ticket: str):
    """Run and Stop as the visitor's newest run has them: an older one must not undo that."""
    run = runs.STORE.get(ticket)
    idle = run is None or run.over
    return gr.update(interactive=idle), gr.update(interactive=not idle)


@contextmanager
def _sentences() -> Iterator[None]:
    """Our errors are sentences for the visitor; all others stay in the log."""
    try:
        yield
    except DDPMHubError as error:
        raise gr.Error(str(error), print_exception=False) from None


def _on_load():
    try:
        card = engine.model_card()
    except DDPMHubError as error:
        return f'<div class="ddpm-chip"><b>{html.escape(str(error))}</b></div>', gr.skip()
    steps = sorted({s for s in limits.STEPS if s < card["timesteps"]} | {card["timesteps"]})
    return chip(card), gr.update(choices=steps)


def chip(card: dict) -> str:
    """The model in one small box; every text is escaped: names may come from strangers."""
    height, width = card["image_size"]
    facts = {
        "parameters": f"{card['parameters'] / 1e6:.2f} M",
        "images": f"{width} x {height} " + ("grey" if card["channels"] == 1 else "colour"),
        "T": str(card["timesteps"]),
        "objective": card["objective"],
        "schedule": card["schedule"],
    }
    rows = "".join(
        f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd></div>"
        for k, v in facts.items()
    )
    name = "Bundled model" if card["source"] == "bundled" else card["name"]
    return f'<div class="ddpm-chip"><b>{html.escape(name)}</b><dl>{rows}</dl></div>'


# ---- endpoints ----------------------------------------------------------------------------------
def api_sample(
    model: str = "bundled",
    sampler: str = "ddim",
    steps: int = 50,
    eta: float = 0.0,
    batch: int = 1,
    seed: int | None = None,
) -> Iterator[dict]:
    """Draw images from noise, one message for each step.

    Args:
        model: "bundled", or a Hub repository, owner/name.
        sampler: "ddpm" or "ddim".
        steps: network calls, 1 to the model's T.
        eta: noise of ddim, 0 (none) to 1; ddpm takes no notice of it.
        batch: images drawn at once, 1 to 16.
        seed: the same seed draws the same images; none: a new one.

    Returns:
        {index, total, t, done, seed, steps_per_second, x0, x}; x0 (predicted clean images) and x
        (state after the step) are data URIs of the batch as a grid. The last also has png.
    """
    eta = eta if sampler != "ddpm" else None
    with _sentences():
        for frame in engine.sample(limits.request(model, sampler, steps, eta, batch, seed)):
            yield {key: value for key, value in frame.items() if key != "change"}


def api_load_model(model: str = "bundled", revision: str | None = None) -> dict:
    """Load a model and say what it is.

    Args:
        model: "bundled", or a Hub repository, owner/name.
        revision: a branch, tag or commit of that repository; none: its default.

    Returns:
        {name, parameters, image_size, channels, timesteps, objective, schedule, source, card}.
    """
    with _sentences():
        return engine.model_card(model, revision)
