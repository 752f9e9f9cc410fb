"""The Train tab: start a training, watch it, leave it, find it again.

In the room: wiring, handlers, and the border where uploads come in and errors go out as one
sentence. The form is tabs/train_form.py's; trainings are app/jobs.py's, what may be asked for
app/limits.py's, the endpoints train_api.py's, the chart and the pictures widgets/. No torch.

Who may do what: a training's id is its key, and cannot be guessed. On a public Space a page knows
only the ids that its own browser started; elsewhere every page is told of all trainings.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import gradio as gr
from gradio.components import Component

from ddpm_hub.app import jobs, limits, models, reports
from ddpm_hub.app.job import ACTIVE, Job
from ddpm_hub.app.models import title_of
from ddpm_hub.app.tabs import duplicate, train_api, train_copy
from ddpm_hub.app.tabs import train_form as forms
from ddpm_hub.app.tabs.common import sentences
from ddpm_hub.app.tabs.header import use_model
from ddpm_hub.app.visitors import here
from ddpm_hub.app.widgets.curve import curve
from ddpm_hub.app.widgets.timeline import TRAINING, timeline
from ddpm_hub.errors import ConfigError, DDPMHubError

KNOWN = 20  # ids that a browser remembers
# What the page has: the server then sends the rest, whatever messages were lost or merged.
HAVE = """(watched, _, known, shown) => {
  const chart = document.querySelector("#train-curve .ddpm-curve")?.dataset ?? {};
  const film = document.querySelector("#train-timeline .ddpm-tl")?.dataset ?? {};
  const have = {
    state: chart.run === watched ? chart.state : null,
    losses: chart.run === watched ? Number(chart.count) : 0,
    frames: film.run === watched ? Number(film.have) : 0,
  };
  return [watched, have, known, shown];
}"""


def build(
    demo: gr.Blocks, tab: gr.Tab, tabs: gr.Tabs, drawing: list[Component], token: gr.Textbox
) -> dict[str, Component]:
    """Fill `tab`, one of `tabs` of `demo`; `drawing`: what `header.use_model` sets.

    token: the Hub tab's box of a typed one, for copies.

    Gives what the Hub tab needs: the button `publish`, the id `watched`, and the ids `known`.
    """
    page: dict[str, Component] = {
        "known": gr.BrowserState([], storage_key="ddpm_hub_trainings", secret="trainings"),
        "watched": gr.Textbox("", visible=False),  # survives a restart of the server
        "shown": gr.State(""),  # the same, as the server last told the page
        "upload": gr.State(""),
        "have": gr.JSON(visible=False),
        "timer": gr.Timer(1, active=False),
    }
    with gr.Row(equal_height=False, elem_classes="ddpm-row"):
        with gr.Column(scale=3, min_width=290, elem_classes="ddpm-controls ddpm-card"):
            form = forms.build()
            duplicate.note()
        with gr.Column(scale=8, min_width=340, elem_classes="ddpm-first"):
            page |= _right()
    forms.wire(demo, form, page["upload"], drawing[0])
    _wire_jobs(demo, tab, form, page, drawing[0], token)
    page["try"].click(_try, page["watched"], [tabs, *drawing], **forms.ASKING)
    train_api.register()
    return {name: page[name] for name in ("publish", "watched", "known")}


def _right() -> dict[str, Component]:
    page: dict[str, Component] = {"curve": curve(elem_id="train-curve")}
    with gr.Row(elem_classes="ddpm-buttons tr-controls"):
        page["pause"] = gr.Button("Pause", interactive=False, elem_id="train-pause", min_width=90)
        page["resume"] = gr.Button("Resume", visible=False, elem_id="train-resume", min_width=90)
        page["stop"] = gr.Button(
            "Stop and keep", interactive=False, elem_id="train-stop", min_width=110
        )
        page["try"] = gr.Button(
            "Try it in Sample", interactive=False, elem_id="train-try", min_width=130
        )
        page["publish"] = gr.Button("Publish", elem_id="train-publish", min_width=90)
        page["runs"] = gr.Dropdown(
            [],
            show_label=False,
            label="Training",
            container=False,
            visible=False,
            min_width=200,
            elem_id="train-runs",
        )
    page["film"] = timeline(TRAINING, elem_id="train-timeline")
    return page


def _wire_jobs(
    demo: gr.Blocks, tab: gr.Tab, form: dict, page: dict, model: gr.State, token: gr.Textbox
) -> None:
    watched, have, known = page["watched"], page["have"], page["known"]
    chosen = [watched, page["shown"]]
    view = [
        page[name] for name in ("curve", "film", "pause", "resume", "stop", "try", "runs", "timer")
    ]
    asked = [form[n] for n in ("data", "preset", "steps", "minutes", "seed")]
    options = [form[name] for name in limits.OPTIONS]
    copy = [form["copy"], form["private"], token]
    for event in (demo.load, tab.select):
        event(_find, [known, watched], [*chosen, *view], **forms.LIGHT)
    form["start"].click(
        _start,
        [*copy, known, page["upload"], form["begin"], model, *asked, *options],
        [known, *chosen, *view],
        **forms.ASKING,
    )
    form["fetch"].click(
        _fetch, [form["copy"], token, known], [known, *chosen, *view], **forms.ASKING
    )
    page["resume"].click(_resume, [watched, known, *copy], view, **forms.ASKING)
    page["pause"].click(_pause, [watched, known], view, **forms.LIGHT)
    page["stop"].click(_stop, [watched, known], view, **forms.LIGHT)
    page["runs"].input(_choose_run, [page["runs"], known], [*chosen, *view], **forms.LIGHT)
    page["timer"].tick(_tick, [watched, have, known, page["shown"]], view, js=HAVE, **forms.LIGHT)


# ---- trainings ----------------------------------------------------------------------------------
def _start(  # noqa: PLR0913  the form's fields
    signed_in: gr.OAuthToken | None,
    repo,
    private,
    typed,
    known,
    upload,
    begin,
    model,
    data,
    preset,
    steps,
    minutes,
    seed,
    *values,
):
    with sentences():
        if data == forms.OWN and not upload:
            raise ConfigError("there are no images yet: choose some files, or the garments")
        options = dict(zip(limits.OPTIONS, values, strict=True))
        source = upload if data == forms.OWN else "bundled"
        start = forms.start_of(begin, model)
        title = None if start is None else title_of(model)
        request = limits.train_request(source, preset, steps, seed, minutes, options, title)
        copy = train_copy.wanted(repo, private, typed, signed_in)
        job = jobs.desk().start(request, start, here(), copy)
    return _new(job.id, known)


def _fetch(repo, typed, known, signed_in: gr.OAuthToken | None):
    return _new(train_copy.fetched(repo, typed, signed_in), known)


def _new(job: str, known):
    """What this page now remembers, and what it shows."""
    known = [*_ids(known), job][-KNOWN:]
    return known, job, job, *_view(job, known)


def _find(known, watched):
    """What to show on a page that was just opened: what it watched, else what goes on."""
    mine = visible(known)
    if watched not in [job.id for job in mine]:
        watched = mine[0].id if mine else ""
    return watched, watched, *_view(watched, known)


def _resume(watched, known, repo, private, typed, signed_in: gr.OAuthToken | None):
    with sentences():
        copy = train_copy.wanted(repo, private, typed, signed_in, watched)
        jobs.desk().resume(watched, here(), copy)
    return _view(watched, known)


def _pause(watched, known):
    return _end(watched, known, "paused")


def _stop(watched, known):
    return _end(watched, known, "stopped")


def _end(watched, known, state: str):
    with suppress(DDPMHubError):  # the page shows what is left of it
        jobs.desk().end(watched, state)
    return _view(watched, known)


def _choose_run(watched, known):
    return watched, watched, *_view(watched, known)


def _tick(watched, have, known, shown):
    if shown and shown != watched:  # asked before another training was chosen: too late now
        return [gr.skip()] * 8
    have = have if isinstance(have, dict) else {}
    return _view(watched, known, have)


def _try(watched):
    with sentences():
        job = jobs.desk().get(watched)
        name = f"job:{job.id}"
        models.adopt(name, job.model())
        title = f"{job.request.preset} on {job.name}, step {job.step:,}"
        return gr.Tabs(selected="sample"), *use_model(name, title)


def _view(watched: str, known, have: dict | None = None) -> list[Any]:
    """Chart, pictures, the four buttons, the list of trainings, the timer; in this order."""
    desk = jobs.desk()
    try:
        job = desk.get(watched)
    except DDPMHubError:
        return [None, None, *_buttons(None), _list(known, ""), gr.Timer(active=False)]
    state = job.state  # once: it may change between two looks
    pushing = job.copy is not None and job.copy.busy  # before the sentence that tells how it ended
    have = have or {}
    message = reports.curve(job, _count(have, "losses"), desk.sentence(job))
    film = reports.film(job, _count(have, "frames"))
    same = have.get("state") == state
    complete = len(film["frames"]) < reports.FRAMES_AT_ONCE
    going = state in ACTIVE or pushing or not complete or message["state"] != state
    return [
        message,
        film,
        *_buttons(job),
        gr.skip() if same else _list(known, watched),
        gr.skip() if same and going else gr.Timer(active=going),
    ]


def _count(have: dict, name: str) -> int:
    value = have.get(name)
    return value if isinstance(value, int) else 0


def _buttons(job: Job | None) -> list[Any]:
    """Pause, Resume, Stop and keep, Try it in Sample: what makes sense now."""
    active = job is not None and job.state in ACTIVE and not job.wish
    resumable = job is not None and job.resumable
    kept = job is not None and job.state in ("paused", "interrupted")
    return [
        gr.update(visible=not resumable, interactive=active),
        gr.update(visible=resumable, interactive=resumable),
        gr.update(interactive=active or kept),
        gr.update(interactive=job is not None and job.step > 0),
    ]


def _list(known, watched: str):
    mine = visible(known)
    choices = [(_title(job), job.id) for job in mine]
    return gr.update(choices=choices, value=watched or None, visible=len(mine) > 1)


def _title(job: Job) -> str:
    when = time.strftime("%d %b %H:%M", time.localtime(job.created))
    return f"{job.state}: {job.request.preset} on {job.name}, {when}"


def visible(known) -> list[Job]:
    """The trainings that this page may know of, what runs first."""
    everything = jobs.desk().newest()
    if "SPACE_ID" not in os.environ:
        return everything
    return [job for job in everything if job.id in _ids(known)]


def _ids(known) -> list[str]:
    """What the browser remembers: anything may stand there."""
    known = known if isinstance(known, list) else []
    return [i for i in known if isinstance(i, str) and limits.JOB_ID.fullmatch(i)]
