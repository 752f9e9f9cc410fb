"""Our samplers beside diffusers', step by step in float64: same network, same noise, same states.

The peer keeps its schedule in float32; `peer` gives it ours in float64, so that what is compared is
the arithmetic of a step. Its known faults (numerics.md C18) are shown at the end: ours has none.
"""

import inspect
from itertools import pairwise

import diffusers
import pytest
import torch
from support import images_like, noise_like, oracle_diffusion
from torch import nn

from ddpm_hub import GaussianDiffusion
from ddpm_hub.randomness import noise_like as noise_of
from ddpm_hub.samplers import edm_sigma
from ddpm_hub.schedules import make_betas, zero_terminal_snr

T, STEPS = 1000, 13
OBJECTIVES = pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
NOISE = noise_like(2, 1, 4, 4, seed=5)


class Wavy(nn.Module):
    """A smooth function of x and t in the place of a network; with `variance`, a second channel."""

    channels, self_condition = 1, False

    def __init__(self, variance=False):
        super().__init__()
        self.out_dim = 1 + variance

    def forward(self, x, t, x_self_cond=None):
        t = t.to(x.dtype).view(-1, 1, 1, 1) / T
        out = 0.9 * torch.sin(1.3 * x + 2 * t) + 0.2 * x.roll(1, -1) * t
        return torch.cat((out, torch.cos(3 * x + t)), 1) if self.out_dim == 2 else out


def ours(variance=False, **kwargs):
    settings = {"objective": "pred_noise", "beta_schedule": "linear", "clip_x_start": False}
    net = Wavy(variance)
    return GaussianDiffusion(net, image_size=4, timesteps=T, **(settings | kwargs)).double()


def peer(name, diffusion, **config):
    """The peer's scheduler of that name, with the float64 schedule of our diffusion."""
    kind = {"pred_noise": "epsilon", "pred_x0": "sample", "pred_v": "v_prediction"}
    scheduler = getattr(diffusers, name)(
        num_train_timesteps=T,
        trained_betas=diffusion.betas.tolist(),
        prediction_type=kind[diffusion.objective],
        **config,
    )
    a = diffusion.alphas_cumprod
    scheduler.betas, scheduler.alphas, scheduler.alphas_cumprod = diffusion.betas, None, a
    scheduler.one = torch.ones((), dtype=a.dtype)
    scheduler.final_alpha_cumprod = scheduler.one
    scheduler.alpha_t, scheduler.sigma_t = a.sqrt(), (1 - a).sqrt()
    scheduler.lambda_t = (scheduler.alpha_t / scheduler.sigma_t).log()
    return scheduler


def set_timesteps(scheduler, steps):
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "sigmas"):  # also kept in float32: taken anew
        ts = scheduler.timesteps.long()
        sigmas = [edm_sigma(scheduler.alphas_cumprod[t].item()) for t in ts]
        scheduler.sigmas = torch.tensor([*sigmas, 0.0], dtype=torch.float64)
    return scheduler


def trajectory(scheduler, diffusion, steps=STEPS, seed=0, **options):
    """The peer's states after each step."""
    if "generator" in inspect.signature(scheduler.step).parameters:
        options["generator"] = torch.Generator().manual_seed(seed)
    x, states = NOISE.clone(), []
    for t in set_timesteps(scheduler, steps).timesteps:
        out = diffusion.model(x, t.long().expand(len(x)))
        x = scheduler.step(out, t, x, **options).prev_sample
        states.append(x)
    return scheduler.timesteps.tolist(), states


def compare(diffusion, peers, atol=1e-6, **options):
    """Our stream against the peer's (times, states)."""
    times, states = peers
    stream = diffusion.sample_stream(noise=NOISE, seed=0, **({"steps": len(times)} | options))
    steps = list(stream)
    assert [step.t for step in steps] == times
    for step, state in zip(steps, states, strict=True):
        torch.testing.assert_close(step.x, state, atol=atol, rtol=0)
    assert states[-1].std() > 0.1  # a run that blew up or died away would compare nothing


@OBJECTIVES
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
@pytest.mark.parametrize("clip", [False, True])
def test_ddpm_equals_the_peer_in_every_variance(objective, variance, clip):
    diffusion = ours(variance == "learned_range", objective=objective, clip_x_start=clip)
    scheduler = peer(
        "DDPMScheduler", diffusion, variance_type=variance, clip_sample=clip,
        timestep_spacing="leading",
    )  # fmt: skip
    scheduler.alphas = 1 - diffusion.betas
    steps = 20  # the peer's previous timestep is right only where the steps divide T
    options = {"variance_type": variance, "sampler": "ddpm", "spacing": "leading"}
    compare(diffusion, trajectory(scheduler, diffusion, steps), **options)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("clip", [False, True])
def test_ddim_equals_the_peer_in_leading_spacing(eta, clip):
    diffusion = ours(clip_x_start=clip)
    scheduler = peer(
        "DDIMScheduler", diffusion, clip_sample=clip, timestep_spacing="leading",
        set_alpha_to_one=True,
    )  # fmt: skip
    theirs = trajectory(scheduler, diffusion, 20, eta=eta, use_clipped_model_output=clip)
    compare(diffusion, theirs, sampler="ddim", spacing="leading", eta=eta)


@OBJECTIVES
def test_unipc_equals_the_peer_in_trailing_spacing(objective):
    diffusion = ours(objective=objective)
    config = {"solver_order": 2, "solver_type": "bh2", "timestep_spacing": "trailing"}
    theirs = trajectory(peer("UniPCMultistepScheduler", diffusion, **config), diffusion)
    compare(diffusion, theirs, sampler="unipc", spacing="trailing")


@OBJECTIVES
@pytest.mark.parametrize(
    ("sampler", "algorithm"),
    [("dpmpp_2m", "dpmsolver++"), ("dpmpp_2m_sde", "sde-dpmsolver++")],
)
def test_dpm_solvers_equal_the_peer_in_trailing_spacing(sampler, algorithm, objective):
    """Its `step` computes in float32 and draws noise so: here its updates are called one by one."""
    diffusion = ours(objective=objective)
    scheduler = peer(
        "DPMSolverMultistepScheduler", diffusion, algorithm_type=algorithm,
        timestep_spacing="trailing",
    )  # fmt: skip
    times = set_timesteps(scheduler, STEPS).timesteps.tolist()
    rng, x, states, outputs = torch.Generator().manual_seed(0), NOISE.clone(), [], []
    for i, t in enumerate(times):
        scheduler._step_index = i
        out = diffusion.model(x, torch.tensor([t]).expand(len(x)))
        outputs = [*outputs[-1:], scheduler.convert_model_output(out, sample=x)]
        noise = noise_of(x, rng) if sampler == "dpmpp_2m_sde" else None
        if i in (0, STEPS - 1):
            x = scheduler.dpm_solver_first_order_update(outputs[-1], sample=x, noise=noise)
        else:
            x = scheduler.multistep_dpm_solver_second_order_update(outputs, sample=x, noise=noise)
        states.append(x)
    compare(diffusion, (times, states), sampler=sampler, spacing="trailing")


def test_heun_equals_the_peer_whose_states_are_not_scaled_down():
    diffusion = ours()
    scheduler = peer("HeunDiscreteScheduler", diffusion, timestep_spacing="trailing")
    scheduler.set_timesteps(7)
    times = scheduler.timesteps.long().tolist()
    sigmas = [edm_sigma(diffusion.alpha_bar(t)) for t in times] + [0.0]
    scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float64)
    x, states = NOISE * (1 + sigmas[0] ** 2) ** 0.5, []
    for i, t in enumerate(scheduler.timesteps):
        seen = x / (1 + sigmas[i] ** 2) ** 0.5
        x = scheduler.step(diffusion.model(seen, t.long().expand(2)), t, x).prev_sample
        states.append(x / (1 + sigmas[i + 1] ** 2) ** 0.5)
    assert len(times) == 13
    compare(diffusion, (times, states), sampler="heun", spacing="trailing")


def test_dynamic_thresholding_equals_the_peer():
    diffusion = ours()
    scheduler = peer(
        "DDPMScheduler", diffusion, clip_sample=False, thresholding=True, sample_max_value=1e9,
        dynamic_thresholding_ratio=0.9, timestep_spacing="leading",
    )  # fmt: skip
    scheduler.alphas = 1 - diffusion.betas
    theirs = trajectory(scheduler, diffusion, 20)
    compare(diffusion, theirs, sampler="ddpm", spacing="leading", dynamic_threshold=0.9)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
def test_zero_terminal_snr_equals_the_peers_rescaling(schedule):
    from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr

    betas = make_betas(schedule, T)
    got = zero_terminal_snr(betas)
    torch.testing.assert_close(got, rescale_zero_terminal_snr(betas), atol=1e-12, rtol=0)
    assert (1 - got).cumprod(0)[-1] == 0


# -- the peer's known faults -----------------------------------------------------------------


def test_c18_fixed_large_is_finite_where_the_peers_logarithm_of_it_is_not():
    diffusion = ours()
    broken = peer("DDPMScheduler", diffusion, variance_type="fixed_large_log", clip_sample=False)
    broken.alphas = 1 - diffusion.betas
    _, states = trajectory(broken, diffusion, 20)
    assert states[-1].isnan().any()
    got = diffusion.sample(noise=NOISE, seed=0, sampler="ddpm", steps=20, progress=False,
                           variance_type="fixed_large")  # fmt: skip
    assert got.isfinite().all()


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_c18_ddim_steps_to_the_next_timestep_of_its_list_where_the_peer_steps_elsewhere(spacing):
    """With a perfect network of one image each state is on the line from noise to that image."""
    image = images_like(1, 1, 4, 4, seed=9)
    diffusion = oracle_diffusion(image, T, objective="pred_noise", beta_schedule="linear",
                                 clip_x_start=False)  # fmt: skip
    a = diffusion.alphas_cumprod

    def off_the_line(t, x):  # the state at t should be sqrt(a) x0 + sqrt(1 - a) eps of the start
        eps = (NOISE - a[-1].sqrt() * image) / (1 - a[-1]).sqrt()
        return (x - a[t].sqrt() * image - (1 - a[t]).sqrt() * eps).abs().max().item()

    scheduler = peer("DDIMScheduler", diffusion, clip_sample=False, timestep_spacing=spacing)
    times, states = trajectory(scheduler, diffusion, 7)
    theirs = [off_the_line(t, x) for t, x in zip(times[1:], states, strict=False)]
    steps = list(diffusion.sample_stream(noise=NOISE, sampler="ddim", steps=7, spacing=spacing))
    mine = [off_the_line(b.t, a.x) for a, b in pairwise(steps)]
    assert max(mine) < 1e-9
    assert max(theirs) > 1e-3


def test_c18_only_leading_spacing_does_not_begin_at_the_noisiest_level():
    diffusion = ours()
    scheduler = peer("DDIMScheduler", diffusion, timestep_spacing="leading")
    scheduler.set_timesteps(10)
    for spacing, first in {"leading": 900, "linspace": 999, "trailing": 999, "logsnr": 999}.items():
        stream = diffusion.sample_stream(1, steps=10, spacing=spacing)
        assert stream.state().ts[0] == first
    assert diffusion.sample_stream(1, steps=10).state().ts[0] == 999  # what is taken by default
    assert scheduler.timesteps[0] == 900
