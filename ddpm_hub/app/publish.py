"""Publishing from the demo: which model, with which card, under whose name.

In the room: what may be published, the card before it is pushed, and the check of the visitor's
token. Not in the room: the upload (`ddpm_hub.hub`), what a card says (`ddpm_hub.card`), components.

Only the visitor's own token is ever used. The token of the machine's owner, if there is one, is for
nobody who comes to the page.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ddpm_hub import card as cards
from ddpm_hub import hub
from ddpm_hub.app import jobs, limits
from ddpm_hub.app.background import Done, in_background
from ddpm_hub.app.job import ACTIVE
from ddpm_hub.errors import ConfigError, HubError, check_bool, check_choice, shown
from ddpm_hub.hub import repos
from ddpm_hub.hub.client import Failure
from ddpm_hub.hub.sources import BUNDLED

LICENSES = {
    "apache-2.0": "Apache 2.0",
    "mit": "MIT",
    "cc0-1.0": "CC0: no rights reserved",
    "cc-by-4.0": "CC BY 4.0",
    "cc-by-sa-4.0": "CC BY-SA 4.0",
    "cc-by-nc-4.0": "CC BY-NC 4.0: not for sale",
    "openrail": "OpenRAIL",
    "other": "Another",
}
MAX_CARD = 100_000  # characters
MAX_PUSHES = 4  # at the same time
MESSAGE = "Publish from the ddpm_hub demo"
NO_TOKEN = (
    "publishing needs a token of your own: sign in, or give a write token of "
    "https://huggingface.co/settings/tokens"
)

_pushes = threading.BoundedSemaphore(MAX_PUSHES)


class Request(NamedTuple):
    """What is to be published, checked. card: the text of README.md, None for a generated one."""

    source: str
    repo_id: str
    private: bool
    license: str
    card: str | None = None
    replace_card: bool = False


def request(
    source, repo_id, private=False, license="apache-2.0", card=None, replace_card=False
) -> Request:
    """Check what a form or an endpoint asks for."""
    if card is not None and (not isinstance(card, str) or len(card) > MAX_CARD):
        raise ConfigError(f"the card is no text of at most {MAX_CARD:,} characters: shorten it")
    return Request(
        source=source_name(source),
        repo_id=limits.repo_name(repo_id),
        private=check_bool("private", private),
        license=check_choice("licence", license, LICENSES),
        card=card if card and card.strip() else None,
        replace_card=check_bool("replace_card", replace_card),
    )


def source_name(source: object) -> str:
    """ "bundled" or "job:ID": what was made here. A model of somebody else stays where it is."""
    name = limits.model_name(source if source is not None else "")
    if name != "bundled" and not name.startswith("job:"):
        raise ConfigError(f'source {shown(source)} is not made here: use "job:KEY" of a training')
    return name


def folder_of(source: str) -> Path:
    """Where a source's files lie; ConfigError for a training that goes on, or has no model."""
    if source == "bundled":
        return BUNDLED
    job = jobs.desk().get(source.removeprefix("job:"))
    if job.state in ACTIVE:
        raise ConfigError(f"this training is {job.state}: pause or stop it, then publish it")
    if not (job.folder / hub.MODEL[1]).is_file():
        raise ConfigError("this training has saved no model: let it make its first steps")
    return job.folder


def card(source: object, repo_id: object = None, license: object = "apache-2.0") -> str:
    """The README.md that a push of these would write, to the letter."""
    license = check_choice("licence", license, LICENSES)
    repo_id = limits.repo_name(repo_id) if repo_id else None
    return cards.of_folder(folder_of(source_name(source)), repo_id, license=license)


def check_account(repo_id: str, token: str | None) -> None:
    """Raise HubError unless this visitor's token may be expected to write there."""
    if not token:
        raise HubError(NO_TOKEN)
    try:
        account = repos.account(token)
    except Failure as failure:
        if failure.status in (401, 403):
            raise HubError(
                "the token is not accepted, it may have expired: sign in again, or give another one"
            ) from None
        raise HubError(f"the Hub could not be asked whose token this is ({failure})") from None
    if account.read_only:
        raise HubError("this token may only read: give one with the right to write")
    owner = repo_id.split("/")[0]
    if owner.lower() not in {name.lower() for name in (account.name, *account.organisations)}:
        raise HubError(
            f"{shown(repo_id)} would be {owner}'s, and the token is {account.name}'s: publish to "
            f"{account.name}/{repo_id.split('/')[1]}"
        )


def push(request: Request, token: str | None) -> hub.Pushed:
    """Push a source to the visitor's own repo in one commit. Raises DDPMHubError, a sentence."""
    folder = folder_of(request.source)
    text = request.card or card(request.source, request.repo_id, request.license)
    check_account(request.repo_id, token)
    if not _pushes.acquire(blocking=False):
        raise HubError("other visitors publish just now: try again in a minute")
    try:
        with tempfile.TemporaryDirectory(prefix="ddpm_hub_") as staging:
            for name in (*hub.MODEL, *hub.EXTRAS):  # copies: a training may go on meanwhile
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, Path(staging) / name)
            (Path(staging) / cards.CARD).write_text(text, encoding="utf-8")
            return hub.push_folder(
                staging,
                request.repo_id,
                private=request.private,
                token=token or False,  # None would be the token of the machine's owner
                overwrite_card=request.replace_card,
                commit_message=MESSAGE,
            )
    finally:
        _pushes.release()


def follow(request: Request, token: str | None) -> Iterator[float | Done]:
    """The same as a stream: seconds so far while it lasts, then `Done` with what was pushed."""
    return in_background(lambda: push(request, token))


def sources(trainings: list[Any]) -> list[tuple[str, str]]:
    """(title, source) of what a page may publish: its trainings that have a model, and ours."""
    rows = [
        (f"{job.request.preset} on {job.name}, step {job.look().step:,}", f"job:{job.id}")
        for job in trainings
        if job.state not in ACTIVE and (job.folder / hub.MODEL[1]).is_file()
    ]
    return [*rows, ("The bundled model", "bundled")]
