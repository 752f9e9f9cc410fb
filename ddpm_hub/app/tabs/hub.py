"""The Hub tab: open a model by its name, look at it, load it; and publish one.

In the room: components and handlers of the opening half. Publishing is tabs/publish.py's, whose
token counts account.py's, what is shown of a repo hub_cards.py's, what it holds app/opened.py's. No
torch.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.components import Component

from ddpm_hub.app import limits, models, opened
from ddpm_hub.app.background import Done
from ddpm_hub.app.tabs import account, hub_cards, publish
from ddpm_hub.app.tabs.common import HUB, LIGHT
from ddpm_hub.app.tabs.header import MODEL_PARTS, use_model
from ddpm_hub.hub import repos
from ddpm_hub.hub.client import Failure

TAG = "ddpm_hub"  # of models that this library published
OWN = os.environ.get("DDPM_HUB_MODEL")  # that a Space is about: ddpm-hub space deploy --model
KNOWN = (
    *((OWN,) if limits.is_repo_id(OWN) else ()),
    "google/ddpm-cifar10-32",
    "google/ddpm-celebahq-256",
    "google/ddpm-ema-church-256",
)
LOADED = (
    "Loaded. Sample uses it now, and so do the Lab's first four tools; Train can go on from it."
)
MORE = 5  # suggestions that the Hub may add
MODEL_COUNT = len(MODEL_PARTS)
FRESH = 600.0  # seconds for which they are not asked for again


def build(
    tab: gr.Tab,
    tabs: gr.Tabs,
    drawing: list[Component],
    trained: dict[str, Component],
    token: gr.Textbox,
) -> None:
    """Fill `tab`, one of `tabs`; `drawing`: what `use_model` sets, `trained`: the Train tab's.

    token: of `account.box`, placed here.
    """
    with gr.Tabs(elem_id="hub-tabs", elem_classes="ddpm-subtabs") as halves:
        with gr.Tab("Open a model", id="hub-open"):
            page = _open_half()
        with gr.Tab("Publish", id="hub-publish") as publishing:
            form = publish.form()
    account.build(token)
    _wire(tab, tabs, page, token, drawing)
    publish.wire(tab, tabs, halves, publishing, form, token, trained)


def _open_half() -> dict[str, Component]:
    page: dict[str, Component] = {
        "found": gr.State(None),
        "loaded": gr.State("", delete_callback=models.forget),  # when the visitor has gone
    }
    with gr.Row(equal_height=False, elem_classes="ddpm-row"):
        with gr.Column(scale=3, min_width=290, elem_classes="ddpm-controls ddpm-card"):
            page["repo"] = gr.Textbox(
                label="Repository",
                placeholder="owner/name",
                max_length=200,
                elem_id="hub-repo",
            )
            page["revision"] = gr.Textbox(
                label="Revision, if not the newest",
                placeholder="branch, tag or commit",
                max_length=limits.LONGEST_NAME,
                elem_id="hub-revision",
            )
            page["open"] = gr.Button("Open", variant="primary", elem_id="hub-open-button")
            page["tries"] = gr.Radio(
                list(KNOWN),
                label="Or one of these",
                elem_classes=["ddpm-segments", "hub-tries"],
                elem_id="hub-tries",
            )
        with gr.Column(scale=8, min_width=340, elem_classes="ddpm-first"):
            page["facts"] = gr.HTML(hub_cards.idle(), elem_id="hub-facts")
            with gr.Row(visible=False, elem_classes="hub-actions") as page["actions"]:
                page["load"] = gr.Button(
                    "Load", variant="primary", elem_id="hub-load", min_width=90
                )
                page["draw"] = gr.Button(
                    "Draw with it", variant="primary", visible=False, elem_id="hub-draw"
                )
                page["lab"] = gr.Button("Use it in the Lab", visible=False, elem_id="hub-lab")
            page["status"] = gr.HTML(elem_id="hub-status")
            page["card"] = gr.HTML(elem_id="hub-card")
    return page


def _wire(
    tab: gr.Tab, tabs: gr.Tabs, page: dict, token: gr.Textbox, drawing: list[Component]
) -> None:
    asked = [page["repo"], page["revision"], token]
    after = [page[name] for name in ("load", "draw", "lab")]
    view = [page[name] for name in ("found", "facts", "actions", "status", "card")] + after
    tab.select(_suggest, None, page["tries"], **LIGHT)
    page["tries"].input(lambda chosen: (chosen, ""), page["tries"], asked[:2], **LIGHT).then(
        _open, asked, view, **HUB
    )
    for event in (page["open"].click, page["repo"].submit, page["revision"].submit):
        # a press before the last answer is wholly there is heard when it is, not lost
        event(_open, asked, view, trigger_mode="always_last", **HUB)
    page["load"].click(
        _load, [page["found"], token], [page["status"], page["loaded"], *after, *drawing], **HUB
    )
    page["draw"].click(lambda: gr.Tabs(selected="sample"), None, tabs, **LIGHT)
    page["lab"].click(lambda: gr.Tabs(selected="lab"), None, tabs, **LIGHT)


# ---- handlers -----------------------------------------------------------------------------------
def _open(
    repo: str, revision: str, typed: str, signed_in: gr.OAuthToken | None
) -> Iterator[list[Any]]:
    """found, facts, actions, status, card, and the three buttons."""
    idle = [None, hub_cards.idle(), gr.update(visible=False)]
    yield [*idle, hub_cards.progress("Asking the Hub"), "", *_buttons("Load")]
    try:
        found = opened.look(repo, revision, account.token_of(typed, signed_in))
        facts, card = hub_cards.facts(found), hub_cards.card(found.card)
    except Exception as error:
        said = hub_cards.said(account.told(error, typed), kind="bad")
        yield [*idle, said, "", *_buttons("Load")]
    else:
        yield [found, facts, gr.update(visible=True), "", card, *_buttons("Load")]


def _load(
    found: opened.Opened | None, typed: str, signed_in: gr.OAuthToken | None
) -> Iterator[list[Any]]:
    """status, the name in memory, the three buttons, and what `use_model` sets."""
    same = [gr.skip()] * MODEL_COUNT
    if found is None:
        return
    whole = f"{found.weight_bytes / 1e6:.1f} MB"
    yield [hub_cards.progress(f"Fetching {whole}"), gr.skip(), *_buttons("Loading", False), *same]
    try:
        for said in _model(found, account.token_of(typed, signed_in)):
            if isinstance(said, Done):
                chosen = use_model(said.value, found.title)
                yield [hub_cards.said(LOADED), said.value, *_buttons("Load", loaded=True), *chosen]
                return
            share = said / max(found.weight_bytes, 1)
            text = f"Fetching {said / 1e6:.1f} of {whole}" if share < 1 else "Checking the weights"
            yield [hub_cards.progress(text, share), gr.skip(), *_buttons("Loading", False), *same]
    except Exception as error:
        said = hub_cards.said(account.told(error, typed), kind="bad")
        yield [said, gr.skip(), *_buttons("Load"), *same]


def _model(found: opened.Opened, token: str | None) -> Iterator[int | Done]:
    """Bytes so far, then `Done` with the name under which the model is in memory."""
    if not found.private and models.holds(found.name):
        yield Done(found.name)
        return
    for said in opened.follow(found, token):
        if not isinstance(said, Done):
            yield said
            continue
        name = f"opened:{secrets.token_hex(16)}" if found.private else found.name
        models.adopt(name, models.placed(said.value), found.card)
        yield Done(name)


def _buttons(label: str, ready: bool = True, loaded: bool = False) -> list[Any]:
    """Load, Draw with it, Use it in the Lab."""
    return [
        gr.update(value=label, interactive=ready, visible=not loaded),
        gr.update(visible=loaded),
        gr.update(visible=loaded),
    ]


# ---- suggestions --------------------------------------------------------------------------------
class _Suggestions:
    """Names to try: a few that are known, and what the Hub says, asked for in the background."""

    def __init__(self) -> None:
        self.names, self.asked_at = list(KNOWN), -FRESH

    def ask(self) -> list[str]:
        """The names known now; who comes later sees those of the Hub, too."""
        if time.monotonic() - self.asked_at > FRESH:
            self.asked_at = time.monotonic()
            threading.Thread(target=self._look, daemon=True).start()
        return self.names

    def _look(self) -> None:
        try:
            found = repos.tagged(TAG, 3 * MORE)
        except Failure:  # quietly: those that are known do without
            return
        new = [name for name in found if limits.is_repo_id(name) and name not in KNOWN]
        self.names = [*KNOWN, *new[:MORE]]


SUGGESTIONS = _Suggestions()


def _suggest() -> Any:
    return gr.update(choices=SUGGESTIONS.ask())
