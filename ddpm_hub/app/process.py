"""The Forward tab's maths, through the library: curves, pictures as pixels, one noised image.

In the room: what the browser needs to draw x_t by itself, and what the endpoints `/forward` and
`/schedule` answer. Not in the room: components and uploads (tabs/forward.py), what the network
makes of x_t (glimpse.py), and the schedules and Eq. 4 themselves (`ddpm_hub.schedules`,
`ddpm_hub.diffusion`).
"""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ddpm_hub import data, images
from ddpm_hub.diffusion import GaussianProcess
from ddpm_hub.errors import ConfigError, check_int
from ddpm_hub.schedules import SCHEDULES, make_betas

MAX_SIDE = 64  # the widget redraws every pixel on every event
MAX_TIMESTEPS = 1000  # three curves of 1000 steps are what a page should carry
NAME_LENGTH = 60  # of a picture
MAX_DB = 100.0  # of an SNR: JSON has no infinity, and no more can be drawn
OWN = "own"  # the row of a model's schedule that has no name
MAX_UPLOAD_PIXELS = 16_000_000  # a phone's photograph has 12 million
NOISE_SEED = 0  # /forward is a function of its arguments
GREY_MODES = ("1", "L", "LA", "I", "I;16", "F")
SAMPLES = (("ankle boot", 22), ("bag", 0), ("dress", 13), ("shirt", 180))  # test set indices


@dataclass(frozen=True)
class Curves:
    """What a schedule does at t = 0 .. T-1: beta, alpha_bar, and SNR in decibels."""

    beta: list[float]
    alpha_bar: list[float]
    snr_db: list[float]


@dataclass(frozen=True)
class Noised:
    """One x_t: its t, alpha_bar, SNR in decibels, and the picture as a PNG data URI."""

    t: int
    alpha_bar: float
    snr_db: float
    image: str


def curves(schedule: str, timesteps: int) -> Curves:
    """The named schedule's curves, in float64 until rounded to 10 digits.

    SNR = alpha_bar / (1 - alpha_bar) (Kingma et al. 2021, Eq. 3). Raises ConfigError for an
    unknown schedule or a length outside 2 .. 1000 (linear: 20 .. 1000).
    """
    check_int("timesteps", timesteps, 2, MAX_TIMESTEPS)
    betas = make_betas(schedule, timesteps)
    alpha_bar = (1 - betas).cumprod(0)
    snr_db = 10 * (alpha_bar / (1 - alpha_bar)).log10()
    return Curves(*(_ten_digits(values) for values in (betas, alpha_bar, snr_db)))


def all_curves(timesteps: int) -> dict[str, dict[str, list[float]]]:
    """Every schedule's curves by name, ready for the widget."""
    return {name: asdict(curves(name, timesteps)) for name in SCHEDULES}


def model_curves(diffusion) -> Curves:
    """The model's own schedule as `curves` gives a named one; its SNR is held in +-100 dB."""
    alpha_bar = _alpha_bars(diffusion)
    betas = 1 - alpha_bar / torch.cat((torch.ones(1).double(), alpha_bar[:-1]))
    snr_db = (10 * (alpha_bar / (1 - alpha_bar)).log10()).clamp(-MAX_DB, MAX_DB)
    return Curves(*(_ten_digits(values) for values in (betas, alpha_bar, snr_db)))


def schedule_of(diffusion) -> str | None:
    """Which row of the curves is this model's: a schedule's name, or OWN.

    None: its chain is shorter or longer than what is drawn here.
    """
    try:
        named = all_curves(diffusion.num_timesteps)
    except ConfigError:
        return None
    own = _alpha_bars(diffusion)
    for name, rows in named.items():
        if torch.allclose(own, torch.tensor(rows["alpha_bar"]).double(), rtol=1e-5, atol=1e-9):
            return name
    return OWN


def curves_beside(diffusion, timesteps: int) -> dict[str, dict[str, list[float]]]:
    """`all_curves`, and the model's own where its chain is as long and its schedule nameless.

    diffusion: may be None, for no model.
    """
    rows = all_curves(timesteps)
    length = diffusion.num_timesteps if diffusion is not None else None
    if length == timesteps and schedule_of(diffusion) == OWN:
        rows[OWN] = asdict(model_curves(diffusion))
    return rows


def _alpha_bars(diffusion) -> Tensor:
    bars = [diffusion.alpha_bar(t) for t in range(diffusion.num_timesteps)]
    return torch.tensor(bars, dtype=torch.float64)


def _ten_digits(values: Tensor) -> list[float]:
    return [float(f"{value:.10g}") for value in values.tolist()]


def small_picture(source: str | bytes) -> Tensor:
    """A file (path or bytes) -> (C, s, s) floats in [0, 1], s <= 64, grey kept grey.

    Upright, cropped to the central square. Raises DataError for what is no picture.
    """
    picture = images.open_image(source, max_pixels=MAX_UPLOAD_PIXELS)
    side = min(MAX_SIDE, *picture.size)
    return images.from_pil(picture, (side, side), channels_of(picture))


def channels_of(picture: Image.Image) -> int:
    """1 for a grey picture, 3 for any other."""
    return 1 if picture.mode in GREY_MODES else 3


def pixels(picture: Tensor, name: str) -> dict[str, Any]:
    """(C, H, W) floats in [0, 1] -> what the widget draws: size, channels, base64 of the bytes.

    Bytes, not a PNG: a browser that guards against finger-printing alters what it decodes.
    """
    array = images.to_uint8(picture[None])[0]  # (H, W, C)
    height, width, channels = array.shape
    body = base64.b64encode(array.tobytes()).decode("ascii")
    return {"name": name, "width": width, "height": height, "channels": channels, "data": body}


def samples() -> list[dict[str, Any]]:
    """Four real test images of the bundled data set, for the picker."""
    test = data.bundled("test")  # uint8 (N, C, H, W)
    return [pixels(test[index].float() / 255, name) for name, index in SAMPLES]


def noised(picture: Tensor, timesteps: int, schedule: str, t: int) -> Noised:
    """Eq. 4 at one t, for a (C, H, W) picture in [0, 1], with the noise of a fixed seed."""
    curve = curves(schedule, timesteps)
    check_int("t", t, 0, timesteps - 1)
    generator = torch.Generator().manual_seed(NOISE_SEED)
    noise = torch.randn(1, *picture.shape, generator=generator)
    process = GaussianProcess(
        _NoNetwork(len(picture)),
        image_size=tuple(picture.shape[1:]),
        timesteps=timesteps,
        beta_schedule=schedule,
    )
    xt = process.q_sample(process.normalize(picture[None]), torch.tensor([t]), noise)
    uri = images.data_uri(images.to_pil(process.unnormalize(xt))[0], "png")
    return Noised(t, curve.alpha_bar[t], curve.snr_db[t], uri)


class _NoNetwork(nn.Module):
    """What a process asks of a network before it is asked for a prediction."""

    self_condition = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = self.out_dim = channels
