"""Models and sampling runs of the demo, on its device.

In the room: the model cache, new models of a preset, one sampling run as a stream of JSON frames.
Not in the room: components (tabs/), what a visitor may ask for (limits.py), recent runs (runs.py),
trainings (job.py), how a step is made (the library: everything shown is `sample_stream`'s).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from functools import cache
from pathlib import Path

import ddpm_hub
from ddpm_hub import PRESETS, images
from ddpm_hub.app import limits
from ddpm_hub.errors import ConfigError, HubError

YIELD_SECONDS = 0.04  # un-paced, a browser shows almost none of the frames it is sent
MAX_FRAMES = 250  # of one run that are kept: all of a run up to that length
MAX_MODELS = 2  # in memory, beside the bundled one
CARD_BYTES = 64_000

Key = tuple[str, str | None]  # a model's name, and the revision if it is a repository

_models: OrderedDict[Key, object] = OrderedDict()
_cards: dict[Key, str] = {}  # of models of the Hub that are in memory
_reading: dict[Key, Future] = {}
_models_lock = threading.Lock()  # held for moments: nobody waits for another visitor's download


def load(model: str = "bundled", revision: str | None = None):
    """The GaussianDiffusion of that name, on the best device, from the cache if it is there."""
    key = _key(model, revision)
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


def adopt(model: str, diffusion, card: str = ""):
    """Keep `diffusion` under that name, instead of what was there; gives it back."""
    key = _key(model)
    with _models_lock:
        _models[key], _cards[key] = diffusion, card[:CARD_BYTES]
        return _used(key)


def forget(model: str) -> None:
    """Let go of what a visitor's own token opened; all else stays for others."""
    if model.startswith("opened:"):
        with _models_lock:
            _models.pop(_key(model), None)
            _cards.pop(_key(model), None)


def placed(diffusion):
    """The model on the best device of this machine."""
    from ddpm_hub.runtime import pick_device

    return diffusion.to(pick_device())


def holds(model: str) -> bool:
    """Whether the model is in memory."""
    return _key(model) in _models


def _key(model: str, revision: str | None = None) -> Key:
    repo, _, named = limits.model_name(model).partition("@")
    return repo, limits.revision_name(revision or named)


def _used(key: Key):
    """The model, and room for it: the one that was not used for longest goes."""
    _models.move_to_end(key)
    while len(_models) > MAX_MODELS + 1:
        oldest = next(k for k in _models if k[0] != "bundled")
        del _models[oldest]
        _cards.pop(oldest, None)
    return _models[key]


def fresh(preset: str, seed: int):
    """An untrained GaussianDiffusion of the preset on the best device: the seed's own weights.

    Under the models' lock, since initial weights come from torch's global numbers.
    """
    import torch

    from ddpm_hub.nets import build
    from ddpm_hub.randomness import SeededGlobals
    from ddpm_hub.runtime import pick_device

    row = PRESETS[preset]
    with _models_lock, SeededGlobals(torch.device("cpu"), "weights", seed):
        network = build(row.unet)
    return ddpm_hub.GaussianDiffusion(network, **row.diffusion).to(pick_device())


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
    diffusion = load(model, revision)
    config = diffusion.to_config()["diffusion"]
    name, _ = key = _key(model, revision)
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


def sample(request: limits.Request) -> Iterator[dict]:
    """One run as frames, one dict for each network call that is kept (all, up to 250 steps).

    {index, total, t, done, seed, steps_per_second, change, x0, x}; `x0` and `x` are data URIs of
    the batch grid, JPEG on the way and PNG (exact) on the last, which also has `png`. `change` is
    the mean |x0 - previous x0|. The last `x` is `diffusion.sample(seed=...)` for these arguments.
    """
    import torch

    diffusion = load(request.model)
    stream = _open_stream(diffusion, request)
    previous, clock, keep = None, _Clock(), _Keeper(diffusion, len(stream))
    try:
        for step in stream:
            change = 0.0 if previous is None else (step.x0 - previous).abs().mean().item()
            previous, rate = step.x0, clock.rate_at(step)
            if keep(step):
                yield _frame(diffusion, step, change, rate) | {"seed": request.seed}
    finally:
        stream.close()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _open_stream(diffusion, request: limits.Request):
    steps = min(request.steps or diffusion.sampling_timesteps, diffusion.num_timesteps)
    limits.check_work(request.batch, steps, diffusion.image_size)
    return diffusion.sample_stream(
        request.batch,
        sampler=request.sampler,
        steps=request.steps,
        eta=request.eta,
        seed=request.seed,
        spacing=request.spacing,
        variance_type=request.variance,
        **limits.BOUNDS.get(request.bounds, {}),
    )


class _Clock:
    """Steps per second, without the first step: it pays for warming up. Ends endless runs."""

    def __init__(self) -> None:
        self.started = self.first = time.monotonic()

    def rate_at(self, step) -> float:
        now = time.monotonic()
        if now - self.started > limits.MAX_SECONDS:
            raise ConfigError(
                f"step {step.index + 1} of {step.total} came after {now - self.started:.0f} s, "
                f"more than {limits.MAX_SECONDS}: take fewer steps or a smaller batch"
            )
        if step.index == 0:
            self.first = now
            return 1 / max(now - self.started, 1e-6)
        return step.index / max(now - self.first, 1e-6)


class _Keeper:
    """Which steps of a long run become frames: about 250, evenly in log SNR, first and last."""

    def __init__(self, diffusion, total: int) -> None:
        self.all = total <= MAX_FRAMES
        bars = diffusion.alphas_cumprod.double().cpu().clamp(1e-12, 1 - 1e-12)
        self.log_snr = (bars / (1 - bars)).log().tolist()
        self.spacing = (self.log_snr[0] - self.log_snr[-1]) / MAX_FRAMES
        self.next = float("-inf")

    def __call__(self, step) -> bool:
        if self.all or step.index == step.total - 1:
            return True
        if self.log_snr[step.t] < self.next:
            return False
        self.next = self.log_snr[step.t] + self.spacing
        return True


def _frame(diffusion, step, change: float, rate: float) -> dict:
    done = step.index == step.total - 1
    x0, x = (images.grid(diffusion.unnormalize(v)) for v in (step.x0, step.x))
    form = "png" if done else "jpeg"
    frame = {
        "index": step.index,
        "total": step.total,
        "t": step.t,
        "done": done,
        "steps_per_second": round(rate, 2),
        "change": round(change, 6),
        "x0": images.data_uri(x0, form),
        "x": images.data_uri(x, form),
    }
    return frame | {"png": frame["x"]} if done else frame


def prepare() -> None:
    """Before anything is drawn: keep a core free, so that frames leave while the next is made."""
    from ddpm_hub.runtime import leave_a_core

    leave_a_core()


def describe_device() -> str:
    """Where the pictures are made, for the status line: "cpu", "cuda"."""
    from ddpm_hub.runtime import pick_device

    return str(pick_device()).split(":")[0]
