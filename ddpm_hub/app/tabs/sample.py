"""The Sample tab: draw pictures step by step, and look at every step afterwards.

In the room: wiring. The form is sample_form.py's, endpoints are sample_api.py's; frames and runs
are app/runs.py's, models app/models.py's, what may be asked for app/limits.py's; the panes are
widgets/timeline. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr
from gradio.components import Component

from ddpm_hub.app import exports, handoff, limits, runs, visitors
from ddpm_hub.app.tabs import sample_api, sample_form
from ddpm_hub.app.tabs.common import GPU, LIGHT, QUIET, sentences
from ddpm_hub.app.widgets.timeline import timeline
from ddpm_hub.errors import ConfigError, DDPMHubError
from ddpm_hub.samplers import default_eta

SETTINGS = (
    *("model", "sampler", "steps", "eta", "batch", "seed", "fresh"),
    *("spacing", "bounds", "variance", "classes", "guidance", "runtime", "start"),
)
BUTTONS = ("run", "pause", "step", "stop", "reset")
ASKING = QUIET | {"concurrency_limit": 16}  # in the queue: there a refusal reaches the visitor
EMPTY = {"run": "", "state": "idle", "frames": [], "meta": {}, "message": "Press Run, or Step"}
ANOTHER = "Another model is in use now: press Run, or Step"
BEGINS = "It begins where Forward left the picture: press Run, or Step"
GONE = "this run is no longer kept on the server: run it again"


def build(parts: dict[str, Component]) -> dict[str, Component]:
    """Fill the surrounding gr.Tab, and register the tab's two endpoints.

    `parts`: of the header. Gives them and the form's, by name, for tabs that set them up.
    """
    with gr.Row(equal_height=False, elem_classes="ddpm-row"):
        with gr.Column(scale=3, min_width=290, elem_classes="ddpm-controls ddpm-card"):
            form = parts | sample_form.build()
        with gr.Column(scale=8, min_width=340):
            form["panes"] = timeline(frames=runs.frames, export=exports.export)
    form["ticket"] = gr.State("")  # the id of this visitor's newest run
    sample_form.wire(form)
    _wire(form)
    sample_api.register()
    return form


def _wire(form: dict[str, Component]) -> None:
    ticket, panes = form["ticket"], form["panes"]
    buttons = [form[name] for name in BUTTONS]
    settings = [form[name] for name in SETTINGS]
    begun = [ticket, form["seed"], panes, *buttons]
    for asked in (
        form["run"].click(_run, settings, begun, **ASKING),
        form["step"].click(_step, [ticket, *settings], begun, **ASKING),
        form["pause"].click(_pause_or_resume, ticket, [panes, *buttons], **ASKING),
        panes.branch(_branch, None, [ticket, panes, *buttons], **ASKING),
    ):
        follow(asked, form, ticket)
    changed = [ticket, form["model"], form["start"]]
    form["model"].change(_emptied, changed, panes, **LIGHT)
    form["start"].change(_emptied, changed, panes, **LIGHT)
    form["stop"].click(_stop, ticket, [panes, *buttons], **LIGHT)
    form["reset"].click(_reset, ticket, [ticket, panes, *buttons], **LIGHT)


def follow(asked: gr.events.Dependency, form: dict[str, Component], ticket: gr.State) -> None:
    """When the event `asked` has put a run's id into `ticket`, that run is drawn in the panes."""
    # multiple: the run before may have been stopped, and its last step be under way
    drawn = asked.success(_draw, ticket, form["panes"], trigger_mode="multiple", **QUIET, **GPU)
    drawn.then(_buttons, form["ticket"], [form[name] for name in BUTTONS], **LIGHT)


# ---- handlers -----------------------------------------------------------------------------------
def _run(*settings):
    return _begin(settings, None)


def _step(ticket: str, *settings):
    """One frame more of the run that is paused, or the first of a new one."""
    run = runs.STORE.get(ticket)
    if run is None or run.state != "paused":
        return _begin(settings, 1)
    run.go_on(1)
    return ticket, gr.skip(), _added(run), *_buttons(ticket)


def _begin(settings: tuple, frames: int | None):
    """A new run of these settings that is to be drawn for so many frames; None: to its end."""
    with sentences():
        visitors.check_room()
        run = _asked(dict(zip(SETTINGS, settings, strict=True)))
    run.go_on(frames)
    return run.id, run.request.seed, _added(run), *_buttons(run.id)


def _asked(form: dict) -> runs.Run:
    """The run that the form's settings mean. A sampler is told only of what it knows."""
    sampler, label = form["sampler"], sample_form.label_of(form["classes"])
    start = handoff.find(form["start"])
    if form["start"] and start is None:
        raise ConfigError("the state to begin from is no longer kept: make it again in Forward")
    steps, classed = form["steps"], sample_form.has_classes(form["model"])
    request = limits.request(
        form["model"],
        sampler,
        steps if start is None or steps is None else min(steps, start.t + 1),
        form["eta"] if default_eta(sampler) is not None else None,
        form["batch"],
        limits.new_seed() if form["fresh"] or form["seed"] is None else form["seed"],
        form["spacing"],
        form["bounds"],
        form["variance"] if sampler == "ddpm" else None,
        label if classed else None,
        form["guidance"] if classed and label is not None else None,
        form["runtime"],
    )
    return runs.Run(request, start=start)


def begun(run: runs.Run) -> tuple:
    """Ticket, panes and BUTTONS of a run that another room made or found; `follow` draws it."""
    if run.over:
        return run.id, runs.frames({"run": run.id}), *_buttons(run.id)
    return run.id, _added(run), *_buttons(run.id)


def _added(run: runs.Run) -> dict:
    """The store has it; the message says that it waits."""
    run.message = "Waiting for the machine"
    message = runs.STORE.add(run).message_with([])
    run.message = None
    return message


def _draw(ticket: str) -> Iterator[dict]:
    run = runs.STORE.get(ticket)
    if run is None:
        return
    try:
        yield from runs.stream(run)
    except DDPMHubError as error:
        yield run.message_with([])
        raise gr.Error(str(error), print_exception=False) from None


def _pause_or_resume(ticket: str):
    run = runs.STORE.get(ticket)
    with sentences():
        if run is None:
            raise ConfigError(GONE)
    if not run.idle and run.wanted != 0:
        run.pause()
        return gr.skip(), *_buttons(ticket)
    run.go_on()
    return _added(run), *_buttons(ticket)


def _branch(event: gr.EventData):
    """A run of its own from the frame on that is shown, with a seed of its own."""
    with sentences():
        try:
            run, index = runs.STORE.get(event.run), event.index
        except (AttributeError, TypeError):  # not from our page
            run = index = None
        if run is None:
            raise ConfigError(GONE)
        made = runs.branch(run, index, limits.new_seed())
    return made.id, _added(made), *_buttons(made.id)


def _stop(ticket: str):
    run = runs.STORE.get(ticket)
    if run is None:
        return gr.skip(), *_buttons(ticket)
    run.stop()
    return run.message_with([]), *_buttons(ticket)


def _emptied(ticket: str, model: str, start: str | None):
    """Another model, or another start: the pictures of the one before would pass for its own."""
    run = runs.STORE.get(ticket)
    if run is not None and not run.over:
        return gr.skip()
    drawn_by = "bundled" if run is None else run.request.model  # without a run, the example's
    if drawn_by in (model, model.partition("@")[0]) and not start:
        return gr.skip()
    return EMPTY | {"message": BEGINS if start else ANOTHER}


def _reset(ticket: str):
    """End the run and empty the panes: the next step is the first of a new run."""
    run = runs.STORE.get(ticket)
    if run is not None:
        run.stop()
    return "", EMPTY, *_buttons("")


def _buttons(ticket: str):
    """BUTTONS as the visitor's newest run has them: an older one must not undo that."""
    run = runs.STORE.get(ticket)
    idle, over = run is None or run.idle, run is None or run.over
    return (
        gr.update(interactive=idle),
        gr.update(interactive=not over, value="Resume" if idle and not over else "Pause"),
        gr.update(interactive=idle),
        gr.update(interactive=not over),
        gr.update(interactive=run is not None),
    )
