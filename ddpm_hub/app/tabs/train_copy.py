"""The part of the Train tab's form that keeps a copy of a training on the Hub, and fetches one.

In the room: its components, and what they ask for. Whose token counts is account.py's business, the
pushes app/copies.py's, what comes back app/returned.py's. No torch.
"""

from __future__ import annotations

import gradio as gr
from gradio.components import Component

from ddpm_hub.app import copies, jobs, returned
from ddpm_hub.app.tabs import account
from ddpm_hub.app.visitors import here
from ddpm_hub.errors import ConfigError

OWN = (
    "While it trains, model and checkpoint go to a repository of yours, with your token from the "
    "Hub tab: fetch them when this machine has forgotten the training. Your own pictures are not "
    "copied, so a training on them does not come back."
)


def build() -> dict[str, Component]:
    """The controls, by name: `copy`, the repo; `private`; `fetch`, the button."""
    with gr.Accordion("Keep a copy on the Hub", open=False, elem_id="train-copy"):
        gr.HTML(f'<p class="hub-note">{OWN}</p>', apply_default_css=False)
        return {
            "copy": gr.Textbox(
                label="Repository",
                placeholder="your-name/my-training",
                max_length=200,
                elem_id="train-copy-repo",
            ),
            "private": gr.Checkbox(
                True, label="Private: only you see it", elem_id="train-copy-private"
            ),
            "fetch": gr.Button("Fetch a copy", size="sm", elem_id="train-copy-fetch"),
        }


def wanted(
    repo: str, private: bool, typed: str, signed_in: gr.OAuthToken | None, job: str = ""
) -> copies.Copy | None:
    """The copy that the form asks for, of training `job` or of a new one; None if it asks for none.

    Raises gr.Error, a sentence without tokens.
    """
    if not repo or not repo.strip():
        return None
    with account.sentences(typed):
        known = jobs.desk().get(job) if job else None
        return copies.ask(repo, account.token_of(typed, signed_in), private, known)


def fetched(repo: str, typed: str, signed_in: gr.OAuthToken | None) -> str:
    """The id of the training whose copy that repo holds: it waits for Resume.

    Raises gr.Error, as above.
    """
    with account.sentences(typed):
        if not repo or not repo.strip():
            raise ConfigError("there is no name yet: type that of the repository with the copy")
        return returned.fetch(repo, account.token_of(typed, signed_in), here()).id
