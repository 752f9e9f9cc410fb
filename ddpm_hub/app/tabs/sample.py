"""The Sample tab: draw pictures step by step, and look at every step afterwards.

In the room: components and wiring. Frames and runs are app/runs.py's, models app/models.py's, what
may be asked for app/limits.py's; the panes are widgets/timeline. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr
from gradio.components import Component

from ddpm_hub import SAMPLERS
from ddpm_hub.app import engine, exports, limits, models, runs
from ddpm_hub.app.tabs.common import GPU, LIGHT, QUIET, sentences
from ddpm_hub.app.tabs.endpoint import endpoint
from ddpm_hub.app.tabs.header import STEPS
from ddpm_hub.app.widgets.timeline import timeline
from ddpm_hub.errors import DDPMHubError
from ddpm_hub.samplers import default_eta
from ddpm_hub.spacings import SPACINGS

SETTINGS = (
    *("model", "sampler", "steps", "eta", "batch", "seed", "fresh"),
    *("spacing", "bounds", "variance"),
)


def build(parts: dict[str, Component]) -> dict[str, Component]:
    """Fill the surrounding gr.Tab, and register the tab's two endpoints.

    `parts`: of the header. Gives them and the form's, by name, for tabs that set them up.
    """
    with gr.Row(equal_height=False, elem_classes="ddpm-row"):
        with gr.Column(scale=3, min_width=290, elem_classes="ddpm-controls ddpm-card"):
            form = parts | _form()
        with gr.Column(scale=8, min_width=340):
            panes = timeline(frames=runs.frames, export=exports.export)
    _wire(form, panes)
    endpoint(api_sample, "sample", **GPU)
    endpoint(api_load_model, "load_model", concurrency_id="hub", concurrency_limit=8)
    return form | {"panes": panes}


def _form() -> dict:
    """The controls, top to bottom, by name."""
    form = {}
    form["sampler"] = gr.Radio(
        list(SAMPLERS),
        value="ddim",
        label="Sampler",
        elem_classes="ddpm-segments",
        elem_id="sampler",
    )
    form["steps"] = gr.Radio(
        list(limits.STEPS),
        value=STEPS,
        label="Steps",
        elem_classes="ddpm-segments",
        elem_id="steps",
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
    with gr.Accordion("More", open=False, elem_id="sample-more"):
        form |= _more()
    return form


def _more() -> dict:
    """What most visitors leave as it is."""
    segments = {"elem_classes": "ddpm-segments"}
    return {
        "spacing": gr.Radio(
            list(SPACINGS),
            value="linspace",
            label="Spacing",
            info="which timesteps are visited",
            elem_id="spacing",
            **segments,
        ),
        "bounds": gr.Radio(
            list(limits.BOUNDS),
            value="clip",
            label="Predicted x0",
            info="held in [-1, 1] by a clamp, by its own scale, or not at all",
            elem_id="bounds",
            **segments,
        ),
        "variance": gr.Radio(
            ["fixed_small", "fixed_large"],
            value="fixed_small",
            label="Variance of a step",
            info="ddpm only: beta tilde or beta, the least and the most noise",
            visible=False,
            elem_id="variance",
            **segments,
        ),
    }


def _wire(form: dict, panes: gr.HTML) -> None:
    buttons = [form["run"], form["stop"]]
    settings = [form[name] for name in SETTINGS]
    ticket = gr.State("")  # the id of this visitor's run
    form["sampler"].change(_choices_of, form["sampler"], [form["eta"], form["variance"]], **LIGHT)

    # In the queue, unlike what is light: only there a refusal reaches the visitor as a sentence.
    asked = form["run"].click(
        _prepare, settings, [ticket, form["seed"], panes, *buttons], concurrency_limit=16, **QUIET
    )
    drawn = asked.success(_draw, ticket, panes, **QUIET, **GPU)
    drawn.then(_buttons, ticket, buttons, **LIGHT)
    form["stop"].click(_stop, ticket, [panes, *buttons], **LIGHT)


# ---- handlers -----------------------------------------------------------------------------------
def _choices_of(sampler: str):
    """The eta and the variance that a sampler offers: shown, if it does."""
    eta = default_eta(sampler)
    return (
        gr.update(visible=eta is not None, value=eta or 0.0),
        gr.update(visible=sampler == "ddpm"),
    )


def _prepare(  # noqa: PLR0913  the form's fields
    model, sampler, steps, eta, batch, seed, fresh, spacing, bounds, variance
):
    seed = limits.new_seed() if fresh or seed is None else seed
    with sentences():
        eta = eta if default_eta(sampler) is not None else None
        variance = variance if sampler == "ddpm" else None
        run = runs.Run(
            limits.request(model, sampler, steps, eta, batch, seed, spacing, bounds, variance)
        )
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


# ---- endpoints ----------------------------------------------------------------------------------
def api_sample(  # noqa: PLR0913  the endpoint's arguments
    model: str = "bundled",
    sampler: str = "ddim",
    steps: int = 50,
    eta: float | None = None,
    batch: int = 1,
    seed: int | None = None,
    spacing: str | None = None,
    bounds: str | None = None,
    variance: str | None = None,
) -> Iterator[dict]:
    """Draw images from noise, one message for each step.

    Args:
        model: "bundled", a Hub repository, owner/name or owner/name@revision, or "job:KEY" of a
            training.
        sampler: ddpm, ddim, dpmpp_2m, dpmpp_2m_sde, heun or unipc.
        steps: network calls, 1 to the model's T.
        eta: noise of ddim and dpmpp_2m_sde, 0 (none) to 1; none: the sampler's own.
        batch: images drawn at once, 1 to 16.
        seed: the same seed draws the same images; none: a new one.
        spacing: which timesteps are visited: linspace, trailing, leading or logsnr.
        bounds: what happens to a predicted x0 outside [-1, 1]: clip, dynamic or none.
        variance: of a step of ddpm: fixed_small or fixed_large.

    Returns:
        {index, total, t, done, seed, steps_per_second, x0, x}; x0 (predicted clean images) and x
        (state after the step) are data URIs of the batch as a grid. The last also has png.
    """
    with sentences():
        request = limits.request(model, sampler, steps, eta, batch, seed, spacing, bounds, variance)
        for frame in engine.sample(request):
            yield {key: value for key, value in frame.items() if key != "change"}


def api_load_model(model: str = "bundled", revision: str | None = None) -> dict:
    """Load a model and say what it is.

    Args:
        model: "bundled", or a Hub repository, owner/name.
        revision: a branch, tag or commit of that repository; none: its default.

    Returns:
        {name, parameters, image_size, channels, timesteps, objective, schedule, source, card}.
    """
    with sentences():
        return models.model_card(model, revision)
