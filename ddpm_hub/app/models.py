"""The models of the demo, on its device: in memory, by name, the least used gone first.

In the room: the cache of models, new ones of a preset, what a page is told of one. A repository's
model is known by its commit: two names of one commit share it, and a branch that has moved on is
seen. Not in the room: runs (engine.py, runs.py), the device (machine.py), what a repo of the Hub
holds (opened.py), which names may be asked for (limits.py).
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

import ddpm_hub
from ddpm_hub import PRESETS
from ddpm_hub.app import limits, machine
from ddpm_hub.errors import HubError
from ddpm_hub.memory import keep_memory

MEASURED = 4  # images at most, to find out which way of drawing is fastest
QUICK_COST = 1.5  # of a model's own memory, for its fast copy: bfloat16, packed for two batches
MAX_MODELS = 6  # in memory, beside the bundled one, if there is room for so many
CARD_BYTES = 64_000
ASKED_SECONDS = 10.0  # that the Hub is not asked again which commit a branch is
COMMIT = re.compile("[0-9a-f]{40}")

Key = tuple[str, str | None]  # a model's name, and the commit if it is a repository
BUNDLED: Key = ("bundled", None)

_models: OrderedDict[Key, object] = OrderedDict()
_cards: dict[Key, str] = {}  # of models of the Hub that are in memory
_reading: dict[Key, Future] = {}
_commits: dict[Key, tuple[float, str]] = {}  # when a branch was asked for, and what it was
_quick: WeakKeyDictionary = WeakKeyDictionary()  # fast copies, as long as their models are here
_quick_lock = threading.Lock()
_models_lock = threading.Lock()  # held for moments: nobody waits for another visitor's download


def load(model: str = "bundled", revision: str | None = None):
    """The GaussianDiffusion of that name, on its device, from the cache if it is there."""
    key = _exact(_key(model, revision))
    with _models_lock:
        if key in _models:
            return _used(key)
        mine = key not in _reading
        answer = _reading.setdefault(key, Future())
    if mine:
        try:
            answer.set_result(_read(*key))
        except BaseException as error:
            answer.set_exception(error)
        with _models_lock:
            del _reading[key]
    return answer.result()


def quick(diffusion, batch: int):
    """The fastest copy of a model of ours for drawing so many images, made when it is first asked.

    For each kind of model this machine measures once what is fastest: about a second, or a few
    calls of a large one, and of few images, since nobody can stop it.
    """
    with _quick_lock:
        if diffusion not in _quick:
            _quick[diffusion] = diffusion.accelerated("auto", min(batch, MEASURED))
        return _quick[diffusion]


def adopt(model: str, diffusion, card: str = ""):
    """Keep `diffusion` under that name, instead of what was there; gives it back."""
    key = _key(model)
    with _models_lock:
        _models[key], _cards[key] = diffusion, card[:CARD_BYTES]
        return _used(key)


def enter_worker() -> None:
    """This process was forked: a lock that another thread held then would stay locked for ever."""
    global _models_lock, _quick_lock
    _models_lock, _quick_lock = threading.Lock(), threading.Lock()
    _reading.clear()


def forget(model: str) -> None:
    """Let go of what a visitor's own token opened; all else stays for others."""
    if model.startswith("opened:"):
        with _models_lock:
            _models.pop(_key(model), None)
            _cards.pop(_key(model), None)


def placed(diffusion):
    """The model on the device where this process keeps models."""
    return diffusion.to(machine.device())


def holds(model: str) -> bool:
    """Whether the model is in memory under exactly this name."""
    return _key(model) in _models


def exact_name(model: str, revision: str | None = None) -> str:
    """The name by which a model stays the same: a repository's with its commit, owner/name@..."""
    repo, commit = _exact(_key(model, revision))
    return f"{repo}@{commit}" if commit else repo


def _key(model: str, revision: str | None = None) -> Key:
    repo, _, named = limits.model_name(model).partition("@")
    return repo, limits.revision_name(revision or named)


def _exact(key: Key) -> Key:
    """The key with a commit for a branch, which the Hub is asked for, though not too often."""
    repo, revision = key
    if "/" not in repo or key in _models or COMMIT.fullmatch(revision or ""):
        return key
    asked, commit = _commits.get(key, (-ASKED_SECONDS, ""))
    if time.monotonic() - asked >= ASKED_SECONDS:
        from ddpm_hub.app import opened

        commit = opened.commit(repo, revision)
        if len(_commits) >= 256:  # names that strangers made up do not stay for ever
            _commits.clear()
        _commits[key] = time.monotonic(), commit
    return repo, commit


def _used(key: Key):
    """The model, and room for it: those that were not used for longest go."""
    _models.move_to_end(key)
    room, others = machine.room_for_models(), [k for k in _models if k not in (key, BUNDLED)]
    taken = sum(map(_bytes, _models.values()))
    while others and (len(others) >= MAX_MODELS + (key == BUNDLED) or taken > room):
        oldest = others.pop(0)
        taken -= _bytes(_models.pop(oldest))
        _cards.pop(oldest, None)
    return _models[key]


def _bytes(diffusion) -> int:
    """What a model takes, and its fast copy, if there is one."""
    own = sum(v.nbytes for v in (*diffusion.parameters(), *diffusion.buffers()))
    return own + int(QUICK_COST * own) * (diffusion in _quick)


def fresh(preset: str, seed: int):
    """An untrained GaussianDiffusion of the preset on its device: the seed's own weights.

    Under the models' lock, since initial weights come from torch's global numbers.
    """
    import torch

    from ddpm_hub.nets import build
    from ddpm_hub.randomness import SeededGlobals

    row = PRESETS[preset]
    with _models_lock, SeededGlobals(torch.device("cpu"), "weights", seed):
        network = build(row.unet)
    return placed(ddpm_hub.GaussianDiffusion(network, **row.diffusion))


@cache
def size(preset: str) -> dict:
    """{parameters, megabytes} of a preset's model, counted without its memory."""
    import torch

    from ddpm_hub.nets import build

    with torch.device("meta"):
        network = build(PRESETS[preset].unet)
    parameters = sum(p.numel() for p in network.parameters())
    return {"parameters": parameters, "megabytes": parameters * 4 / 1e6}


def _read(model: str, revision: str | None):
    """A model that is not in memory; what everybody may read is all that a name can open."""
    name, card = f"{model}@{revision}" if revision else model, ""
    if model == "bundled":
        diffusion = ddpm_hub.GaussianDiffusion.from_pretrained("bundled")
    elif model.startswith("job:"):
        from ddpm_hub.app import jobs

        diffusion = jobs.desk().model(model.removeprefix("job:"))
    elif model.startswith("opened:"):
        raise HubError("this model is no longer in memory: open it again in the Hub tab")
    else:
        from ddpm_hub.app import opened

        found = opened.look(model, revision)
        diffusion, card = opened.load(found), found.card
    return adopt(name, placed(diffusion), card)


def model_card(model: str = "bundled", revision: str | None = None) -> dict:
    """What /load_model answers: name, parameters, image_size, timesteps, objective, card, ..."""
    name, _ = key = _exact(_key(model, revision))
    diffusion = load(*key)
    config = diffusion.to_config()["diffusion"]
    return {
        "name": name,
        "parameters": sum(p.numel() for p in diffusion.parameters()),
        "image_size": list(diffusion.image_size),
        "channels": diffusion.channels,
        "timesteps": diffusion.num_timesteps,
        "objective": diffusion.objective,
        "schedule": config["beta_schedule"],
        "source": _source(name),
        "card": _card_text() if name == "bundled" else _cards.get(key, ""),
    }


SOURCES = {"bundled": "bundled", "job": "training", "opened": "private"}


def _source(name: str) -> str:
    return SOURCES.get(name.partition(":")[0], "hub")


def _card_text() -> str:
    path = Path(ddpm_hub.__file__).parent / "assets" / "bundled" / "README.md"
    return path.read_text(encoding="utf-8")[:CARD_BYTES] if path.exists() else ""


def public_name(model: str) -> str:
    """Without the id of a training or the key of a private model: pictures are passed on."""
    kind = model.partition(":")[0]
    return {"job": "a training run", "opened": "a private model"}.get(kind, model)


def title_of(model: str) -> str:
    """The same as people write it: a repository with the first letters of its commit."""
    name, at, commit = public_name(model).partition("@")
    return f"{name} @ {commit[:7]}" if at else name


def prepare() -> None:
    """Before anything is drawn: keep memory, and a core free, so that frames leave meanwhile."""
    from ddpm_hub.runtime import leave_a_core

    keep_memory()
    leave_a_core()


def describe_device() -> str:
    """Where the pictures are made, for the status line: "cpu", "cuda", "ZeroGPU"."""
    return machine.kind()
