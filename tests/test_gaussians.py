"""Divergence and decoder: against other people's formulas, in the tails, and their gradients."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ddpm_hub.gaussians import discretized_gaussian_log_likelihood as decoder
from ddpm_hub.gaussians import normal_kl

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1
MEANS = torch.tensor([-30, -1.5, -1, -0.99, -0.3, 0, 1 / 255, 0.1234, 1, 1.0001, 3, 30]).double()
LOG_SCALES = torch.tensor([-23.0, -10, -7, -5.4, -4, -2, -1, 0, 2, 5]).double()


def integrals(x, means, scales):
    """log of the integral of the density over each inner bin: 300 points, summed as logarithms."""
    points, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(300))
    inside = Normal(means[..., None], scales[..., None]).log_prob(x[..., None] + points / 255)
    return torch.logsumexp(inside + (weights / 255).log(), -1)


def everywhere(dtype=torch.float64):
    """Each level with each mean and each scale, (256, 12, 10) three times."""
    return [v.to(dtype) for v in torch.meshgrid(LEVELS, MEANS, LOG_SCALES, indexing="ij")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_256_probabilities_of_the_decoder_sum_to_1(dtype):
    log_p = decoder(*everywhere(dtype))
    assert log_p.dtype == dtype
    total = log_p.double().exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-6, rtol=0)


def test_a_bin_has_the_probability_of_an_integral_over_it_even_500_deviations_away():
    means = torch.tensor([-5, -1, -0.3, 0, 1 / 255, 0.1234, 5]).double()
    scales = torch.tensor([0.01, 0.05, 0.3, 2, 50]).double()
    x, means, scales = torch.meshgrid(LEVELS[1:-1:11], means, scales, indexing="ij")
    want = integrals(x, means, scales)
    assert want.min() < -(500**2) / 2
    torch.testing.assert_close(decoder(x, means, scales.log()), want, atol=1e-9, rtol=1e-12)


def test_the_first_and_the_last_bin_have_no_outer_end():
    means, scales = torch.meshgrid(MEANS[1:-2], torch.tensor([0.1, 0.5]).double(), indexing="ij")
    first = decoder(-torch.ones_like(means), means, scales.log()).exp()
    last = decoder(torch.ones_like(means), means, scales.log()).exp()
    edge = torch.tensor(1 - 1 / 255).double()
    torch.testing.assert_close(first, Normal(means, scales).cdf(-edge))
    torch.testing.assert_close(last, 1 - Normal(means, scales).cdf(edge))


def test_a_value_between_two_levels_has_the_probability_of_the_nearer():
    x, mean, scale = LEVELS[100:104], torch.tensor(-0.2).double(), torch.tensor(-4.0).double()
    want = decoder(x, mean, scale)
    for shift in (-0.9 / 255, 0.9 / 255, 1e-8):
        assert torch.equal(decoder(x + shift, mean, scale), want)
    assert decoder(torch.tensor(1.7), mean, scale) == decoder(torch.tensor(1.0), mean, scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_decoders_gradients_are_finite_everywhere(dtype):
    x, means, scales = (v.clone().requires_grad_() for v in everywhere(dtype))
    decoder(x.detach(), means, scales).sum().backward()
    assert means.grad.isfinite().all() and scales.grad.isfinite().all()


def test_the_decoders_gradients_are_those_of_its_differences():
    x, means = LEVELS[[0, 1, 100, 254, 255]], torch.linspace(-1.2, 1.2, 7).double()
    x, means, scales = torch.meshgrid(x, means, torch.tensor([-4.0, -1]).double(), indexing="ij")
    means, scales = (v.clone().requires_grad_() for v in (means, scales))
    assert torch.autograd.gradcheck(lambda m, s: decoder(x, m, s), (means, scales))


def test_far_away_the_decoder_pulls_with_the_force_of_a_normal_density():
    mean = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    decoder(LEVELS[128], mean, torch.tensor(-16.0)).backward()
    nearest = -(5 - 2 / 255) * np.exp(32.0)  # of the bin's edge, at 4e7 deviations
    assert mean.grad.item() == pytest.approx(nearest, rel=1e-6)


def test_the_divergence_is_that_of_torch_distributions():
    m1, v1, m2, v2 = (torch.rand(4, 1000, dtype=torch.float64) * 8 - 4).unbind()
    want = kl_divergence(Normal(m1, (v1 / 2).exp()), Normal(m2, (v2 / 2).exp()))
    torch.testing.assert_close(normal_kl(m1, v1, m2, v2), want)


def test_the_divergence_of_nearly_equal_variances_is_not_lost_in_rounding():
    zero, step = torch.zeros(()), torch.tensor(1e-3)
    assert normal_kl(zero, step, zero, zero).item() == pytest.approx(1e-6 / 4, rel=2e-2)
    assert normal_kl(zero, zero, zero, zero).item() == 0
