"""Samplers on data whose reverse process is known: order of convergence, mean and covariance.

For a Gaussian mixture in every pixel the perfect network is a formula, and the exact reverse ODE
is one more integral: y = x / sigma obeys dy / dlambda = e^lambda x0(x), here by Runge-Kutta in
4000 steps, which agrees with 2000 to 3e-12. The chain has T = 100,000 steps, so that a timestep
lies close enough to any lambda.
"""

import math

import numpy as np
import pytest
import torch
from support import noise_like
from torch import nn

from ddpm_hub import SAMPLERS, GaussianDiffusion
from ddpm_hub.streams import SampleState, SampleStream

COUNTS = (8, 16, 32, 64, 128)
ORDER = {"ddim": 1, "dpmpp_2m": 2, "heun": 2, "unipc": 3}  # of the deterministic samplers
TOP, BOTTOM = 95_000, 2_000  # alpha_bar = 0.006 and 0.998


class Mixture(nn.Module):
    """E[x0 | xt] for pixels that are independently drawn from three Gaussians."""

    channels = out_dim = 1
    self_condition = False
    means = torch.tensor([-0.6, 0.1, 0.7], dtype=torch.float64)
    weights = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
    std = 0.15

    def x0(self, x, alpha_bar):
        noise = 1 - alpha_bar
        total = alpha_bar * self.std**2 + noise
        far = (x[..., None] - alpha_bar**0.5 * self.means) ** 2
        share = (self.weights.log() - far / (2 * total)).softmax(-1)
        each = self.means * noise + alpha_bar**0.5 * self.std**2 * x[..., None]
        return (share * each / total).sum(-1)

    def forward(self, x, t, x_self_cond=None):
        return self.x0(x, self.__dict__["alpha_bar"](int(t[0])))


def perfect(net, **kwargs):
    """A diffusion in float64 around a network that knows its data."""
    settings = {"objective": "pred_x0", "beta_schedule": "cosine", "clip_x_start": False}
    diffusion = GaussianDiffusion(net, **({"image_size": 4} | settings | kwargs)).double()
    net.__dict__["alpha_bar"] = diffusion.alpha_bar
    return diffusion


@pytest.fixture(scope="module")
def problem():
    """A diffusion, states at TOP, and where the exact reverse ODE takes them at BOTTOM."""
    diffusion = perfect(Mixture(), timesteps=100_000)
    x = noise_like(16, 1, 4, 4)
    return diffusion, x, exact(diffusion, x, 4000)


def exact(diffusion, x, n):
    def alpha_bar(lam):
        return 1 / (1 + math.exp(-2 * lam))

    def slope(lam, y):
        a = alpha_bar(lam)
        return math.exp(lam) * diffusion.model.x0(y * (1 - a) ** 0.5, a)

    lam, end = diffusion.log_snr(TOP), diffusion.log_snr(BOTTOM)
    y, h = x / (1 - alpha_bar(lam)) ** 0.5, (end - lam) / n
    for _ in range(n):
        k1 = slope(lam, y)
        k2 = slope(lam + h / 2, y + h / 2 * k1)
        k3 = slope(lam + h / 2, y + h / 2 * k2)
        k4 = slope(lam + h, y + h * k3)
        y, lam = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), lam + h
    return y * (1 - alpha_bar(end)) ** 0.5


def path(diffusion, sampler, calls):
    """From TOP to BOTTOM in even steps of lambda; heun looks at each level it reaches twice."""
    levels = calls // 2 if sampler == "heun" else calls
    falling = -(0.5 * torch.logit(diffusion._exact["alphas_cumprod"]))
    ends = torch.linspace(falling[TOP], falling[BOTTOM], levels + 1, dtype=falling.dtype)
    ts = [TOP, *torch.searchsorted(falling, ends[1:-1]).tolist(), BOTTOM]
    return (ts[0], *(t for t in ts[1:] for _ in (0, 1))) if sampler == "heun" else tuple(ts)


def error(problem, sampler, calls):
    diffusion, x, want = problem
    ts = path(diffusion, sampler, calls)
    *_, step = SampleStream(diffusion, SampleState(sampler, ts, x, 0.0))
    assert step.total == calls
    return (step.x - want).square().mean().sqrt().item()


def test_the_reference_solution_does_not_depend_on_its_own_step(problem):
    diffusion, x, want = problem
    torch.testing.assert_close(exact(diffusion, x, 2000), want, atol=1e-10, rtol=0)


@pytest.mark.parametrize("sampler", ORDER)
def test_the_error_falls_with_the_order_that_the_sampler_claims(problem, sampler):
    """The slope over 8 .. 128 network calls on logarithmic axes; and the last doubling alone."""
    errors = [error(problem, sampler, calls) for calls in COUNTS]
    slope = -np.polyfit(np.log(COUNTS), np.log(errors), 1)[0]
    assert ORDER[sampler] - 0.2 < slope < ORDER[sampler] + 0.3, errors
    assert abs(math.log2(errors[-2] / errors[-1]) - ORDER[sampler]) < 0.06, errors


def test_of_twenty_calls_unipc_makes_the_smallest_error(problem):
    errors = {sampler: error(problem, sampler, 20) for sampler in ORDER}
    assert min(errors, key=errors.get) == "unipc"
    assert errors["unipc"] < errors["dpmpp_2m"] < errors["ddim"]


# -- the ancestral samplers ------------------------------------------------------------------


class Gaussian(nn.Module):
    """E[x0 | xt] for pairs of pixels from N(mean, cov): linear in xt."""

    channels = out_dim = 1
    self_condition = False
    mean = torch.tensor([0.3, -0.2], dtype=torch.float64)
    cov = torch.tensor([[0.09, 0.05], [0.05, 0.06]], dtype=torch.float64)

    def forward(self, x, t, x_self_cond=None):
        a = self.__dict__["alpha_bar"](int(t[0]))
        gain = a**0.5 * self.cov @ torch.linalg.inv(a * self.cov + (1 - a) * torch.eye(2))
        return (self.mean + (x.flatten(1) - a**0.5 * self.mean) @ gain.T).view_as(x)


N = 10_000


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "ddpm", "variance_type": "fixed_small"},
        {"sampler": "ddpm", "variance_type": "fixed_large"},
        {"sampler": "ddim", "eta": 1.0},
        {"sampler": "dpmpp_2m_sde", "steps": 250, "spacing": "logsnr"},
    ],
    ids=str,
)
def test_ancestral_samplers_reproduce_mean_and_covariance(options):
    """Within 4.5 standard errors of 10,000 samples; a covariance of twice the size is 70 away."""
    diffusion = perfect(Gaussian(), image_size=(1, 2), timesteps=1000)
    options = {"steps": 1000} | options
    got = diffusion.sample(N, seed=3, progress=False, **options)
    pairs = (got * 2 - 1).flatten(1)
    net = diffusion.model
    error = (net.cov.diagonal() / N).sqrt()
    assert ((pairs.mean(0) - net.mean).abs() < 4.5 * error).all()
    spread = (net.cov.diagonal().outer(net.cov.diagonal()) + net.cov**2) / N
    assert ((pairs.T.cov() - net.cov).abs() < 4.5 * spread.sqrt()).all()


def test_every_sampler_is_tested_here():
    assert SAMPLERS.keys() == {*ORDER, "ddpm", "dpmpp_2m_sde"}
