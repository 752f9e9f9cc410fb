"""What the network sees at one t: from the picture on the Forward tab to x0-hat, and to a start.

In the room: the scene that a browser sends, checked; x_t as a model gets it; one network call. Not
in the room: components (tabs/forward.py), the schedules that are drawn (process.py), the network's
answer itself (`diffusion.predict`), runs that begin here (handoff.py holds the start for them).

The browser sends x0 and eps as they are on its screen, not x_t: so x_t is made anew by the model's
own alpha_bar, and where the model shares the screen's shape and schedule it is the same x_t. A
model of another shape gets the picture scaled to that shape; noise cannot be scaled and stay
white, so it gets noise of its own, of the scene's seed.
"""

from __future__ import annotations

import base64
import binascii
import math
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm_hub import images
from ddpm_hub.app import handoff, limits, models
from ddpm_hub.app.lane import Work, gpu
from ddpm_hub.app.process import MAX_SIDE, NAME_LENGTH
from ddpm_hub.errors import DataError, check_float, shown
from ddpm_hub.runtime import eval_mode

MAX_EPS = 10.0  # float32 normals of the widget stay below 6
EPS_SPAN = 3.0  # of a noise picture: -3 is black, 0 grey, 3 white


class Scene(NamedTuple):
    """What is on the screen: x0 (C, H, W) in [0, 1], eps (C, H, W), alpha_bar in [0, 1]."""

    name: str
    picture: np.ndarray
    eps: np.ndarray
    alpha_bar: float
    seed: int  # of the screen's noise


class State(NamedTuple):
    """x_t as a model gets it: x0, eps and x are (C, H, W) float32 in the model's range."""

    x0: np.ndarray
    eps: np.ndarray
    x: np.ndarray
    t: int
    alpha_bar: float  # the model's own, at t
    same: bool  # whether picture and noise are the screen's own


class Seen(NamedTuple):
    """The network's answer, (C, H, W) float32 each."""

    x0: np.ndarray
    eps: np.ndarray


# ---- the scene, from anybody --------------------------------------------------------------------
def scene(message: object) -> Scene:
    """Check what a browser sent: {name, width, height, channels, data, eps, alpha_bar, seed}.

    `data` is base64 of uint8 (H, W, C), `eps` of little-endian float32 (H, W, C); sides are at most
    64, C is 1 or 3. Raises DataError or ConfigError for anything else.
    """
    if not isinstance(message, Mapping):
        raise DataError(f"{shown(message)} is no picture with noise: use the Forward tab")
    channels = limits.whole("channels", message.get("channels"), 1, 3)
    if channels == 2:
        raise DataError("2 channels make no picture: give 1 (grey) or 3 (colour)")
    height, width = (limits.whole(k, message.get(k), 1, MAX_SIDE) for k in ("height", "width"))
    shape = (height, width, channels)
    picture = _array("data", message.get("data"), np.dtype(np.uint8), shape)
    eps = _array("eps", message.get("eps"), np.dtype("<f4"), shape)
    if not np.abs(eps).max() <= MAX_EPS:  # also true of NaN
        raise DataError(f"eps has a value that is not within {MAX_EPS:g}: draw it from N(0, 1)")
    return Scene(
        name=_name(message.get("name")),
        picture=picture.astype(np.float32) / 255,
        eps=eps.astype(np.float32),
        alpha_bar=float(check_float("alpha_bar", message.get("alpha_bar"), 0, 1)),
        seed=limits.whole("seed", message.get("seed"), 0, limits.MAX_SEED),
    )


def _array(name: str, text: object, dtype: np.dtype, shape: tuple[int, int, int]) -> np.ndarray:
    """Base64 of exactly one (H, W, C) array -> (C, H, W); its length is known before decoding."""
    size = math.prod(shape) * dtype.itemsize
    letters = 4 * math.ceil(size / 3)
    if not isinstance(text, str) or len(text) != letters:
        raise DataError(f"{name} is not {size:,} bytes in base64: send {letters:,} letters")
    try:
        body = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"{name} is broken base64: encode it again") from None
    if len(body) != size:
        raise DataError(f"{name} has {len(body):,} bytes, not {size:,}: send H x W x C values")
    return np.ascontiguousarray(np.frombuffer(body, dtype).reshape(shape).transpose(2, 0, 1))


def _name(name: object) -> str:
    letters = name if isinstance(name, str) else ""
    printable = "".join(c for c in letters[:NAME_LENGTH] if c.isprintable())
    return printable.strip() or "the picture"


# ---- x_t of a model -----------------------------------------------------------------------------
def state_of(diffusion, scene: Scene) -> State:
    """Eq. 4 with the model's alpha_bar at the t whose noise level is nearest to the scene's.

    Needs no GPU. Raises DataError if the model's channels make no picture, ConfigError if it is
    too large for the demo.
    """
    limits.check_work(1, 1, diffusion.image_size)
    picture = torch.from_numpy(scene.picture)
    fitted = fit(picture, (diffusion.channels, *diffusion.image_size))
    same = fitted is picture
    eps = torch.from_numpy(scene.eps) if same else _noise(fitted.shape, scene.seed)
    t = nearest_t(diffusion, scene.alpha_bar)
    alpha_bar = diffusion.alpha_bar(t)
    x0 = diffusion.normalize(fitted)
    x = math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * eps
    return State(x0.numpy(), eps.numpy(), x.numpy(), t, alpha_bar, same)


def fit(picture: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(C, H, W) in [0, 1] as a picture of `shape`; itself if it has that shape already."""
    if tuple(picture.shape) == shape:
        return picture
    channels, height, width = shape
    return images.from_pil(images.to_pil(picture[None])[0], (height, width), channels)


def _noise(shape: torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def nearest_t(diffusion, alpha_bar: float) -> int:
    """The t, 0 .. T-1, at which the model's mix of picture and noise is nearest to alpha_bar's.

    Compared is the angle whose cosine is sqrt(alpha_bar): finite where log SNR is not.
    """

    def angle(level: float) -> float:
        return math.atan2(math.sqrt(1 - level), math.sqrt(level))

    def distance(t: int) -> float:
        return abs(angle(diffusion.alpha_bar(t)) - angle(alpha_bar))

    T = diffusion.num_timesteps
    above = bisect_left(range(T), angle(alpha_bar), key=lambda t: angle(diffusion.alpha_bar(t)))
    return min((t for t in (above - 1, above) if 0 <= t < T), key=distance)


# ---- the network call ---------------------------------------------------------------------------
@gpu(lambda model, x, t: Work(model))
@torch.no_grad()
def see(model: str, x: np.ndarray, t: int) -> Seen:
    """One call of the model of that name at x, (C, H, W) in its range, and t.

    Only a name, a number and arrays go in and out, so that a worker process may do it.
    """
    diffusion = models.load(model)
    at = torch.full((1,), t, device=diffusion.device)
    with eval_mode(diffusion):
        said = diffusion.predict(torch.from_numpy(x)[None].to(diffusion.device), at)
    return Seen(*(v[0].float().cpu().numpy() for v in (said.x0, said.eps)))


# ---- messages and starts ------------------------------------------------------------------------
def look(model: str, scene: Scene) -> dict[str, Any]:
    """What the model of that name believes of the scene, as the widget shows it.

    {t, T, alpha_bar, same, shape, model, mse, eps_mse, pictures: {x, x0_hat, x0, eps_hat}}, with
    pictures as PNG data URIs. `mse` is the mean square of x0-hat - x0 in the model's range,
    [-1, 1], `eps_mse` that of the noise.
    """
    diffusion = models.load(model)
    state = state_of(diffusion, scene)
    seen = see(model, state.x, state.t)
    return {
        "t": state.t,
        "T": diffusion.num_timesteps,
        "alpha_bar": state.alpha_bar,
        "same": state.same,
        "shape": list(state.x.shape),
        "model": title(model),
        "mse": _error(seen.x0, state.x0),
        "eps_mse": _error(seen.eps, state.eps),
        "pictures": {
            "x": _uri(diffusion.unnormalize(torch.from_numpy(state.x))),
            "x0_hat": _uri(diffusion.unnormalize(torch.from_numpy(seen.x0))),
            "x0": _uri(diffusion.unnormalize(torch.from_numpy(state.x0))),
            "eps_hat": _uri(torch.from_numpy(seen.eps) / (2 * EPS_SPAN) + 0.5),
        },
    }


def begin(model: str, scene: Scene) -> str:
    """Keep the scene's x_t as a start for runs of that model; gives its key. No network call."""
    state = state_of(models.load(model), scene)
    words = f"{scene.name}, noised in Forward"
    return handoff.keep(handoff.Start(model, state.x, state.t, words))


def title(model: str) -> str:
    """The model inside a sentence."""
    return "the bundled model" if model == "bundled" else models.title_of(model)


def _error(a: np.ndarray, b: np.ndarray) -> float | None:
    """Mean square of a - b; None where the network gave no number: JSON has no NaN."""
    error = float(np.square(a - b, dtype=np.float64).mean())
    return error if math.isfinite(error) else None


def _uri(picture: Tensor) -> str:
    return images.data_uri(images.to_pil(picture[None])[0], "png")
