"""The bound of Eq. 5: closed forms, the true likelihood, other people's densities, coding, streams.

For Gaussian data the best network is linear and every term has a closed form; for a model of one
pixel the likelihood itself is an integral on a grid, which no bound may undercut.
"""

import math

import pytest
import torch
from support import random_diffusion
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from ddpm_hub import GaussianDiffusion, likelihood
from ddpm_hub.diffusion import VARIANCES
from ddpm_hub.likelihood import Chain, bits_per_dim

MU, S = 0.1, 0.2  # of the Gaussian data: the ends of [-1, 1] are 4.5 deviations away
LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1
LOG2 = math.log(2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Linear(nn.Module):
    """E[x0 | xt] of data N(MU, S^2), and with two channels a share of the variance for each t."""

    channels, self_condition = 1, False

    def __init__(self, out_dim: int = 1):
        super().__init__()
        self.out_dim = out_dim

    def forward(self, x: Tensor, t: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        a = self.alpha_bar[t].view(-1, 1, 1, 1)
        x0 = MU + a.sqrt() * S**2 / (a * S**2 + 1 - a) * (x - a.sqrt() * MU)
        shares = self.shares[t].view(-1, 1, 1, 1).expand_as(x0)
        return torch.cat((x0, 2 * shares - 1), 1)[:, : self.out_dim]


def gaussian(kind="fixed_small", wrong=1.0, **kwargs):
    """A diffusion with the best network for N(MU, S^2), its learned variances times `wrong`."""
    net = Linear(2 if kind == "learned_range" else 1)
    options = {"timesteps": 20, "objective": "pred_x0", "auto_normalize": False} | kwargs
    diffusion = GaussianDiffusion(net, image_size=64, variance_type=kind, **options).double()
    net.alpha_bar = diffusion.alphas_cumprod
    small, large, best = (v.log() for v in variances(diffusion, range(19, -2, -1)))
    net.shares = (best + math.log(wrong) - small) / (large - small)
    net.shares[0] = 0  # there both variances are the same
    return diffusion


def variances(diffusion, ts):
    """Var(x_s | xt, x0), Var(x_s | x_{t}, no data) and Var(x_s | xt) of the joint Gaussian."""
    ts = list(ts)[::-1]
    a_s, a_t = (
        torch.tensor([diffusion.alpha_bar(t) for t in v], dtype=torch.float64) for v in (ts, ts[1:])
    )
    a_s = a_s[:-1]
    alpha, var_s, var_t = a_t / a_s, a_s * S**2 + 1 - a_s, a_t * S**2 + 1 - a_t
    small = 1 - a_s - alpha * (1 - a_s) ** 2 / (1 - a_t)
    small[0] = small[1]
    return small, 1 - alpha, var_s - alpha * var_s**2 / var_t


def closed_form(diffusion, kind, ts):
    """LT, Lt and L0 of the best network in bits/dim: cross entropies less entropies."""
    small, large, best = variances(diffusion, ts)
    sigma2 = {"fixed_small": small, "fixed_large": large, "learned_range": best}[kind]
    Lt = 0.5 * (torch.log(sigma2 / small) + best / sigma2 - 1) / LOG2
    Lt[0] = 0
    a_T, a_0 = diffusion.alpha_bar(ts[0]), diffusion.alpha_bar(ts[-2])
    LT = 0.5 * (a_T * (MU**2 + S**2) - a_T - math.log1p(-a_T)) / LOG2
    rest = S**2 * (1 - a_0) / (a_0 * S**2 + 1 - a_0)  # Var(x0 | x_0)
    means = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    weights = (Normal(0, 1).log_prob(means)).softmax(0)
    means = (MU + (S**2 - rest) ** 0.5 * means)[:, None]
    true, coded = (bins(means, v) for v in (rest, small[0].item()))
    L0 = -(weights @ (true * coded.clamp_min(1e-300).log()).sum(1)) / LOG2
    return LT, Lt, L0.item()


def bins(means, variance):
    """The probabilities of the 256 levels, (..., 256), by the distribution function."""
    edges = torch.cat((LEVELS[:-1] + 1 / 255, torch.tensor([torch.inf]).double()))
    below = Normal(means, variance**0.5).cdf(edges)
    return torch.diff(below, dim=-1, prepend=torch.zeros_like(below[..., :1]))


def normal_images(count=16):
    """Images whose pixels are N(MU, S^2) without chance: its quantiles, shuffled."""
    n = count * 64 * 64
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    z = (z / z.std(correction=0))[torch.randperm(n, generator=seeded(3))]
    return (MU + S * z).view(count, 1, 64, 64)


def exact_noise(monkeypatch, x0):
    """Noise with the moments of endless noise: mean 0, variance 1, no correlation with the data.

    Nor with what the data lose by rounding to levels: the decoder's term sees that.
    """
    rounding = x0 - ((x0 + 1) * 127.5).round() / 127.5
    known = torch.stack([torch.ones_like(x0), x0, rounding], dim=-1).view(-1, 3)
    basis = torch.linalg.qr(known).Q

    def noise_like(x, rng):
        eps = torch.randn(x.shape, generator=rng, dtype=x.dtype).flatten()
        eps = eps - basis @ (basis.T @ eps)
        return (eps / eps.std(correction=0)).view_as(x)

    monkeypatch.setattr(likelihood, "noise_like", noise_like)


# -- closed forms -----------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["cosine", "sigmoid", "linear"])
@pytest.mark.parametrize("ts", [range(19, -2, -1), (19, 12, 7, 3, 1, 0, -1), (8, 5, 2, -1)])
@pytest.mark.parametrize("kind", VARIANCES)
def test_for_gaussian_data_the_bound_equals_its_closed_form(monkeypatch, kind, ts, schedule):
    if kind == "learned_range" and len(ts) != 21:
        ts = range(19, -2, -1)  # the network's variances are the best for the whole chain
    diffusion, x0 = gaussian(kind, beta_schedule=schedule), normal_images()
    exact_noise(monkeypatch, x0)
    got = bits_per_dim(diffusion, x0, seeded(), ts=ts)
    LT, Lt, L0 = closed_form(diffusion, kind, ts)
    torch.testing.assert_close(got.Lt, Lt, atol=1e-9, rtol=0)
    assert got.LT.item() == pytest.approx(LT, abs=1e-9)
    assert got.L0.item() == pytest.approx(L0, abs=5e-5)
    assert got.total.item() == pytest.approx(LT + Lt.sum().item() + L0, abs=1e-4)


def test_with_the_best_variances_nothing_is_lost_but_the_end_of_the_chain(monkeypatch):
    """The reverse chain is then exact: LT + sum Lt is the information that x_0 has of the data."""
    diffusion, x0 = gaussian("learned_range"), normal_images()
    exact_noise(monkeypatch, x0)
    got = bits_per_dim(diffusion, x0, seeded())
    a_0, a_T = diffusion.alpha_bar(0), diffusion.alpha_bar(19)
    information = 0.5 * math.log2(1 + S**2 * a_0 / (1 - a_0))
    end = Normal(a_T**0.5 * MU, (a_T * S**2 + 1 - a_T) ** 0.5)
    gap = kl_divergence(end, Normal(0.0, 1.0)).item() / LOG2
    assert (got.LT + got.Lt.sum()).item() == pytest.approx(information + gap, abs=1e-7)


def test_variances_that_are_1_percent_off_cost_more_than_the_tolerance(monkeypatch):
    x0 = normal_images()
    exact_noise(monkeypatch, x0)
    best, wrong = (bits_per_dim(gaussian("learned_range", w), x0, seeded()) for w in (1, 1.01))
    assert wrong.total > best.total + 3e-4


def test_with_ordinary_noise_the_bound_is_the_closed_form_up_to_chance():
    diffusion, x0 = gaussian("fixed_large"), normal_images(48)
    got = bits_per_dim(diffusion, x0, seeded(), batch_size=20)
    LT, Lt, L0 = closed_form(diffusion, "fixed_large", range(19, -2, -1))
    error = got.per_image.std().item() / 48**0.5
    assert error < 0.005
    assert got.total.item() == pytest.approx(LT + Lt.sum().item() + L0, abs=4 * error)


# -- what a bound must not do -----------------------------------------------------------------


def uniform_images(count):
    """8-bit images, each with every one of the 256 levels once."""
    order = torch.rand(count, 256, generator=seeded(5)).argsort(1)
    return order.to(torch.uint8).view(count, 1, 16, 16)


class Uniform(nn.Module):
    """E[x0 | xt] of pixels that are one of the 256 levels, each as likely as the other."""

    channels, out_dim, self_condition = 1, 1, False
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)  # a table: the pixels are many

    def forward(self, x: Tensor, t: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        a = self.alpha_bar[t[0]]
        far = (self.grid[:, None] - a.sqrt() * LEVELS).square()
        table = (-far / (2 * (1 - a))).softmax(1) @ LEVELS
        place = (x + 8) * 250
        left = place.long().clamp(0, 3999)
        return table[left].lerp(table[left + 1], place - left)


@pytest.mark.parametrize(("kind", "close"), [("fixed_small", 9.4), ("fixed_large", 8.3)])
def test_for_a_uniform_source_the_best_network_comes_close_to_8_bits_and_never_below(kind, close):
    net = Uniform()
    options = {"timesteps": 100, "objective": "pred_x0", "beta_schedule": "cosine"}
    diffusion = GaussianDiffusion(net, image_size=16, variance_type=kind, **options).double()
    net.alpha_bar = diffusion.alphas_cumprod
    got = bits_per_dim(diffusion, uniform_images(144), seeded(), batch_size=144)
    error = got.per_image.std().item() / 12
    assert 8 < got.total.item() - 3 * error < got.total.item() < close


@pytest.mark.parametrize("kind", VARIANCES)
def test_for_a_uniform_source_no_other_network_is_below_8_bits(kind):
    unet = {"learned_variance": kind == "learned_range"}
    diffusion = random_diffusion(unet=unet, image_size=16, variance_type=kind, timesteps=50)
    assert bits_per_dim(diffusion, uniform_images(4), seeded()).total > 8


def test_the_bound_of_each_level_is_above_its_true_code_length_and_not_far():
    """One pixel, three steps: p(x0) is an integral over x_2, x_1, x_0, done on a grid."""
    net = Uniform()
    options = {"timesteps": 3, "objective": "pred_x0", "beta_schedule": "cosine"}
    diffusion = GaussianDiffusion(net, image_size=1, **options).double()
    net.alpha_bar = diffusion.alphas_cumprod
    grid = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    density = Normal(0.0, 1.0).log_prob(grid).exp() * (grid[1] - grid[0])
    for t in (2, 1, 0):
        times = torch.full((len(grid),), t)
        x0 = diffusion.predict(grid.view(-1, 1, 1, 1), times).x0
        variance = diffusion.posterior_variance[max(t, 1)].item()
        if t == 0:
            levels = density @ bins(x0.view(-1, 1), variance)
        else:
            mean = diffusion.q_posterior(x0, grid.view(-1, 1, 1, 1), times)[0].view(-1, 1)
            step = Normal(mean, variance**0.5).log_prob(grid).exp() * (grid[1] - grid[0])
            density = density @ step
    assert levels.sum().item() == pytest.approx(1, abs=1e-6)
    draws = 200
    images = torch.arange(256, dtype=torch.uint8).repeat_interleave(draws).view(-1, 1, 1, 1)
    got = bits_per_dim(diffusion, images, seeded(), batch_size=len(images)).per_image.view(
        -1, draws
    )
    gap = got.mean(1) + levels.log2()
    assert (gap > -4 * got.std(1) / draws**0.5).all()
    assert 0 < gap.mean() < 1


# -- the same by other people's densities -------------------------------------------------------


@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
@pytest.mark.parametrize("kind", VARIANCES)
def test_every_term_is_that_of_torch_distributions(kind, objective):
    unet = {"learned_variance": kind == "learned_range"}
    options = {"timesteps": 5, "objective": objective, "variance_type": kind}
    diffusion = random_diffusion(unet=unet, beta_schedule="cosine", **options).double().eval()
    images = torch.rand(3, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
    got = bits_per_dim(diffusion, images, seeded())
    x0, rng, want = images * 2 - 1, seeded(), torch.zeros(5, dtype=torch.float64)
    for t in range(4, -1, -1):
        times = torch.full((3,), t)
        x = diffusion.q_sample(x0, times, torch.randn(x0.shape, generator=rng, dtype=x0.dtype))
        with torch.no_grad():
            x0_hat, _, share = diffusion.predict(x, times)
        small = diffusion.posterior_variance[max(t, 1)]
        large = diffusion.betas[t] if t or kind == "learned_range" else small
        p = Normal(
            diffusion.q_posterior(x0_hat, x, times)[0], (large**share * small ** (1 - share)) ** 0.5
        )
        q = Normal(diffusion.q_posterior(x0, x, times)[0], small**0.5)
        nats = kl_divergence(q, p)
        if t == 0:
            level = images.mul(255).round() / 127.5 - 1
            upper, lower = p.cdf(level + 1 / 255), p.cdf(level - 1 / 255)
            nats = -torch.log(upper.where(level < 1, 1.0) - lower.where(level > -1, 0.0))
        want[t] = nats.mean() / LOG2
        assert got.mse_x0[t].item() == pytest.approx((x0_hat - x0).square().mean().item())
    torch.testing.assert_close(got.Lt[1:], want[1:])
    torch.testing.assert_close(got.L0, want[0])


@pytest.mark.parametrize("T", [1, 2, 20])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_chain_of_all_timesteps_has_the_constants_of_the_process(share, T):
    diffusion = random_diffusion(timesteps=T).double()
    chain, t = Chain.of(diffusion), torch.arange(T)
    learned = torch.full((T,), share, dtype=torch.float64)
    want = diffusion.p_log_variance(t, learned, t.double())
    torch.testing.assert_close(chain.log_small + share * (chain.log_large - chain.log_small), want)
    torch.testing.assert_close(chain.towards_x0, diffusion.posterior_mean_coef1)
