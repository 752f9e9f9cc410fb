"""A training that comes back from its copy on the Hub: to an app whose disk has forgotten it.

In the room: what a repo must hold to become a training here, and its checks before anything of it
is kept. All of it is a stranger's: JSON and safetensors alone are read, within limits. Not in the
room: how a copy gets there (copies.py), trainings (job.py, jobs.py), components.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch

from ddpm_hub import GaussianDiffusion, checkpoint
from ddpm_hub.app import copies, jobs, limits, models, opened, starts
from ddpm_hub.app.job import Job
from ddpm_hub.errors import CheckpointError, ConfigError, DDPMHubError, HubError, shown
from ddpm_hub.hub.sources import Repo
from ddpm_hub.training.state import COUNTERS, State

STATES = re.compile(f"{checkpoint.FOLDER}/{checkpoint.NAME.pattern}")
BYTES_PER_WEIGHT = 20  # of a checkpoint: weights, average and two moments are 16
SPARE_BYTES = 2_000_000  # for names, counters and losses
MAX_NAME = 200
MAX_FETCHES = 2  # at the same time

_fetches = threading.BoundedSemaphore(MAX_FETCHES)


def fetch(repo_id: object, token: str | None = None, owner: str = "") -> Job:
    """The training whose copy a repo holds, paused where the copy was made.

    Read without a token if everybody may, else with the visitor's. Raises DDPMHubError, a sentence:
    no such repo, no right, no copy of this demo, or one that does not hold what it says.
    """
    repo_id = limits.repo_name(repo_id)
    if not _fetches.acquire(blocking=False):
        raise HubError(opened.BUSY)
    try:
        with opened.source_of(repo_id, None, token, apart=True) as source:
            record = _record(source)
            model = _start(source, record["request"], token)
            network = model or models.fresh(record["request"].preset, record["request"].seed)
            state = _checkpoint(source, network)
            step = _check(state, network, record["request"])
            return _keep(source, record, model, (state, step), owner)
    finally:
        _fetches.release()


def _record(source: Repo) -> dict[str, Any]:
    """demo.json, checked as if a visitor had asked for it just now."""
    if not source.has(copies.RECORD):
        raise HubError(f"{source.name} holds no copy of a training of this demo: {copies.RECORD}")
    path = source.fetch(copies.RECORD)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        name, asked = told["name"], dict(told["request"])
        request = limits.train_request(**asked)
    except DDPMHubError as error:
        if isinstance(asked, dict) and asked.get("data") == "upload":
            raise HubError(
                f"{source.name} was trained on its visitor's own pictures, which no copy holds: "
                "open its model in the Hub tab, and begin with that"
            ) from None
        raise HubError(f"{copies.RECORD} of {source.name} is none of this demo ({error})") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = type(error).__name__
        raise HubError(f"{copies.RECORD} of {source.name} cannot be read ({why})") from None
    if (
        request.data != "bundled"
        or not isinstance(name, str)
        or copies.mark_in(path.parent) is None
    ):
        raise HubError(f"{copies.RECORD} of {source.name} is none of this demo: use another copy")
    return {"name": name[:MAX_NAME], "request": request, "path": path}


def _start(source: Repo, request: limits.TrainRequest, token: str | None) -> Any:
    """The repo's model, if the training began with one: its shape, the checkpoint has the rest."""
    if request.start is None:
        return None
    found = opened.look(source.repo_id, source.commit, token)
    with tempfile.TemporaryDirectory(prefix="ddpm_hub_") as folder:
        model = opened.load(found, token, folder)
    starts.check(model, request)
    return model


def _checkpoint(source: Repo, network: GaussianDiffusion) -> Path:
    names = {int(match[1]): name for name in source.files if (match := STATES.fullmatch(name))}
    if not names:
        raise HubError(f"{source.name} holds no checkpoint: its training made none")
    weights = sum(tensor.numel() for tensor in network.state_dict().values())
    return source.fetch(names[max(names)], BYTES_PER_WEIGHT * weights + SPARE_BYTES)


def _check(path: Path, network: GaussianDiffusion, request: limits.TrainRequest) -> int:
    """The checkpoint's step; CheckpointError unless this training could go on from it."""
    try:
        tensors, facts = checkpoint.read(path)
    except (CheckpointError, RecursionError):  # whose text names a folder of this machine
        raise CheckpointError("the copy's checkpoint cannot be read: use another copy") from None
    step, shape = facts["step"], tensors.get(checkpoint.LOSSES, torch.empty(0)).shape
    numbers = all(isinstance(facts.get(name), int | float | None) for name in COUNTERS)
    if not (1 <= step <= request.steps and shape == (step,) and numbers):
        raise CheckpointError(
            f"the checkpoint says step {shown(step)} of {request.steps:,}, and has losses of shape "
            f"{tuple(shape)}: it is damaged, or none of this training, use another copy"
        )
    State(network.cpu(), limits.train_row(request.preset)).restore(tensors, facts)
    return step


def _keep(
    source: Repo, record: dict[str, Any], model: Any, state: tuple[Path, int], owner: str
) -> Job:
    """A folder like the one that was lost, and its job."""
    path, step = state
    found = f"Fetched from {source.repo_id}: Resume goes on from step {step:,}."

    def fill(folder: Path) -> None:
        shutil.copyfile(record["path"], folder / copies.RECORD)
        (folder / checkpoint.FOLDER).mkdir()
        # under the step it holds: a name of a later one would outlive all that comes
        name = f"step-{step:08d}.safetensors"
        shutil.copyfile(path, folder / checkpoint.FOLDER / name)

    try:
        return jobs.desk().take_in(record["request"], record["name"], model, fill, found, owner)
    except OSError as error:
        raise ConfigError(f"the disk takes no more trainings ({error.strerror})") from error
