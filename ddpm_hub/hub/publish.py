"""Publishing: a model's folder, or a training while it lasts, to a repo of the Hub.

A Space's disk forgets; a repo does not. All of a push is one commit, which is there whole or not
at all. How the client is watched over is in `client.py`, what it does in `tasks.py`;
opening a repo is `sources.py`'s business, a single model's `push_to_hub` is `hub_model.py`'s.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddpm_hub import files
from ddpm_hub.card import CARD, CURVE, SAMPLES, is_generated, of_folder, renamed
from ddpm_hub.config_file import CONFIG
from ddpm_hub.errors import HubError, shown
from ddpm_hub.hub import client, repos, tasks
from ddpm_hub.hub.cache import File, intact
from ddpm_hub.hub.client import Failure
from ddpm_hub.hub.leaks import check_no_token
from ddpm_hub.hub.repos import check_repo_id

MODEL = (CONFIG, "model.safetensors")
EXTRAS = (CARD, SAMPLES, CURVE, "training.json", "evaluation.json")
DIFFUSERS = (
    "model_index.json",
    "scheduler_config.json",
    "diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
)
CONFIGS = {CONFIG, "model_index.json", "unet/config.json"}
LICENCE = re.compile(r"^license: ([\w.+-]+)$", re.MULTILINE)
STAGING = ".download"  # in the results folder, for as long as a download takes


class Pushed(str):
    """The URL of the commit that now holds what was pushed; `commit` is its hash."""

    commit: str

    def __new__(cls, url: str, commit: str) -> Pushed:
        pushed = super().__new__(cls, url)
        pushed.commit = commit
        return pushed

    @property
    def url(self) -> str:
        """The same, under the name it has in `/push`."""
        return str(self)


def push_folder(  # noqa: PLR0913  the Hub's arguments
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | bool | None = None,
    overwrite_card: bool = False,
    commit_message: str | None = None,
    revision: str | None = None,
    moved: Callable[[int], Any] | None = None,
) -> Pushed:
    """Upload what `save_pretrained`, `save_diffusers` or a training left in a folder; one commit.

    That is the model, its card, samples, report and curve: never checkpoints or anything else in
    the folder. The repo, private if asked for, and the branch `revision` are made if they are not
    there. The card is made anew, with the repo's name, unless the folder holds one that somebody
    has edited; one that somebody has edited in the repo stays unless `overwrite_card`. If nothing
    differs, there is no commit, and the newest one is returned. `moved` is told how many bytes of
    the weights were sent so far.

    Raises HubError: no such folder, no model in it, a token in one of its texts, no right to write
    there, no network, or `private` though the repo is public.
    """
    names = _model_files(Path(folder))
    told = {
        "branch": repos.check_revision(revision),
        "message": commit_message or f"Upload {Path(folder).resolve().name} with ddpm_hub",
        "private": private,
        "keep_card": not overwrite_card,
    }
    return _push(folder, names, repo_id, token, told, moved)


def preview(folder: str | Path, repo_id: str) -> tuple[str, dict[str, int]]:
    """What `push_folder` uploads: the card's text, and the bytes of each file. Nothing is asked.

    Raises HubError: no model in the folder, no name of a repo.
    """
    folder, repo_id = Path(folder), check_repo_id(repo_id)
    names = _model_files(folder)
    text = _new_card(folder, repo_id)
    if text is None and CARD in names:
        text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
    sizes = {name: (folder / name).stat().st_size for name in names}
    return text or "", sizes | ({CARD: len(text.encode())} if text else {})


def push_run(
    results: str | Path,
    repo_id: str,
    step: int,
    *,
    token: str | bool | None = None,
    private: bool = False,
    more: tuple[str, ...] = (),
) -> Pushed:
    """Upload a results folder's model, report and newest checkpoint in one commit.

    The repo, private if asked for, is created if it is not there. `more` of the folder goes with
    it, by name. Earlier checkpoints leave its newest commit; a README that somebody has edited
    stays. Raises HubError: no such owner, no right to write, no network, or `private` though the
    repo is public.
    """
    from ddpm_hub import checkpoint  # here, since a folder is pushed without torch

    newest = checkpoint.newest(results)
    state = [f"{checkpoint.FOLDER}/{newest.name}"] if newest else []
    names = [name for name in (*MODEL, *EXTRAS, *more) if (Path(results) / name).is_file()]
    replaces = f"{checkpoint.FOLDER}/{checkpoint.NAME.pattern}" if state else ""
    told = {"message": f"Step {step}", "replaces": replaces, "private": private}
    return _push(results, names + state, repo_id, token, told)


def fetch_checkpoint(repo_id: str, results: str | Path) -> Path | None:
    """Download the newest checkpoint of a repo into a results folder; None if there is none.

    A repo that does not exist has none. Raises HubError if it cannot be asked, or if the file is
    not, byte by byte, the one that was uploaded.
    """
    from ddpm_hub import checkpoint

    staging = Path(results) / STAGING
    pattern = f"{checkpoint.FOLDER}/{checkpoint.NAME.pattern}"
    told = {"repo_id": check_repo_id(repo_id), "pattern": pattern, "local_dir": str(staging)}
    failed = f"no checkpoint could be had from {shown(repo_id)}"
    otherwise = "; or train with resume=None"
    try:
        found = client.call(tasks.newest, told, client.check_token(None))
        if found is None:
            return None
        name, facts = found
        if not intact(staging / name, File(*facts)):
            raise HubError(f"{name} of {shown(repo_id)} arrived damaged: try again{otherwise}")
        path = Path(results) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_durably(path, lambda temporary: os.replace(staging / name, temporary))
        return path
    except Failure as failure:
        raise failure.sentence(failed, repos.page(repo_id), otherwise) from failure
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # also what a killed download left


def _model_files(folder: Path) -> list[str]:
    """What of a folder is published, by name; HubError if there is no model in it."""
    names = [name for name in (*MODEL, *EXTRAS, *DIFFUSERS) if (folder / name).is_file()]
    weights = any(name.endswith(".safetensors") for name in names)
    if not weights or not CONFIGS.intersection(names):
        raise HubError(
            f"{shown(str(folder))} holds no model ({' and '.join(MODEL)}): give a folder of "
            "save_pretrained or of a training"
        )
    return names


def _push(
    folder: str | Path,
    names: list[str],
    repo_id: str,
    token: str | bool | None,
    told: dict[str, Any],
    moved: Callable[[int], Any] | None = None,
) -> Pushed:
    paths = {name: (Path(folder) / name).resolve() for name in names}
    told |= {"repo_id": check_repo_id(repo_id)}
    token = client.check_token(token)
    with tempfile.TemporaryDirectory() as made:
        if (text := _new_card(Path(folder), repo_id)) is not None:
            paths[CARD] = Path(made) / CARD
            paths[CARD].write_text(text, encoding="utf-8")
        check_no_token(paths)
        told["files"] = {name: str(path) for name, path in paths.items()}
        try:
            commit = client.call(tasks.commit, told, token, moved)
        except Failure as failure:
            failed = f"{shown(repo_id)} could not be written"
            raise failure.sentence(failed, repos.page(repo_id)) from failure
    return Pushed(f"{repos.page(repo_id)}/commit/{commit}", commit)


def _new_card(folder: Path, repo_id: str) -> str | None:
    """The card of a folder as it now is, under the repo's name and the card's licence.

    None if somebody wrote the one that lies there. Of a network of somebody's own there is no
    config, and nothing to say.
    """
    card = folder / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if text and not is_generated(text):
        return None
    if not (folder / CONFIG).is_file():
        return renamed(text, repo_id) if text else None  # a folder of diffusers alone
    licence = LICENCE.search(text)
    return of_folder(folder, repo_id, **({"license": licence[1]} if licence else {}))
