"""The loss at each t on held-out pictures, and what the network sees there in one of them.

In the room: which t, which pictures, and what of the library's answers is shown. Not in the room:
the equations (`diffusion.py`, `loss.py`), what may be asked for, messages and stopping (desk.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ddpm_hub import data
from ddpm_hub.app import models
from ddpm_hub.app.experiments.chart import Chart
from ddpm_hub.app.experiments.desk import Experiment, Progress, played
from ddpm_hub.app.experiments.edit_limits import LossRequest
from ddpm_hub.runtime import eval_mode

HELD_OUT = range(100, 116)  # of the bundled test set: never trained on, and no garment to choose
EPS_SPAN = 3.0  # of a noise picture: -3 is black, 0 grey, 3 white


def losses(request: LossRequest) -> Experiment:
    """Three errors over t, each a mean over the held-out pictures, and the chosen picture's own."""
    chart = Chart()
    return Experiment(chart, played(_losses, chart, request))


def times(T: int, count: int) -> list[int]:
    """`count` timesteps from 0 to T - 1, as even as can be."""
    return torch.linspace(0, T - 1, count, dtype=torch.float64).round().int().tolist()


def batch(request: LossRequest) -> tuple[Tensor, Tensor]:
    """The chosen picture and behind it the held-out ones, in [0, 1], and one noise for each.

    The noise is the same at every t, so that what changes along the curve is t alone.
    """
    held_out = data.bundled("test")[list(HELD_OUT)].float() / 255
    pictures = torch.cat((request.painted.picture, held_out))
    rng = torch.Generator().manual_seed(request.seed)
    return pictures, torch.randn(pictures.shape, generator=rng)


@torch.no_grad()
def errors_at(diffusion, x0: Tensor, t: int, eps: Tensor) -> dict[str, Tensor]:
    """One network call on x_t, Eq. 4: what it sees, (B, C, H, W), and its errors, (B,).

    x0 in [-1, 1]. eps_loss is the paper's L_simple (Eq. 14), x0_loss the same of x0, and loss what
    this network was trained by: the error of its own target, weighted as in training.
    """
    at = torch.full((len(x0),), t, device=x0.device)
    xt = diffusion.q_sample(x0, at, eps)
    with eval_mode(diffusion):
        seen = diffusion.predict(xt, at, clip_x_start=False)
    target, answer = {
        "pred_noise": (eps, seen.eps),
        "pred_x0": (x0, seen.x0),
        "pred_v": (diffusion.predict_v(x0, at, eps), diffusion.predict_v(seen.x0, at, seen.eps)),
    }[diffusion.objective]
    return {
        "xt": xt,
        "x0_hat": seen.x0,
        "eps_hat": seen.eps,
        "eps_loss": _error(eps, seen.eps),
        "x0_loss": _error(x0, seen.x0),
        "loss": diffusion.loss_weight[t] * _error(target, answer),
    }


def _error(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().flatten(1).mean(1)


def _losses(chart: Chart, request: LossRequest) -> Iterator[Progress]:
    diffusion = models.load()
    pictures, eps = (x.to(diffusion.device) for x in batch(request))
    visited = times(diffusion.num_timesteps, request.times)
    for done, t in enumerate(visited):
        at = errors_at(diffusion, diffusion.normalize(pictures), t, eps)
        means = {name: at[name][1:].mean().item() for name in ("eps_loss", "x0_loss", "loss")}
        shown = {
            "xt": diffusion.unnormalize(at["xt"][:1]),
            "eps": _noise_picture(eps[:1]),
            "eps_hat": _noise_picture(at["eps_hat"][:1]),
            "x0_hat": diffusion.unnormalize(at["x0_hat"][:1]),
            "x0": pictures[:1],
        }
        chart.put(done, _sentence(t, means, at["eps_loss"][0].item()), {"t": t, **means}, shown)
        yield Progress(done + 1, len(visited), f"t {t}: {done + 1} of {len(visited)}")
    yield Progress(
        len(visited),
        len(visited),
        f"mean of {len(HELD_OUT)} held-out pictures · seed {request.seed} · "
        f"{models.describe_device()}",
    )


def _noise_picture(eps: Tensor) -> Tensor:
    return eps / (2 * EPS_SPAN) + 0.5


def _sentence(t: int, means: dict[str, float], own: float) -> str:
    return (
        f"t = {t}: noise error {means['eps_loss']:.3g} (this picture {own:.3g}), "
        f"x0 error {means['x0_loss']:.3g}, training loss {means['loss']:.3g}"
    )
