"""The history in the Sample tab: a past run, a link or a picture sets the form, and is drawn again.

In the room: components and wiring. What a link or a picture means is app/recall.py's, the strip
widgets/history's, drawing tabs/sample.py's. No torch.
"""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr
from gradio.components import Component

from ddpm_hub.app import exports, limits, models, recall, runs
from ddpm_hub.app.tabs import sample, sample_form
from ddpm_hub.app.tabs.common import HUB, LIGHT
from ddpm_hub.app.tabs.header import MODEL_PARTS, use_model
from ddpm_hub.app.widgets.history import history
from ddpm_hub.errors import ConfigError, DDPMHubError
from ddpm_hub.samplers import default_eta

FORM = (
    *MODEL_PARTS,
    *("sampler", "eta", "batch", "seed", "fresh", "spacing", "bounds", "variance"),
    *("classes", "guidance", "runtime", "start"),
)
DRAWN = ("ticket", "panes", *sample.BUTTONS)
AGAIN = "Its settings are back, and it is drawn again."
SHOWN = "Its settings are back; the panes show it as it was drawn."
MIDWAY = "The panes show it as it was drawn. It began midway: a new run will begin in noise."
FAILED = {"error": "The server could not do this: try again in a minute."}


def build(form: dict[str, Component]) -> None:
    """Put the history under the panes of `form`, the Sample tab's."""
    with form["panes"].parent:
        strip = history(
            describe=recall.describe,
            read=recall.read,
            export=exports.export,
            keys=recall.ALL_KEYS,
            most_bytes=recall.MAX_PICTURE_BYTES,
        )
    mine = gr.State("")  # id of the run that is brought back, "" if it cannot be
    asked = strip.recall(
        _bring_back, None, [strip, mine, *(form[name] for name in (*FORM, *DRAWN))], **HUB
    )
    asked.failure(lambda: FAILED | _nonce(), None, strip, **LIGHT)
    sample.follow(asked, form, mine)


# ---- handlers -----------------------------------------------------------------------------------
def _bring_back(event: gr.EventData) -> list[Any]:
    """strip, mine, FORM and DRAWN: all or nothing."""
    try:
        run, said = _found(event._data if isinstance(event._data, dict) else {})
        card = models.model_card(run.request.model)
        values = _form_of(recall.complete(run.request, card))
        begun = sample.begun(run)
    except DDPMHubError as error:
        refused = {"error": recall.sentence(error)} | _nonce()
        return [refused, "", *[gr.skip()] * (len(FORM) + len(DRAWN))]
    shown = {"say": said, "shown": run.id} | _nonce()
    return [shown, run.id, *(values[name] for name in FORM), *begun]


def _found(asked: dict) -> tuple[runs.Run, str]:
    """The run that is kept here, or a new one by its link; and what is said of it."""
    run = runs.STORE.get(asked.get("run"))
    if run is not None and run.over and run.frames:
        return run, MIDWAY if recall.midway(run) else SHOWN
    if not asked.get("link"):
        why = asked.get("why") or recall.PRIVATE
        raise ConfigError(f"this run is no longer kept on the server. {str(why)[:400]}")
    request = recall.from_link(asked["link"])
    return runs.Run(recall.complete(request, models.model_card(request.model))), AGAIN


def _form_of(request: limits.Request) -> dict[str, Any]:
    """What the form shows for that request, by name."""
    parts = dict(zip(MODEL_PARTS, use_model(request.model), strict=True))
    offered = parts["steps"]["choices"]
    classes, guidance = sample_form.offer_classes(request.model, _choice(request))
    eta = default_eta(request.sampler)
    return parts | {
        "steps": gr.update(choices=sorted({*offered, request.steps}), value=request.steps),
        "sampler": request.sampler,
        "eta": gr.update(visible=eta is not None, value=request.eta or 0.0),
        "batch": gr.update(choices=sorted({*limits.BATCHES, request.batch}), value=request.batch),
        "seed": request.seed,
        "fresh": False,
        "spacing": request.spacing,
        "bounds": request.bounds,
        "variance": gr.update(
            visible=request.sampler == "ddpm", value=request.variance or "fixed_small"
        ),
        "classes": classes,
        "guidance": guidance | {"value": request.guidance or 1.0},
        "runtime": request.runtime,
        "start": None,
    }


def _choice(request: limits.Request) -> str:
    """How the form calls the request's class."""
    if request.classes is None and sample_form.has_classes(request.model):
        return sample_form.NO_CLASS
    return sample_form.RANDOM if request.classes is None else str(request.classes)


def _nonce() -> dict[str, str]:
    """Makes the same message twice two messages."""
    return {"nonce": secrets.token_hex(4)}
