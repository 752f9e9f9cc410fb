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
from functools import cache
from pathlib import Path

import ddpm_hub
from ddpm_hub import PRESETS, images
from ddpm_hub.app import limits
from ddpm_hub.errors import ConfigError, DDPMHubError, HubError

YIELD_SECONDS = 0.04  # un-paced, a browser shows almost none of the frames it is sent
MAX_FRAMES = 250  # of one run that are kept: all of a run up to that length
MAX_MODELS = 2  # in memory, beside the bundled one
CARD_BYTES = 64_000

_models: OrderedDict[tuple[str, str | None], object] = OrderedDict()
_models_lock = threading.Lock()


def load(model: str = "bundled", revision: str | None = None):
    """The GaussianDiffusion of that name, on the best device, from the cache if it is there."""
    key = (limits.model_name(model), limits.revision_name(revision))
    if key[0].startswith("job:") and key not in _models:
        from ddpm_hub.app import jobs

        # outside the lock: the training hands its model over when its step is done
        return adopt(key[0], jobs.desk().model(key[0].removeprefix("job:")))
    with _models_lock:
        if key not in _models:
            _models[key] = _read(*key)
        return _used(key)


def adopt(model: str, diffusion):
    """Keep `diffusion` under that name, instead of what was there; gives it back."""
    with _models_lock:
        _models[model, None] = diffusion
        return _used((model, None))


def _used(key: tuple[str, str | None]):
    """The model, and room for it: the one that was not used for longest goes."""
    _models.move_to_end(key)
    while len(_models) > MAX_MODELS + 1:
        oldest = next(k for k in _models if k[0] != "bundled")
        del _models[oldest]
    return _models[key]


def fresh(preset: str, seed: int):
    """An untrained GaussianDiffusion of the preset on the best device: the seed's own weights.

    Under the models' lock, since initial weights come from torch's global numbers.
    """
    import torch

    from ddpm_hub.randomness import SeededGlobals
    from ddpm_hub.runtime import pick_device

    row = PRESETS[preset]
    with _models_lock, SeededGlobals(torch.device("cpu"), "weights", seed):
        network = ddpm_hub.Unet(**row.unet)
    return ddpm_hub.GaussianDiffusion(network, **row.diffusion).to(pick_device())


@cache
def size(preset: str) -> dict:
    """{parameters, megabytes} of a preset's model, counted without its memory."""
    import torch

    with torch.device("meta"):
        network = ddpm_hub.Unet(**PRESETS[preset].unet)
    parameters = sum(p.numel() for p in network.parameters())
    return {"parameters": parameters, "megabytes": parameters * 4 / 1e6}


def _read(model: str, revision: str | None):
    from ddpm_hub.runtime import pick_device

    if model == "bundled":
        return ddpm_hub.GaussianDiffusion.from_pretrained("bundled").to(pick_device())
    try:
        # token=False: the owner's token would show a visitor the owner's private models
        diffusion = ddpm_hub.GaussianDiffusion.from_pretrained(
            model, revision=revision, token=False
        )
    except DDPMHubError:
        raise
    except Exception as error:  # the Hub client has a dozen ways to say no
        raise HubError(
            f"{model} cannot be loaded ({type(error).__name__}): check the name, and the network"
        ) from None
    return diffusion.to(pick_device())


def model_card(model: str = "bundled", revision: str | None = None) -> dict:
    """What /load_model answers: name, parameters, image_size, timesteps, objective, card, ..."""
    diffusion = load(model, revision)
    config = diffusion.to_config()["diffusion"]
    return {
        "name": limits.model_name(model),
        "parameters": sum(p.numel() for p in diffusion.parameters()),
        "image_size": list(diffusion.image_size),
        "channels": diffusion.channels,
        "timesteps": diffusion.num_timesteps,
        "objective": diffusion.objective,
        "schedule": config["beta_schedule"],
        "source": _source(limits.model_name(model)),
        "card": _card_text() if limits.model_name(model) == "bundled" else "",
    }


def _source(name: str) -> str:
    return "bundled" if name == "bundled" else "training" if name.startswith("job:") else "hub"


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
