"""The Gaussian process: golden numbers, inverses, what the loss sees, and what is refused.

Sampling is in test_samplers.py; the live reference in test_reference_parity.py.
Over 300 lines, since a test file mirrors its module and most of these are tables of cases.
"""

import pickle
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import fill, wave
from support import (
    DIFFUSION,
    NAMES,
    NOISE,
    OBJECTIVES,
    SCHEDULE_BUFFERS,
    TIMES,
    X0,
    assert_like_golden,
    images_like,
    noise_like,
    oracle_diffusion,
    random_diffusion,
    tiny_diffusion,
    tiny_unet,
)

from ddpm_hub import GaussianDiffusion, Unet
from ddpm_hub.errors import ConfigError, DataError, DDPMHubError

PUBLIC = [
    *("q_sample", "q_posterior", "p_mean_variance", "p_sample", "p_losses", "model_predictions"),
    *("predict_v", "predict_start_from_v", "predict_start_from_noise", "predict_noise_from_start"),
    *("interpolate", "p_sample_loop", "ddim_sample", "sample", "noise_assignment", "random_times"),
    *("forward_noise", "sample_stream", "resume_stream", "normalize", "unnormalize"),
]


def golden_diffusion(key):
    objective, schedule, _ = key.split("/")
    return tiny_diffusion(objective=objective, beta_schedule=schedule)


def close(got, want, atol=1e-6):
    torch.testing.assert_close(got, want, atol=atol, rtol=0)


# -- golden numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", SCHEDULE_BUFFERS)
def test_schedule_buffers_and_loss_weights_equal_the_golden_file(key):
    T, schedule = key[1:].split("/")
    points = [0, 1, int(T) // 2, int(T) - 2, int(T) - 1]
    for objective in OBJECTIVES:
        for min_snr in (False, True):
            diffusion = tiny_diffusion(
                timesteps=int(T),
                beta_schedule=schedule,
                objective=objective,
                min_snr_loss_weight=min_snr,
            )
            for name, want in SCHEDULE_BUFFERS[key].items():
                name, *weights_of = name.split("/")
                if weights_of and weights_of != [objective, f"min_snr={min_snr}"]:
                    continue
                got = getattr(diffusion, name)
                assert got.dtype == torch.float32
                torch.testing.assert_close(
                    got[points], torch.tensor(want), atol=0, rtol=2e-6, msg=name
                )


@pytest.mark.parametrize("key", DIFFUSION)
@torch.no_grad()
def test_the_noised_image_and_the_losses_equal_the_golden_file(key):
    diffusion, want = golden_diffusion(key), DIFFUSION[key]
    assert_like_golden(diffusion.q_sample(X0, TIMES, NOISE), want["q_sample"], atol=1e-5)
    got = diffusion.p_losses(X0, TIMES, NOISE)
    assert got.item() == pytest.approx(want["p_losses(x0,t,noise)"], abs=1e-5)
    got = diffusion.p_losses(X0, TIMES, NOISE, loss_reduction="none")
    torch.testing.assert_close(got, torch.tensor(want["p_losses none"]), atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("key", DIFFUSION)
@torch.no_grad()
def test_predictions_and_the_posterior_equal_the_golden_file(key):
    diffusion, want = golden_diffusion(key), DIFFUSION[key]
    got = diffusion.model_predictions(NOISE, TIMES, clip_x_start=True, rederive_pred_noise=True)
    for name, record in want["model_predictions clip+rederive"].items():
        assert_like_golden(getattr(got, name), record, atol=1e-5)
    mean, variance, log_variance, _ = diffusion.p_mean_variance(NOISE, TIMES)
    want = want["p_mean_variance"]
    assert_like_golden(mean, want["mean"], atol=1e-5)
    close(variance.flatten(), torch.tensor(want["var"]), atol=1e-5)
    close(log_variance.flatten(), torch.tensor(want["logvar"]), atol=1e-5)


@pytest.mark.parametrize("key", DIFFUSION)
@torch.no_grad()
def test_the_parts_composed_as_the_reference_interpolates_give_its_picture(key):
    """Its interpolate is wrong (C9), but what it is made of is right: so must ours be."""
    diffusion = golden_diffusion(key)
    t = torch.full((2,), 20)
    torch.manual_seed(0)
    one, two = (diffusion.q_sample(x, t) for x in (X0[:2], X0[2:]))
    x = 0.7 * one + 0.3 * two
    for i in reversed(range(20)):
        x, _ = diffusion.p_sample(x, i)
    assert_like_golden(x, DIFFUSION[key]["seed0 interpolate(t=20,lam=.3)"], atol=1e-4)


# -- equations --------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(NAMES), st.integers(0, 999), st.integers(0, 9))
def test_each_parameterisation_inverts_the_other(schedule, t, seed):
    diffusion = tiny_diffusion(timesteps=1000, beta_schedule=schedule).double()
    x0, eps = images_like(2, 1, 8, 8, seed=seed), noise_like(2, 1, 8, 8, seed=seed)
    t = torch.full((2,), t)
    xt = diffusion.q_sample(x0, t, eps)
    close(diffusion.predict_start_from_noise(xt, t, eps), x0, atol=1e-7)
    close(diffusion.predict_noise_from_start(xt, t, x0), eps, atol=1e-7)
    close(diffusion.predict_start_from_v(xt, t, diffusion.predict_v(x0, t, eps)), x0, atol=1e-7)


def test_the_posterior_is_what_bayes_gives_for_two_gaussians():
    """q(x_{t-1} | xt, x0) is proportional to q(xt | x_{t-1}) q(x_{t-1} | x0), precisions add."""
    diffusion = tiny_diffusion().double()
    x0, xt = images_like(49, 1, 1, 1), noise_like(49, 1, 1, 1)
    t = torch.arange(1, 50)
    beta = diffusion.betas[1:].view(-1, 1, 1, 1)
    before = diffusion.alphas_cumprod[:-1].view(-1, 1, 1, 1)
    precision = (1 - beta) / beta + 1 / (1 - before)
    want = ((1 - beta).sqrt() / beta * xt + before.sqrt() / (1 - before) * x0) / precision
    mean, variance, log_variance = diffusion.q_posterior(x0, xt, t)
    torch.testing.assert_close(mean, want, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(variance, 1 / precision, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(log_variance.exp(), variance, atol=1e-9, rtol=1e-9)


def test_the_posterior_at_the_last_step_is_the_clean_image_itself():
    diffusion, x0 = tiny_diffusion().double(), images_like(2, 1, 8, 8)
    mean, variance, _ = diffusion.q_posterior(x0, noise_like(2, 1, 8, 8), torch.zeros(2).long())
    close(mean, x0, atol=1e-9)
    assert (variance == 0).all()


def test_noised_images_have_the_mean_and_variance_of_equation_four():
    diffusion = tiny_diffusion()
    x0, t = torch.full((4000, 1, 8, 8), 0.5), torch.full((4000,), 20)
    torch.manual_seed(0)
    xt = diffusion.q_sample(x0, t)
    a = diffusion.alphas_cumprod[20].item()
    assert xt.mean().item() == pytest.approx(0.5 * a**0.5, abs=0.01)
    assert xt.var().item() == pytest.approx(1 - a, abs=0.01)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("schedule", NAMES)
def test_a_perfect_network_has_no_loss(objective, schedule):
    """In every objective: the target is what the oracle of one image says."""
    one = images_like(1, 1, 8, 8)
    diffusion = oracle_diffusion(one, objective=objective, beta_schedule=schedule)
    x0, t = one.expand(50, -1, -1, -1), torch.arange(50)
    loss = diffusion.p_losses(x0, t, noise_like(50, 1, 8, 8), loss_reduction="none")
    assert loss.max() < 1e-12


def test_forward_noise_takes_and_gives_unit_images_and_clips_nothing():
    diffusion = tiny_diffusion().double()
    images, eps = (images_like(2, 1, 8, 8) + 1) / 2, noise_like(2, 1, 8, 8)
    t = torch.tensor([0, 49])
    got = diffusion.forward_noise(images, t, eps)
    close(got * 2 - 1, diffusion.q_sample(images * 2 - 1, t, eps), atol=1e-9)
    assert got.min() < 0
    assert got.max() > 1


def test_loss_of_images_is_the_loss_of_their_normalised_twins():
    diffusion, images, t = tiny_diffusion(), (wave(4, 1, 8, 8) + 1) / 2, TIMES
    got = diffusion(images, NOISE, times=t)
    close(got, diffusion.p_losses(images * 2 - 1, t, NOISE))
    plain = tiny_diffusion(auto_normalize=False)
    close(plain(images, NOISE, times=t), plain.p_losses(images, t, NOISE))


def test_random_times_cover_every_step():
    times = tiny_diffusion().random_times(5000)
    assert times.dtype == torch.int64
    assert sorted(set(times.tolist())) == list(range(50))


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_methods_of_the_contract_are_there_and_documented(name):
    method = getattr(GaussianDiffusion, name)
    assert callable(method)
    assert method.__doc__


# -- where the reference is wrong (numerics.md, section C) ------------------------------------


def test_c1_immiscible_noise_is_assigned_before_both_the_input_and_the_target():
    """The reference permutes what it adds but not what it asks for: loss 1 instead of 0."""
    data = images_like(1, 1, 8, 8)
    diffusion = oracle_diffusion(data, objective="pred_noise", immiscible=True)
    torch.manual_seed(0)
    images = (data.expand(32, -1, -1, -1) + 1) / 2
    assert diffusion(images, times=torch.full((32,), 25)) < 1e-10


def test_c1_immiscible_noise_is_nearer_than_chance_and_still_the_same_noise():
    diffusion = tiny_diffusion(immiscible=True)
    x0, eps = images_like(32, 1, 8, 8).float(), noise_like(32, 1, 8, 8).float()
    assign = diffusion.noise_assignment(x0, eps)
    assert sorted(assign.tolist()) == list(range(32))
    distance = (x0 - eps).flatten(1).norm(dim=1).sum()
    assert (x0 - eps[assign]).flatten(1).norm(dim=1).sum() < distance


def test_c1_immiscible_training_gives_each_image_the_noise_assigned_to_it():
    diffusion = tiny_diffusion(immiscible=True)
    x0, eps = images_like(8, 1, 8, 8).float(), noise_like(8, 1, 8, 8).float()
    t = torch.full((8,), 25)
    assigned = eps[diffusion.noise_assignment(x0, eps)]
    assert not torch.equal(assigned, eps)
    seen = []
    diffusion.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    diffusion.p_losses(x0, t, eps)
    torch.testing.assert_close(seen[0], diffusion.q_sample(x0, t, assigned))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 24), st.integers(0, 10_000), st.booleans())
def test_c1_the_assignment_is_as_cheap_as_scipys(n, seed, tied):
    from scipy.optimize import linear_sum_assignment

    diffusion = tiny_diffusion()
    x0, eps = images_like(n, 1, 2, 2, seed=seed), noise_like(n, 1, 2, 2, seed=seed)
    if tied:  # equal distances are where such solvers break
        x0, eps = x0.round(), eps.round()
    cost = torch.cdist(x0.flatten(1), eps.flatten(1))
    mine = diffusion.noise_assignment(x0, eps)
    assert sorted(mine.tolist()) == list(range(n))
    rows, columns = linear_sum_assignment(cost.numpy())
    best = cost[rows, columns].sum()
    torch.testing.assert_close(cost[range(n), mine].sum(), best, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("strength", [0.1, 0.5])
def test_c2_offset_noise_has_the_strength_that_was_asked_for(strength):
    """A walrus in some versions turns any strength into True, that is 1.0."""
    diffusion = oracle_diffusion(torch.zeros(1, 1, 8, 8), objective="pred_noise")
    torch.manual_seed(0)
    x0, t = torch.zeros(4000, 1, 8, 8).double(), torch.full((4000,), 49)
    diffusion.p_losses(x0, t, offset_noise_strength=strength)
    seen = diffusion.model.states[-1] / diffusion.sqrt_one_minus_alphas_cumprod[49]
    want = strength**2 + 1 / 64  # of a mean over 64 pixels
    assert seen.mean((2, 3)).var().item() == pytest.approx(want, rel=0.15)


def test_c2_offset_noise_leaves_the_callers_noise_alone():
    diffusion, noise = tiny_diffusion(offset_noise_strength=0.5), NOISE.clone()
    diffusion.p_losses(X0, TIMES, noise)
    assert torch.equal(noise, NOISE)


def test_c2_a_call_can_switch_offset_noise_off():
    diffusion = tiny_diffusion(offset_noise_strength=0.5)
    got = diffusion.p_losses(X0, TIMES, NOISE, offset_noise_strength=0.0)
    close(got, tiny_diffusion().p_losses(X0, TIMES, NOISE))


def test_c7_schedule_buffers_are_not_saved_so_weights_cannot_overwrite_them():
    cosine = tiny_diffusion(beta_schedule="cosine", objective="pred_noise")
    assert all(key.startswith("model.") for key in cosine.state_dict())
    sigmoid = tiny_diffusion()
    before = {name: buffer.clone() for name, buffer in sigmoid.named_buffers()}
    assert "betas" in before
    assert "loss_weight" in before
    sigmoid.load_state_dict(cosine.state_dict(), strict=True)
    assert all(torch.equal(before[name], buffer) for name, buffer in sigmoid.named_buffers())


def test_c7_a_state_dict_of_the_reference_with_its_thirteen_buffers_does_not_change_the_schedule():
    """Refused or filtered, but never betas of one schedule under the objective of another."""
    sigmoid = tiny_diffusion()
    foreign = sigmoid.state_dict() | {"betas": torch.full((50,), 0.5)}
    before = sigmoid.betas.clone()
    with pytest.raises((RuntimeError, DDPMHubError)):
        sigmoid.load_state_dict(foreign, strict=True)
    sigmoid.load_state_dict(foreign, strict=False)
    assert torch.equal(sigmoid.betas, before)


def test_c10_self_conditioning_in_training_follows_the_torch_seed_not_pythons():
    diffusion = random_diffusion(unet={"self_condition": True})
    images = torch.rand(4, 1, 8, 8)

    def losses(torch_seed, python_seed):
        torch.manual_seed(torch_seed)
        random.seed(python_seed)
        return [diffusion(images).item() for _ in range(8)]

    assert losses(1, 1) == losses(1, 2)
    assert losses(1, 1) != losses(2, 1)


def test_c10_self_conditioning_is_used_about_half_of_the_time():
    diffusion = oracle_diffusion(images_like(1, 1, 8, 8))
    diffusion.self_condition = True
    torch.manual_seed(0)
    for _ in range(200):
        diffusion(torch.rand(1, 1, 8, 8).double(), times=torch.tensor([5]))
    assert 60 < len(diffusion.model.times) - 200 < 140


def test_c10_the_self_conditioning_estimate_carries_no_gradient():
    diffusion = random_diffusion(unet={"self_condition": True})
    seen = []
    forward = diffusion.model.forward

    def spy(x, t, x_self_cond=None, **kwargs):
        seen.append(x_self_cond)
        return forward(x, t, x_self_cond, **kwargs)

    diffusion.model.forward = spy
    torch.manual_seed(0)
    for _ in range(8):
        diffusion(torch.rand(2, 1, 8, 8))
    given_ones = [s for s in seen if s is not None]
    assert given_ones
    assert not any(s.requires_grad for s in given_ones)


def test_c11_clipping_of_x0_is_an_option_that_follows_normalisation():
    x, t = 30 * wave(2, 1, 8, 8), torch.tensor([40, 49])
    with torch.no_grad():
        for arguments, clipped in (
            ({}, True),
            ({"auto_normalize": False}, False),
            ({"auto_normalize": False, "clip_x_start": True}, True),
            ({"clip_x_start": False}, False),
        ):
            diffusion = tiny_diffusion(objective="pred_noise", **arguments)
            x0 = diffusion.p_mean_variance(x, t)[3]
            assert (x0.abs().max() <= 1) == clipped


def test_c11_clipping_does_not_write_into_the_networks_own_output():
    """The reference clamps in place, which under pred_x0 is the network's tensor."""
    diffusion = oracle_diffusion(3 * torch.ones(1, 1, 4, 4), objective="pred_x0")
    kept = 3 * torch.ones(2, 1, 4, 4).double()
    diffusion.model.forward = lambda x, t, x_self_cond=None: kept
    x0 = diffusion.p_mean_variance(torch.zeros(2, 1, 4, 4).double(), torch.tensor([3, 4]))[3]
    assert x0.max() == 1
    assert (kept == 3).all()


def test_c13_a_diffusion_can_be_pickled_and_answers_the_same():
    diffusion = tiny_diffusion()
    twin = pickle.loads(pickle.dumps(diffusion))
    close(twin.p_losses(X0, TIMES, NOISE), diffusion.p_losses(X0, TIMES, NOISE), atol=0)
    pictures = [d.sample(1, seed=0, progress=False) for d in (twin, diffusion)]
    assert torch.equal(*pictures)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_c15_a_cast_diffusion_still_trains_and_samples(dtype):
    """The reference's network fails, and its cast schedule would have lost its tail."""
    diffusion = tiny_diffusion().to(dtype)
    loss = diffusion.p_losses(X0.to(dtype), TIMES, NOISE.to(dtype))
    assert loss.item() == pytest.approx(0.2411, abs=0.02)
    loss.backward()
    assert diffusion.sample(2, seed=0, progress=False).isfinite().all()
    assert diffusion.sample(2, sampler="ddim", steps=5, seed=0, progress=False).isfinite().all()


def test_c15_no_cast_rounds_the_schedule():
    diffusion = tiny_diffusion(timesteps=1000)
    want = diffusion.alphas_cumprod.clone()
    assert torch.equal(diffusion.half().float().alphas_cumprod, want)
    assert torch.equal(diffusion.bfloat16().alphas_cumprod.float(), want)


def test_bfloat16_autocast_gives_a_loss_near_the_float32_one():
    diffusion = tiny_diffusion()
    want = diffusion.p_losses(X0, TIMES, NOISE).item()
    with torch.autocast("cpu", torch.bfloat16):
        got = diffusion.p_losses(X0, TIMES, NOISE)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(want, abs=0.01)


# -- training ---------------------------------------------------------------------------------


def test_a_few_steps_of_adam_lower_the_loss():
    """Judged on fixed noise and times, so that luck has no say."""
    torch.manual_seed(0)
    diffusion = random_diffusion(unet={"dim": 4})
    images, times = (wave(20, 1, 8, 8) + 1) / 2, torch.arange(20)
    noise = torch.randn_like(images)
    optimiser = torch.optim.Adam(diffusion.parameters(), 5e-3)
    before = diffusion(images, noise, times=times).item()
    for _ in range(32):
        optimiser.zero_grad()
        diffusion(images).backward()
        optimiser.step()
    assert diffusion(images, noise, times=times).item() < 0.7 * before


def test_labels_reach_the_network_in_training():
    diffusion = random_diffusion(unet={"num_classes": 3, "cond_drop_prob": 0.0})
    images, t = (X0 + 1) / 2, TIMES.clamp(max=19)

    def loss(classes):
        return diffusion(images, NOISE, times=t, classes=classes).item()

    assert loss(torch.tensor([0, 1, 2, 0])) != loss(torch.tensor([2, 1, 0, 0]))
    assert loss(torch.tensor([0, 1, 2, 0])) != loss(None)


def test_non_square_images_train_and_sample():
    diffusion = random_diffusion(image_size=(8, 12))
    assert diffusion(torch.rand(2, 1, 8, 12)).isfinite()
    assert diffusion.sample(2, steps=3, sampler="ddim", progress=False).shape == (2, 1, 8, 12)
    assert tuple(random_diffusion(image_size=[8, 12]).image_size) == (8, 12)


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ({"image_size": 9}, ["9", "2", "8", "10"]),
        ({"image_size": (8, 9)}, ["9", "2", "8", "10"]),
        ({"image_size": 0}, ["0", "1"]),
        ({"image_size": -8}, ["-8"]),
        ({"image_size": (8, 8, 8)}, ["(8, 8, 8)"]),
        ({"image_size": "8"}, ["8", "image_size"]),
        ({"image_size": 8.0}, ["8.0", "image_size"]),
        ({"image_size": None}, ["None", "image_size"]),
        ({"timesteps": 0}, ["0", "timesteps"]),
        ({"timesteps": 10.5}, ["10.5", "timesteps"]),
        ({"timesteps": 10**9}, ["1000000000", "timesteps"]),
        ({"timesteps": 10, "beta_schedule": "linear"}, ["10", "20"]),
        ({"sampling_timesteps": 0}, ["0", "1", "50"]),
        ({"sampling_timesteps": 51}, ["51", "50"]),
        ({"sampling_timesteps": 2.5}, ["2.5"]),
        ({"ddim_sampling_eta": 1.5}, ["1.5", "1"]),
        ({"ddim_sampling_eta": -0.1}, ["-0.1", "0"]),
        ({"ddim_sampling_eta": float("nan")}, ["nan"]),
        ({"objective": "pred_x1"}, ["pred_x1", *OBJECTIVES]),
        ({"beta_schedule": "Linear"}, ["Linear", *NAMES]),
        ({"beta_schedule": 3}, ["3", *NAMES]),
        ({"schedule_fn_kwargs": {"nope": 1}}, ["nope", "sigmoid"]),
        ({"schedule_fn_kwargs": {"tau": "x"}}, ["tau", "x"]),
        ({"schedule_fn_kwargs": 5}, ["schedule_fn_kwargs", "5"]),
        ({"offset_noise_strength": -1}, ["-1", "0"]),
        ({"min_snr_gamma": float("nan")}, ["nan"]),
        ({"min_snr_gamma": -5}, ["-5"]),
        ({"auto_normalize": "yes"}, ["yes", "auto_normalize"]),
        ({"immiscible": None}, ["None", "immiscible"]),
        ({"clip_x_start": 2}, ["2", "clip_x_start"]),
        ({"variance_type": "small"}, ["small", "fixed_small", "fixed_large"]),
        ({"variance_type": "learned_range"}, ["learned_range", "learned_variance=True"]),
        ({"vlb_weight": -1}, ["-1", "vlb_weight"]),
        ({"zero_terminal_snr": 1}, ["1", "zero_terminal_snr"]),
        ({"zero_terminal_snr": True, "objective": "pred_noise"}, ["pred_noise", "pred_v"]),
        ({"zero_terminal_snr": True, "timesteps": 1}, ["timesteps", "2"]),
    ],
)
def test_a_constructor_argument_that_cannot_be_is_refused_in_a_sentence(arguments, fragments):
    with pytest.raises(ConfigError) as caught:
        tiny_diffusion(**arguments)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("unet", "fragments"),
    [
        ({"out_dim": 3}, ["3", "1", "learned_variance"]),
        ({"random_fourier_features": True}, ["random_fourier_features"]),
        ({"learned_sinusoidal_cond": True}, ["learned_sinusoidal_cond"]),
    ],
)
def test_a_network_that_cannot_be_diffused_is_refused_in_a_sentence(unet, fragments):
    with pytest.raises(ConfigError) as caught:
        tiny_diffusion(unet)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_something_that_is_no_network_is_refused_in_a_sentence():
    for thing in (torch.nn.Conv2d(1, 1, 3), None, "unet"):
        with pytest.raises(ConfigError, match=r"channels.*out_dim.*self_condition"):
            GaussianDiffusion(thing, image_size=8)


def test_loss_type_of_old_programs_is_answered_by_python_itself():
    with pytest.raises(TypeError, match="loss_type"):
        tiny_diffusion(loss_type="l1")


@pytest.mark.parametrize(
    ("images", "fragments"),
    [
        (torch.rand(2, 3, 8, 8), ["3", "1"]),
        (torch.rand(2, 1, 8, 10), ["10", "8"]),
        (torch.rand(1, 8, 8), ["(1, 8, 8)"]),
        (torch.randint(0, 255, (2, 1, 8, 8)).to(torch.uint8), ["uint8", "255", "[0, 1]"]),
        (torch.randint(0, 2, (2, 1, 8, 8)), ["int64", "[0, 1]"]),
        (torch.rand(2, 1, 8, 8) * 255, ["[0, 1]"]),
        (torch.rand(2, 1, 8, 8) * 2 - 1, ["[0, 1]"]),
        (torch.full((2, 1, 8, 8), float("nan")), ["NaN"]),
        (torch.full((2, 1, 8, 8), float("inf")), ["inf"]),
        (torch.rand(0, 1, 8, 8), ["0"]),
    ],
)
def test_images_that_cannot_be_trained_on_are_refused_in_a_sentence(images, fragments):
    with pytest.raises(DataError) as caught:
        tiny_diffusion()(images)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_a_single_nan_among_good_pixels_is_found():
    images = torch.rand(4, 1, 8, 8)
    images[2, 0, 3, 3] = float("nan")
    with pytest.raises(DataError, match="NaN"):
        tiny_diffusion()(images)


def test_images_of_any_range_are_taken_where_normalisation_is_off():
    assert tiny_diffusion(auto_normalize=False)(5 * torch.randn(2, 1, 8, 8)).isfinite()


@pytest.mark.parametrize(
    ("call", "fragments"),
    [
        (lambda d, x: d(x, loss_reduction="sum"), ["sum", "mean", "none"]),
        (lambda d, x: d(x, times=torch.tensor([0, 0, 0, 50])), ["50", "49"]),
        (lambda d, x: d(x, times=torch.tensor([0, 0, 0, -1])), ["-1", "0"]),
        (lambda d, x: d(x, classes=torch.tensor([0, 0, 0, 0])), ["classes", "num_classes"]),
        (lambda d, x: d.forward_noise(x, torch.tensor([50] * 4)), ["50", "49"]),
    ],
)
def test_a_call_that_cannot_be_is_refused_in_a_sentence(call, fragments):
    with pytest.raises(DDPMHubError) as caught:
        call(tiny_diffusion(), torch.rand(4, 1, 8, 8))
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "fragments"),
    [
        ([0, 1, 2, 3], ["3", "2"]),
        ([-1, 0, 0, 0], ["-1"]),
        ([0, 1], ["4"]),
        ([0.5, 0, 0, 0], ["0.5"]),
        ("dress", ["dress"]),
    ],
)
def test_labels_that_cannot_be_are_refused_in_a_sentence(classes, fragments):
    diffusion = tiny_diffusion({"num_classes": 3})
    with pytest.raises(ConfigError) as caught:
        diffusion(torch.rand(4, 1, 8, 8), classes=classes)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_any_network_with_the_three_attributes_is_accepted():
    class Plain(torch.nn.Module):
        channels, out_dim, self_condition = 1, 1, False

        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x, t, x_self_cond=None):
            return self.conv(x)

    diffusion = GaussianDiffusion(fill(Plain()), image_size=7, timesteps=5)
    diffusion(torch.rand(2, 1, 7, 7)).backward()
    assert diffusion.sample(2, progress=False).shape == (2, 1, 7, 7)


def test_a_compiled_network_gives_the_same_loss():
    torch._dynamo.reset()
    plain = tiny_diffusion()
    compiled = tiny_diffusion()
    compiled.model = torch.compile(tiny_unet(), backend="eager")
    close(compiled.p_losses(X0, TIMES, NOISE), plain.p_losses(X0, TIMES, NOISE), atol=1e-5)


def test_the_network_keeps_its_reference_key_prefix_inside_the_diffusion():
    keys = [f"model.{key}" for key in Unet(8, dim_mults=(1, 2), channels=1).state_dict()]
    assert list(tiny_diffusion().state_dict()) == keys


@pytest.mark.parametrize("images", [torch.zeros(1, 1, 8, 8, dtype=torch.uint8), [[0.5]], None])
def test_images_that_are_no_float_tensor_are_refused(images):
    with pytest.raises(DataError, match=r"floats in \[0, 1\]"):
        tiny_diffusion()(images)


def test_images_of_bytes_are_refused_for_display_too():
    with pytest.raises(DataError, match=r"images\.float\(\) / 255"):
        tiny_diffusion().forward_noise(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 3)


def test_a_negative_offset_strength_is_refused():
    with pytest.raises(ConfigError, match=r"-0\.1"):
        tiny_diffusion()(torch.rand(2, 1, 8, 8), offset_noise_strength=-0.1)
