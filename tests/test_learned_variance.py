"""Improved DDPM: a network that also says how wide each step is (Nichol & Dhariwal 2021)."""

import math

import pytest
import torch
from peers import fill
from support import images_like, noise_like, random_diffusion, tiny_diffusion
from torch import nn

from ddpm_hub import GaussianDiffusion, Unet

LEARNED = {"learned_variance": True}


class Fixed(nn.Module):
    """A network that answers x0 and a variance share, both fixed; the share is learnt."""

    channels, out_dim, self_condition = 1, 2, False

    def __init__(self, x0):
        super().__init__()
        self.x0 = nn.Parameter(x0.clone())
        self.raw = nn.Parameter(torch.zeros(1, 1, 1, 1, dtype=x0.dtype))

    def forward(self, x, t, x_self_cond=None):
        x0 = self.x0.expand(len(x), -1, *x.shape[2:])
        return torch.cat((x0, self.raw.expand_as(x0)), dim=1)


def fixed(x0, T=10, **kwargs):
    kwargs = {"objective": "pred_x0", "beta_schedule": "linear", "vlb_weight": 1 / T} | kwargs
    diffusion = GaussianDiffusion(Fixed(x0), image_size=x0.shape[-2:], timesteps=max(T, 20),
                                  **kwargs)  # fmt: skip
    return diffusion.double()


def test_a_network_with_a_variance_trains_samples_and_comes_back_from_its_config():
    diffusion = random_diffusion(unet=LEARNED)
    assert diffusion.variance_type == "learned_range"
    images = torch.rand(4, 1, 8, 8)
    diffusion(images).backward()
    assert all(p.grad is not None for p in diffusion.parameters())
    assert diffusion.sample(2, seed=0, progress=False).shape == (2, 1, 8, 8)
    again = GaussianDiffusion.from_config(diffusion.to_config())
    again.load_state_dict(diffusion.state_dict())
    assert torch.equal(*(d.sample(2, seed=0, progress=False) for d in (diffusion, again)))


def test_the_mean_half_of_the_network_is_sampled_as_if_it_stood_alone():
    """With a fixed variance the second half of the channels has no say."""
    one, two = tiny_diffusion(), tiny_diffusion(LEARNED, variance_type="fixed_small")
    state = one.model.state_dict()
    for name in ("final_conv.weight", "final_conv.bias"):
        state[name] = torch.cat((state[name], torch.ones_like(state[name])))
    two.model.load_state_dict(state)
    run = {"seed": 0, "progress": False}
    assert torch.allclose(one.sample(2, **run), two.sample(2, **run), atol=1e-6)
    images = (images_like(4, 1, 8, 8).float() + 1) / 2
    losses = []
    for diffusion in (one, two):
        torch.manual_seed(0)
        losses.append(diffusion(images).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(("raw", "share"), [(-1.0, 0.0), (0.0, 0.5), (1.0, 1.0)])
def test_the_variance_lies_between_beta_tilde_and_beta_as_the_share_says(raw, share):
    diffusion = fixed(torch.zeros(1, 1, 64, 64, dtype=torch.float64))
    diffusion.model.raw.data.fill_(raw)
    x, t = noise_like(1, 1, 64, 64), torch.tensor([12])
    _, variance, log_variance, _ = diffusion.p_mean_variance(x, t)
    want = diffusion.betas[12] ** share * diffusion.posterior_variance[12] ** (1 - share)
    assert torch.allclose(variance, want.expand_as(variance))
    assert torch.allclose(log_variance.exp(), variance)
    step = next(diffusion.sample_stream(noise=x, t_start=12, sampler="ddpm", seed=0))
    mean = diffusion.q_posterior(step.x0, x, t)[0]
    assert (step.x - mean).var().item() == pytest.approx(want.item(), rel=0.1)


@pytest.mark.parametrize("t", [0, 1, 7, 19])
def test_the_term_of_the_bound_equals_torch_distributions(t):
    x0 = (images_like(1, 1, 6, 6) * 127.5).round() / 127.5  # on the grid of 256 levels
    diffusion = fixed(torch.full_like(x0, 0.1))
    diffusion.model.raw.data.fill_(0.3)
    times = torch.tensor([t])
    xt = diffusion.q_sample(x0, times, noise_like(1, 1, 6, 6))
    out, raw = diffusion.model(xt, times).chunk(2, dim=1)
    got = diffusion.vlb_term(x0, xt, times, out, (raw + 1) / 2)

    small, large = diffusion.posterior_variance[max(t, 1)], diffusion.betas[t]
    p_mean = diffusion.q_posterior(out, xt, times)[0]
    p = torch.distributions.Normal(p_mean, (large**0.65 * small**0.35).sqrt())
    if t:
        q = torch.distributions.Normal(diffusion.q_posterior(x0, xt, times)[0], small.sqrt())
        want = torch.distributions.kl_divergence(q, p)
    else:
        above = torch.where(x0 > 0.999, torch.ones_like(x0), p.cdf(x0 + 1 / 255))
        below = torch.where(x0 < -0.999, torch.zeros_like(x0), p.cdf(x0 - 1 / 255))
        want = -(above - below).clamp(min=1e-300).log()
    if want.max() < 600:  # beyond that the peer's cdf has no digits left
        torch.testing.assert_close(got, want.mean()[None] / math.log(2), atol=1e-6, rtol=1e-6)


def test_the_hybrid_loss_is_the_simple_one_and_a_share_of_the_bound():
    diffusion = random_diffusion(unet=LEARNED)
    simple = random_diffusion(unet=LEARNED, vlb_weight=0.0)
    x0, eps = images_like(20, 1, 8, 8).float(), noise_like(20, 1, 8, 8).float()
    t = torch.arange(20)
    with torch.no_grad():
        both = diffusion.p_losses(x0, t, eps, loss_reduction="none")
        alone = simple.p_losses(x0, t, eps, loss_reduction="none")
        xt = diffusion.q_sample(x0, t, eps)
        out, raw = diffusion.model(xt, t).chunk(2, dim=1)
        bits = diffusion.vlb_term(x0, xt, t, out, (raw + 1) / 2)
    torch.testing.assert_close(both - alone, 0.001 * 20 * bits, atol=1e-4, rtol=1e-3)


def test_the_bound_teaches_the_variance_and_leaves_the_mean_alone():
    diffusion = fixed(torch.full((1, 1, 4, 4), 0.2, dtype=torch.float64))
    x0 = images_like(20, 1, 4, 4)
    with_bound, without = [], []
    for weight, grads in ((0.1, with_bound), (0.0, without)):
        diffusion.vlb_weight = weight
        diffusion.zero_grad()
        diffusion.p_losses(x0, torch.arange(20), noise_like(20, 1, 4, 4)).backward()
        grads += [diffusion.model.x0.grad.clone(), diffusion.model.raw.grad]
    assert torch.equal(with_bound[0], without[0])
    assert with_bound[1].abs() > 0
    assert without[1] is None or without[1].abs() == 0


def test_the_variance_that_is_learnt_is_the_one_that_makes_the_bound_smallest():
    """At one t with x0 off by d, sigma^2 = beta tilde + c1^2 d^2 is best (the KL's own optimum)."""
    x0 = torch.full((1, 1, 8, 8), 0.3, dtype=torch.float64)
    guess, t = x0 + 0.1, torch.tensor([15])
    diffusion = fixed(guess)
    net = diffusion.model
    optimizer = torch.optim.Adam([net.raw], lr=0.05)
    for step in range(300):
        optimizer.zero_grad()
        diffusion.p_losses(x0, t, noise_like(1, 1, 8, 8, seed=step)).backward()
        optimizer.step()
    learnt = diffusion.p_log_variance(t, (net.raw + 1) / 2, x0).exp()
    small = diffusion.posterior_variance[15]
    best = small + diffusion.posterior_mean_coef1[15] ** 2 * 0.1**2
    assert small < best < diffusion.betas[15]
    torch.testing.assert_close(learnt, best.expand_as(learnt), rtol=0.02, atol=0)


def test_guidance_takes_the_variance_of_the_label():
    unet = fill(Unet(8, dim_mults=(1, 2), channels=1, num_classes=3, learned_variance=True))
    diffusion = GaussianDiffusion(unet, image_size=8, timesteps=20).eval()
    x, t, label = noise_like(2, 1, 8, 8).float(), torch.tensor([9, 9]), torch.tensor([1, 1])
    alone = diffusion.predict(x, t, classes=label)
    guided = diffusion.predict(x, t, classes=label, guidance=5.0)
    assert torch.allclose(alone.share, guided.share, atol=1e-6)
    assert not torch.allclose(alone.x0, guided.x0, atol=1e-3)


def test_self_conditioning_sees_images_and_not_variances():
    unet = {"learned_variance": True, "self_condition": True}
    diffusion = random_diffusion(unet=unet)
    for seed in range(4):
        torch.manual_seed(seed)
        diffusion(torch.rand(2, 1, 8, 8))
    assert diffusion.sample(1, steps=3, seed=0, progress=False).shape == (1, 1, 8, 8)
