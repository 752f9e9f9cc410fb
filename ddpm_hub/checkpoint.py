"""The state of a training on disk: complete, readable by anyone, never half written.

One safetensors file per checkpoint: tensors (weights, their average, the optimiser's moments, the
losses so far) and, in the header, the facts as JSON. No pickle, and one file, since one file can
be replaced in one step. What stands in a state is `training/state.py`'s business; the model that
people share, `hub_model.py`'s.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ddpm_hub import files
from ddpm_hub.errors import CheckpointError, shown

FOLDER = "checkpoints"  # in the results folder
NAME = re.compile(r"step-(\d{8,})\.safetensors")
LOSSES = "losses"  # the tensor with the loss of every step
FACTS = "facts"  # the key of the JSON in the header


def write(results: str | Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Path:
    """Save a state as the checkpoint of `facts["step"]`; its path.

    Raises CheckpointError if the folder cannot be written, or the disk is full: what was saved
    before stays as it is.
    """
    folder = Path(results) / FOLDER
    path = folder / f"step-{facts['step']:08d}.safetensors"
    header = {"format": "pt", FACTS: json.dumps(facts, allow_nan=False)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_durably(path, lambda temporary: save_file(tensors, temporary, metadata=header))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"step {facts['step']} could not be saved to {str(folder)!r} ({files.reason(error)}): "
            "what was saved before is untouched; make room or choose another folder, then resume"
        ) from error
    return path


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, facts) of a checkpoint file; CheckpointError if it is none."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, _facts(file)  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error


def read_facts(path: str | Path) -> dict[str, Any]:
    """What a checkpoint says of itself, from its header alone: step, config, ..."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return _facts(file)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error


def read_curve(results: str | Path) -> list[float]:
    """The loss of every step up to the newest checkpoint of a results folder; [] without one."""
    path = newest(results)
    if path is None:
        return []
    with safe_open(path, framework="pt", device="cpu") as file:
        return file.get_tensor(LOSSES).tolist()


def all_of(results: str | Path) -> dict[int, Path]:
    """The checkpoints of a results folder by their step, ascending."""
    folder = Path(results) / FOLDER
    found = [(NAME.fullmatch(p.name), p) for p in folder.iterdir()] if folder.is_dir() else []
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def newest(results: str | Path) -> Path | None:
    """The checkpoint of the latest step that can be read, or None."""
    for path in reversed(all_of(results).values()):
        try:
            read_facts(path)
        except CheckpointError:
            continue  # a damaged disk: an older one is better than none
        return path
    return None


def find(resume: str, results: str | Path | None) -> Path | None:
    """The file that `resume` means: "auto", a results folder, or a checkpoint itself.

    None if it is "auto" and there is nothing to resume from.
    """
    if resume == "auto":
        return None if results is None else newest(results)
    path = Path(resume)
    found = newest(path) if path.is_dir() else path
    if found is None or not found.is_file():
        raise CheckpointError(
            f"resume {shown(resume)} holds no checkpoint: give a results folder with a {FOLDER} "
            'folder, one of its files, or "auto"'
        )
    return found


def prune(results: str | Path, keep: int, best: int | None) -> None:
    """Delete all checkpoints but the newest `keep` and that of step `best`."""
    for step, path in list(all_of(results).items())[:-keep]:
        if step != best:
            path.unlink(missing_ok=True)


def clean(results: str | Path) -> None:
    """Remove what a crash left half written."""
    for folder in (Path(results), Path(results) / FOLDER):
        files.clean(folder)


def set_aside(results: str | Path) -> Path | None:
    """Make way for a new run: earlier checkpoints move to `checkpoints.old`, once deep."""
    folder = Path(results) / FOLDER
    if newest(results) is None:
        return None
    old = folder.with_name(f"{FOLDER}.old")
    for path in old.iterdir() if old.is_dir() else ():
        path.unlink()
    old.mkdir(exist_ok=True)
    for path in all_of(results).values():
        os.replace(path, old / path.name)
    return old


def take(tensors: dict[str, Tensor], prefix: str, into: dict[str, Tensor]) -> None:
    """Copy every `prefix + name` of a checkpoint into the tensor of that name, strictly."""
    names = {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
    odd = sorted(names ^ into.keys())
    odd += [n for n in sorted(names & into.keys()) if tensors[prefix + n].shape != into[n].shape]
    if odd:
        raise CheckpointError(
            f"the checkpoint is of another network: {len(odd)} weights differ {shown(odd[:3])}; "
            "build the model as it was, or choose another results_folder"
        )
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(tensors[prefix + name])


def _facts(file: Any) -> dict[str, Any]:
    header = file.metadata() or {}
    if FACTS not in header:
        raise ValueError("it holds no state of a training")
    facts = json.loads(header[FACTS])
    if not isinstance(facts, dict) or not isinstance(facts.get("step"), int):
        raise ValueError("its header says no step")
    return facts


def _unreadable(path: str | Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{shown(str(path))} is no checkpoint that can be read ({files.reason(error)}): give a "
        f"file of a {FOLDER} folder, or the results folder it lies in"
    )
