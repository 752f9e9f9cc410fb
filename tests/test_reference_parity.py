"""Side by side with the live reference, denoising-diffusion-pytorch 2.3.4, at random settings.

Same weights in both, same seeds: forwards, gradients, buffers, losses and samples agree, which
they can only do if random numbers are drawn in the same order. What we do differently on purpose
has its test elsewhere, named by what it promises.
"""

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from peers import reference, wave
from support import NAMES, OBJECTIVES

from ddpm_hub import GaussianDiffusion, Unet

REFERENCE = reference()
SLOW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,  # CI must not fail by luck
    suppress_health_check=[HealthCheck.too_slow],
)
BUFFERS = [
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod"),
    *("sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod"),
    *("sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance"),
    *("posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    "loss_weight",
]


def close(got, want, atol=1e-5):
    torch.testing.assert_close(got, want, atol=atol, rtol=0)


@st.composite
def unet_arguments(draw):
    levels = draw(st.integers(1, 3))

    def per_level(values):
        return draw(st.one_of(values, st.tuples(*[values] * levels)))

    learned = draw(st.booleans())
    return {
        "dim": draw(st.sampled_from([4, 6, 8])),
        "init_dim": draw(st.none() | st.integers(3, 12)),
        "out_dim": draw(st.none() | st.integers(1, 5)),
        "dim_mults": tuple(draw(st.lists(st.integers(1, 3), min_size=levels, max_size=levels))),
        "channels": draw(st.integers(1, 4)),
        "self_condition": draw(st.booleans()),
        "learned_variance": draw(st.booleans()),
        "learned_sinusoidal_cond": learned,
        "random_fourier_features": draw(st.booleans()),
        "learned_sinusoidal_dim": draw(st.sampled_from([2, 8, 16])),
        "sinusoidal_pos_emb_theta": draw(st.sampled_from([10, 10000, 1e5])),
        "dropout": draw(st.sampled_from([0.0, 0.3])),
        "attn_dim_head": per_level(st.sampled_from([4, 8, 32])),
        "attn_heads": per_level(st.integers(1, 4)),
        # all False means "default" to the reference: one of its faults, tested in test_unet.py
        "full_attn": draw(st.none() | st.just(True) | st.tuples(*[st.booleans()] * levels)),
        "flash_attn": draw(st.booleans()),
    }


def twin_unets(seed=0, **arguments):
    """(ours, theirs) with the same weights, drawn by the reference."""
    torch.manual_seed(seed)
    theirs = REFERENCE.Unet(**arguments)
    ours = Unet(**arguments)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours.eval(), theirs.eval()


@SLOW
@given(unet_arguments(), st.integers(1, 2), st.integers(1, 3), st.integers(0, 99))
def test_any_unet_of_the_reference_has_a_twin_here_with_the_same_answer(arguments, h, w, seed):
    ours, theirs = twin_unets(seed, **arguments)
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    assert (ours.out_dim, ours.downsample_factor) == (theirs.out_dim, theirs.downsample_factor)
    factor = 2 ** (len(arguments["dim_mults"]) - 1)
    x = torch.randn(2, arguments["channels"], 2 * h * factor, 2 * w * factor)
    fourier = arguments["learned_sinusoidal_cond"] or arguments["random_fourier_features"]
    t = torch.tensor([0.1, 0.7]) if fourier else torch.randint(0, 1000, (2,))
    x_self_cond = torch.randn_like(x) if arguments["self_condition"] and h == 1 else None
    with torch.no_grad():
        want = theirs(x, t, x_self_cond)
        close(ours(x, t, x_self_cond), want, atol=1e-5 * max(1, want.abs().max().item()))


def test_fresh_weights_of_one_seed_are_the_reference_ones():
    """Same layers in the same order with the same initial distributions."""
    torch.manual_seed(3)
    theirs = REFERENCE.Unet(8, dim_mults=(1, 2, 4), channels=1).state_dict()
    torch.manual_seed(3)
    ours = Unet(8, dim_mults=(1, 2, 4), channels=1).state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.parametrize("mode", [False, True])
def test_gradients_of_every_parameter_equal_the_reference(mode):
    ours, theirs = twin_unets(dim=8, dim_mults=(1, 2), channels=1)
    x, t = wave(2, 1, 8, 8), torch.tensor([3, 700])
    for net in (ours.train(mode), theirs):
        net(x, t).square().mean().backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-5, rtol=1e-3), name


@SLOW
@given(st.booleans(), unet_arguments(), st.integers(0, 99))
def test_in_training_or_not_any_twin_has_the_gradients_of_the_reference(mode, arguments, seed):
    """In training, ours go another way: `nets/trained.py`."""
    ours, theirs = twin_unets(seed, **{**arguments, "dropout": 0.0})
    size = 2 ** len(arguments["dim_mults"])
    fourier = arguments["learned_sinusoidal_cond"] or arguments["random_fourier_features"]
    x = torch.randn(2, arguments["channels"], size, size)
    t = torch.tensor([0.1, 0.7] if fourier else [3, 700])
    found = []
    for net in (ours.train(mode), theirs):
        net(x, t).square().mean().backward()
        found.append([p.grad for p in net.parameters() if p.requires_grad])
    largest = max(grad.abs().max() for grad in found[1]).item()
    for said, want in zip(*found, strict=True):
        close(said, want, atol=1e-3 * want.abs().max().item() + 1e-5 * largest)


def test_dropout_in_training_drops_the_same_numbers():
    ours, theirs = twin_unets(dim=8, dim_mults=(1, 2), channels=1, dropout=0.3)
    x, t = wave(2, 1, 8, 8), torch.tensor([3, 700])
    out = []
    for net in (ours.train(), theirs.train()):
        torch.manual_seed(1)
        out.append(net(x, t))
    close(*out)


@st.composite
def diffusion_arguments(draw):
    name = draw(st.sampled_from(NAMES))
    T = draw(st.integers(21 if name == "linear" else 2, 30))
    kwargs = {"sigmoid": {"start": -2, "end": 2.5, "tau": 0.8}, "cosine": {"s": 0.02}}.get(name, {})
    return {
        "image_size": draw(st.sampled_from([8, (8, 12), [4, 8]])),
        "timesteps": T,
        "sampling_timesteps": draw(st.none() | st.integers(1, min(T, 6))),
        "objective": draw(st.sampled_from(OBJECTIVES)),
        "beta_schedule": name,
        "schedule_fn_kwargs": draw(st.sampled_from([{}, kwargs])),
        "ddim_sampling_eta": draw(st.sampled_from([0.0, 0.4, 1.0])),
        "auto_normalize": draw(st.booleans()),
        "min_snr_loss_weight": draw(st.booleans()),
        "min_snr_gamma": draw(st.sampled_from([1, 5])),
    }


def twin_diffusions(seed=0, unet=None, **arguments):
    ours, theirs = twin_unets(seed, **{"dim": 4, "dim_mults": (1, 2), "channels": 1} | (unet or {}))
    # the reference clips x0 even without normalisation; ours makes it an option
    mine = GaussianDiffusion(ours, **arguments, clip_x_start=True)
    return mine, REFERENCE.GaussianDiffusion(theirs, **arguments)


@SLOW
@given(diffusion_arguments(), st.integers(0, 99))
def test_any_diffusion_of_the_reference_has_the_same_buffers_losses_and_samples(arguments, seed):
    ours, theirs = twin_diffusions(seed, **arguments)
    for name in BUFFERS:
        torch.testing.assert_close(
            getattr(ours, name), getattr(theirs, name), atol=0, rtol=2e-6, msg=name
        )
    x = torch.rand(3, 1, *theirs.image_size)
    values = []
    for diffusion in (ours, theirs):
        torch.manual_seed(seed)
        none = diffusion(x, loss_reduction="none")
        values.append((diffusion(x), none, torch.rand(1)))
    # min-SNR-free pred_x0 weights reach thousands: compare relatively
    torch.testing.assert_close(values[0], values[1], atol=1e-5, rtol=1e-4)
    pictures = []
    for diffusion in (ours, theirs):
        torch.manual_seed(seed)
        quiet = {"progress": False} if diffusion is ours else {}
        sampled = diffusion.sample(2, **quiet)
        # 1e-4 is of pictures in [0, 1]: without normalisation they come in [-1, 1]
        unit = sampled if arguments["auto_normalize"] else (sampled + 1) / 2
        pictures.append((unit, torch.rand(1)))
    close(pictures[0][0], pictures[1][0], atol=1e-4)
    assert torch.equal(pictures[0][1], pictures[1][1]), "random numbers drawn in another order"


@pytest.mark.parametrize("steps", [20, 6])
def test_all_timesteps_are_returned_as_the_reference_stacks_them(steps):
    ours, theirs = twin_diffusions(image_size=8, timesteps=20, sampling_timesteps=steps)
    stacks = []
    for diffusion in (ours, theirs):
        torch.manual_seed(5)
        quiet = {"progress": False} if diffusion is ours else {}
        stacks.append(diffusion.sample(2, return_all_timesteps=True, **quiet))
    assert stacks[0].shape == (2, steps + 1, 1, 8, 8)
    close(*stacks, atol=1e-4)


@pytest.mark.parametrize("steps", [20, 6])
def test_self_conditioned_samples_equal_the_reference(steps):
    ours, theirs = twin_diffusions(
        unet={"self_condition": True}, image_size=8, timesteps=20, sampling_timesteps=steps
    )
    torch.manual_seed(5)
    got = ours.sample(2, progress=False)
    torch.manual_seed(5)
    close(got, theirs.sample(2), atol=1e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_public_method_equals_the_reference(objective):
    ours, theirs = twin_diffusions(image_size=8, timesteps=30, objective=objective)
    torch.manual_seed(0)
    x, y = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)
    t = torch.tensor([0, 3, 17, 29])
    for name in (
        *("predict_start_from_noise", "predict_noise_from_start", "predict_v"),
        "predict_start_from_v",
    ):
        arguments = (x, t, y)
        torch.testing.assert_close(
            getattr(ours, name)(*arguments), getattr(theirs, name)(*arguments), atol=1e-5, rtol=1e-5
        )
    close(ours.q_sample(x, t, y), theirs.q_sample(x, t, y))
    for got, want in zip(ours.q_posterior(x, y, t), theirs.q_posterior(x, y, t), strict=True):
        close(got, want)
    with torch.no_grad():
        for clip, rederive in ((False, False), (True, False), (True, True)):
            options = {"clip_x_start": clip, "rederive_pred_noise": rederive}
            got = ours.model_predictions(x, t, **options)
            want = theirs.model_predictions(x, t, **options)
            torch.testing.assert_close(got.pred_noise, want.pred_noise, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(got.pred_x_start, want.pred_x_start, atol=1e-4, rtol=1e-4)
        for clip in (True, False):
            pairs = (d.p_mean_variance(x, t, clip_denoised=clip) for d in (ours, theirs))
            for got, want in zip(*pairs, strict=True):
                torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    torch.manual_seed(1)
    got = ours.p_sample(x, 7)
    torch.manual_seed(1)
    for mine, other in zip(got, theirs.p_sample(x, 7), strict=True):
        close(mine, other, atol=1e-4)


def test_a_given_offset_strength_gives_the_reference_loss():
    ours, theirs = twin_diffusions(image_size=8, timesteps=30, offset_noise_strength=0.1)
    losses = []
    for diffusion in (ours, theirs):
        torch.manual_seed(2)
        losses.append(diffusion(torch.rand(4, 1, 8, 8)))
    close(*losses)


def test_the_constructor_takes_every_argument_of_the_reference_with_its_default():
    from inspect import signature

    for mine, theirs in (
        (Unet, REFERENCE.Unet),
        (GaussianDiffusion, REFERENCE.GaussianDiffusion),
    ):
        ours = signature(mine).parameters
        for name, parameter in signature(theirs).parameters.items():
            assert name in ours
            default = ours[name].default
            same = default == parameter.default or (default is None and parameter.default == {})
            assert same, name


def test_forward_passes_times_and_reduction_on_as_the_reference_does():
    ours, theirs = twin_diffusions(image_size=8, timesteps=30)
    x, t = torch.rand(4, 1, 8, 8), torch.tensor([0, 5, 20, 29])
    noise = torch.randn_like(x)
    close(
        ours(x, noise, times=t, loss_reduction="none"),
        theirs(x, noise.clone(), times=t, loss_reduction="none"),
    )


@SLOW
@given(st.integers(20, 1000), st.data())
def test_ddim_time_lists_equal_the_reference_expression_exactly(T, data):
    steps = data.draw(st.integers(1, T - 1))
    times = torch.linspace(-1, T - 1, steps=steps + 1).int().tolist()[::-1]
    assume(steps < 60)
    from support import Oracle

    oracle = Oracle(torch.zeros(1, 1, 4, 4))
    diffusion = oracle.bind(GaussianDiffusion(oracle, image_size=4, timesteps=T))
    stream = diffusion.sample_stream(1, sampler="ddim", steps=steps, seed=0)
    assert [step.t for step in stream] == times[:-1]
