"""The Publish half of the Hub tab, and the endpoint /push.

In the room: components, handlers, and the endpoint's arguments and answer. What is pushed, and the
checks of it, are app/publish.py's; whose token counts, account.py's. No torch.

The card in the page is the text that is pushed, to the letter: made anew when the choices change,
unless somebody has edited it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.components import Component

from ddpm_hub.app import limits, publish
from ddpm_hub.app.background import Done
from ddpm_hub.app.tabs import account, hub_cards
from ddpm_hub.app.tabs import train as trainings
from ddpm_hub.app.tabs.common import HUB, LIGHT
from ddpm_hub.app.tabs.endpoint import endpoint
from ddpm_hub.app.tabs.train_form import ASKING
from ddpm_hub.errors import ConfigError, DDPMHubError

EDITED = "The card was edited and stays as it is: Write it anew makes one of the new choices."


def form() -> dict[str, Component]:
    """The controls and the card, by name."""
    # beside the card in the page, not on the server: both are sent as they were at one moment
    made: dict[str, Component] = {"written": gr.Textbox("", visible=False)}
    with gr.Row(equal_height=False, elem_classes="ddpm-row"):
        with gr.Column(scale=3, min_width=290, elem_classes="ddpm-controls ddpm-card"):
            made |= _choices()
        with gr.Column(scale=8, min_width=340, elem_classes="ddpm-controls ddpm-card hub-edit"):
            made["card"] = gr.Textbox(
                label="Model card: README.md, pushed as it stands here",
                lines=18,
                max_lines=26,
                max_length=publish.MAX_CARD,
                elem_id="push-card",
            )
            made["anew"] = gr.Button("Write it anew", size="sm", elem_id="push-anew")
    return made


def _choices() -> dict[str, Component]:
    return {
        "source": gr.Dropdown(
            publish.sources([]), value="bundled", label="Model", elem_id="push-source"
        ),
        "repo": gr.Textbox(
            label="To", placeholder="your-name/my-ddpm", max_length=200, elem_id="push-repo"
        ),
        "license": gr.Dropdown(
            [(title, id) for id, title in publish.LICENSES.items()],
            value="apache-2.0",
            label="Licence of the weights",
            elem_id="push-license",
        ),
        "private": gr.Checkbox(False, label="Private: only you see it", elem_id="push-private"),
        "replace": gr.Checkbox(
            False,
            label="Replace the card that is there",
            info="else a README.md of the repository stays",
            elem_id="push-replace",
        ),
        "push": gr.Button("Publish", variant="primary", elem_id="push-button"),
        "status": gr.HTML(elem_id="push-status"),  # of a push: a preview must not wipe it away
        "note": gr.HTML(elem_id="push-note"),  # of the card
    }


def wire(
    tab: gr.Tab,
    tabs: gr.Tabs,
    halves: gr.Tabs,
    half: gr.Tab,
    made: dict[str, Component],
    token: gr.Textbox,
    trained: dict[str, Component],
) -> None:
    """Connect the form; `trained`: the Train tab's `known`, `watched` and `publish`."""
    choices = [made[name] for name in ("source", "repo", "license")]
    texts = [made["card"], made["written"]]
    preview = {"inputs": [*choices, *texts], "outputs": [*texts, made["note"]], **HUB}
    for event in (tab.select, half.select):
        event(_list, [trained["known"], made["source"]], made["source"], **LIGHT).then(
            _preview, **preview
        )
    for event in (made["source"].input, made["license"].input, made["repo"].change):
        event(_preview, trigger_mode="always_last", **preview)
    made["anew"].click(_write, choices, [*texts, made["note"]], **HUB)
    trained["publish"].click(
        _choose,
        [trained["watched"], trained["known"]],
        [tabs, halves, made["source"]],
        **ASKING,
    ).success(_preview, **preview)
    settings = [made[name] for name in ("private", "replace", "card", "written")]
    ends = [made["status"], made["push"], *texts]
    made["push"].click(_push, [*choices, *settings, token], ends, **HUB)
    endpoint(api_push, "push", concurrency_id="hub", concurrency_limit=8)


# ---- handlers -----------------------------------------------------------------------------------
def _list(known: Any, chosen: str) -> Any:
    rows = publish.sources(trainings.visible(known))
    there = chosen in [source for _, source in rows]
    return gr.update(choices=rows, value=chosen if there else rows[0][1])


def _choose(watched: str, known: Any) -> list[Any]:
    """To this tab, with the training that is watched in the Train tab."""
    source = f"job:{watched}"
    with account.sentences():
        if not watched:
            raise ConfigError("there is no training yet: start one first")
        publish.folder_of(publish.source_name(source))
    rows = publish.sources(trainings.visible(known))
    update = gr.update(choices=rows, value=source)
    return [gr.Tabs(selected="hub"), gr.Tabs(selected="hub-publish"), update]


def _preview(source: str, repo: str, license: str, text: str, written: str) -> list[Any]:
    """The card of these choices, unless the text was edited; and what there is to say."""
    if text and text.strip() and text != written:
        return [gr.skip(), gr.skip(), hub_cards.said(EDITED, kind="note")]
    return _write(source, repo, license)


def _write(source: str, repo: str, license: str) -> list[Any]:
    try:
        named = limits.is_repo_id(repo)  # not yet, while somebody types
        text = publish.card(source, repo if named else None, license)
    except DDPMHubError as error:
        return [gr.skip(), gr.skip(), hub_cards.said(account.told(error), kind="bad")]
    return [text, text, ""]


def _push(  # noqa: PLR0913  the form's fields
    source: str,
    repo: str,
    license: str,
    private: bool,
    replace: bool,
    card: str,
    written: str,
    typed: str,
    signed_in: gr.OAuthToken | None,
) -> Iterator[list[Any]]:
    """status, button, card and what of it was written here."""
    busy, idle = gr.update(interactive=False), gr.update(interactive=True)
    try:
        if not card or card == written:  # nobody edited it: then it is that of these choices
            card = written = publish.card(source, repo, license)
        texts = [card, written]
        yield [hub_cards.progress("Asking the Hub whose token this is"), busy, *texts]
        asked = publish.request(source, repo, private, license, card, replace)
        for said in publish.follow(asked, account.token_of(typed, signed_in)):
            if isinstance(said, Done):
                text = hub_cards.said("Published in one commit:", said.value.url)
                yield [text, idle, *texts]
            else:
                yield [hub_cards.progress(f"Publishing, {said:.0f} s"), busy, *texts]
    except Exception as error:
        yield [hub_cards.said(account.told(error, typed), kind="bad"), idle, card, written]


# ---- endpoint -----------------------------------------------------------------------------------
def api_push(
    source: str, repo_id: str, private: bool = False, token: gr.OAuthToken | None = None
) -> dict:
    """Publish a model in one commit, under your own name and with your own token.

    The token is sent by `gradio_client.Client(..., oauth_token="hf_...")`, or is that of who is
    signed in. A README.md that the repository has stays as it is.

    Args:
        source: "job:KEY" of a training here that is over or paused, or "bundled".
        repo_id: yours/name; made if it is not there.
        private: whether a new repository is for you alone.

    Returns:
        {url, commit}: the page of the commit, and its hash.
    """
    with account.sentences(token.token if token else ""):
        asked = publish.request(source, repo_id, private)
        pushed = publish.push(asked, account.token_of("", token))
        return {"url": pushed.url, "commit": pushed.commit}
