"""Whose right counts on the Hub: the visitor's, by signing in or by a token of their own.

In the room: the sign-in button of a Space, the box for a token elsewhere, and the border where
errors become one sentence that holds no token. The token of the machine's owner is never used here.
"""

from __future__ import annotations

import html
import importlib.util
import logging
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
from gradio.utils import get_space

from ddpm_hub.errors import DDPMHubError, HubError
from ddpm_hub.hub.client import SECRET

MAX_TOKEN = 4000  # characters: tokens of a sign-in are longer than hf_...
LOG = logging.getLogger(__name__)
NONE_HERE = "This Space offers no sign-in, so only what everybody may read can be opened here."
OWN = """
**Your own token.** For private and gated models, and for publishing. The token stays in this page
and goes to the Hub with what you ask for: it is not kept here. Make one at
[huggingface.co/settings/tokens](https://huggingface.co/settings/tokens).
"""


def can_sign_in() -> bool:
    """Whether sign-in is real: elsewhere Gradio mocks one with the account of the machine."""
    ready = os.environ.get("OAUTH_CLIENT_ID") and importlib.util.find_spec("authlib")
    return bool(ready) and get_space() is not None


def box() -> gr.Textbox:
    """The box that holds a typed token, for `build` to place; it is empty where one signs in."""
    return gr.Textbox(
        "",
        type="password",
        max_length=MAX_TOKEN,
        label="Token",
        placeholder="hf_...",
        show_label=False,
        container=False,
        visible=get_space() is None,
        render=False,
        elem_id="hub-token",
    )


def build(token: gr.Textbox) -> None:
    """The sign-in, and the box of a typed token, where it has its place."""
    if get_space() is not None:
        if can_sign_in():
            gr.LoginButton(size="sm", elem_id="hub-login")
        else:
            gr.HTML(f'<p class="hub-note">{html.escape(NONE_HERE)}</p>')
        token.render()
        return
    # No accordion: Gradio mounts what is in one when it opens, and sets it to its first value a
    # frame later, so that on a slow machine a token pasted at once was wiped out.
    with gr.Column(elem_id="hub-account", elem_classes="ddpm-card"):
        gr.Markdown(OWN, elem_classes="lab-intro")
        token.render()


def token_of(typed: object, signed_in: gr.OAuthToken | None) -> str | None:
    """The visitor's token, or None; "" is none. HubError if it cannot be one."""
    token = typed.strip() if isinstance(typed, str) else ""
    token = token or (signed_in.token if signed_in is not None else "")
    if not token:
        return None
    if len(token) > MAX_TOKEN or not re.fullmatch(r"[!-~]+", token):
        raise HubError("what was given is no token of the Hub: copy it again, it begins with hf_")
    return token


@contextmanager
def sentences(*secrets: object) -> Iterator[None]:
    """For endpoints: every error is one sentence for the caller, and holds no token."""
    try:
        yield
    except Exception as error:
        raise gr.Error(told(error, *secrets), print_exception=False) from None


def told(error: Exception, *secrets: object) -> str:
    """An error as a sentence without tokens; what is not ours goes to the log, as clean."""
    if isinstance(error, DDPMHubError):
        return hidden(f"{error}.", *secrets)
    LOG.error(
        "the Hub tab failed:\n%s", hidden("".join(traceback.format_exception(error)), *secrets)
    )
    return "This failed on the server, whose log says why."


def hidden(text: str, *secrets: object) -> str:
    """`text` without tokens: those given, and all that looks like one."""
    for secret in secrets:
        if isinstance(secret, str) and secret.strip():
            text = text.replace(secret.strip(), "***")
    return SECRET.sub("***", text)
