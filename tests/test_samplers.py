"""Samplers and streams: golden pictures, oracles, pause and resume, guidance, and bad input.

With an oracle network a sampler's correctness is an equality (see support.py).
Over 300 lines, since a test file mirrors its module and most of these are tables of cases.
"""

import gc
import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from support import (
    DDIM_TIMES,
    DIFFUSION,
    OBJECTIVES,
    TRAINER,
    Oracle,
    assert_like_golden,
    images_like,
    noise_like,
    oracle_diffusion,
    random_diffusion,
    tiny_diffusion,
)

from ddpm_hub import SAMPLERS, GaussianDiffusion, Step, Unet
from ddpm_hub.errors import ConfigError, DDPMHubError
from ddpm_hub.samplers import Update

ONE = images_like(1, 1, 8, 8, seed=2)
FIVE = images_like(5, 1, 8, 8, seed=3)
NOISE = noise_like(4, 1, 8, 8, seed=1)
QUIET = {"progress": False}


def golden_diffusion(key, **kwargs):
    objective, schedule, _ = key.split("/")
    return tiny_diffusion(objective=objective, beta_schedule=schedule, **kwargs)


def last_x(stream):
    *_, step = stream
    return step.x


def close(got, want, atol):
    torch.testing.assert_close(got, want, atol=atol, rtol=0)


# -- golden pictures --------------------------------------------------------------------------


@pytest.mark.parametrize("key", DIFFUSION)
def test_a_seeded_ancestral_sample_equals_the_golden_file(key):
    diffusion = golden_diffusion(key)
    torch.manual_seed(0)
    got = diffusion.sample(2, **QUIET)
    assert_like_golden(got, DIFFUSION[key]["seed0 sample(2) ancestral"], atol=1e-4)


@pytest.mark.parametrize(("steps", "eta"), [(10, 0.0), (10, 1.0), (7, 0.5)])
@pytest.mark.parametrize("key", DIFFUSION)
def test_a_seeded_ddim_sample_equals_the_golden_file(key, steps, eta):
    want = DIFFUSION[key][f"seed0 sample(2) ddim S={steps} eta={eta}"]
    diffusion = golden_diffusion(key, sampling_timesteps=steps, ddim_sampling_eta=eta)
    torch.manual_seed(0)
    assert_like_golden(diffusion.sample(2, **QUIET), want, atol=1e-4)
    diffusion = golden_diffusion(key)
    torch.manual_seed(0)  # the same, asked for per call
    got = diffusion.sample(2, sampler="ddim", steps=steps, eta=eta, **QUIET)
    assert_like_golden(got, want, atol=1e-4)


def test_a_seeded_sample_of_the_reference_trainers_weights_equals_its_own():
    saved = torch.load(TRAINER / "model-1.pt", weights_only=True)["ema"]
    prefix = "ema_model.model."
    net = Unet(8, dim_mults=(1, 2, 4), channels=1)
    net.load_state_dict({k.removeprefix(prefix): v for k, v in saved.items() if prefix in k})
    diffusion = GaussianDiffusion(net, image_size=16, sampling_timesteps=10)
    want = np.load(TRAINER / "reference.npz")
    torch.testing.assert_close(
        diffusion.alphas_cumprod, torch.from_numpy(want["alphas_cumprod"]), atol=0, rtol=1e-6
    )
    torch.manual_seed(3)
    close(diffusion.sample(2, **QUIET), torch.from_numpy(want["sample_ema_seed3"]), 1e-4)


@pytest.mark.parametrize("key", DDIM_TIMES)
def test_ddim_time_lists_equal_the_golden_file_exactly(key):
    T, steps = (int(part[1:]) for part in key.split("/"))
    oracle = Oracle(ONE)
    diffusion = oracle.bind(GaussianDiffusion(oracle, image_size=8, timesteps=T))
    stream = diffusion.sample_stream(1, sampler="ddim", steps=steps, seed=0)
    assert [*(step.t for step in stream), -1] == DDIM_TIMES[key]


# -- oracles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    "arguments",
    [
        {"sampler": "ddpm"},
        {"sampler": "ddim", "steps": 50},
        {"sampler": "ddim", "steps": 7},
        {"sampler": "ddim", "steps": 7, "eta": 1.0},
        {"sampler": "ddim", "steps": 1},
        {"sampler": "ddpm", "steps": 7},
        {"sampler": "ddpm", "steps": 1},
    ],
)
def test_a_perfect_network_of_one_image_always_draws_it(objective, arguments):
    diffusion = oracle_diffusion(ONE, objective=objective)
    got = last_x(diffusion.sample_stream(noise=NOISE, seed=0, **arguments))
    close(got, ONE.expand_as(NOISE), 1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
def test_a_perfect_network_of_five_images_draws_one_of_them_each_time(sampler, schedule):
    diffusion = oracle_diffusion(FIVE, beta_schedule=schedule, timesteps=200)
    stream = diffusion.sample_stream(40, sampler=sampler, steps=200, eta=1.0, seed=0)
    got = last_x(stream).flatten(1)
    distance = torch.cdist(got, FIVE.flatten(1)).min(1)
    assert distance.values.max() < 1e-3
    assert distance.indices.unique().numel() == 5


@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
def test_ddpm_is_ddim_with_eta_one_over_all_steps(schedule):
    diffusion = oracle_diffusion(FIVE, beta_schedule=schedule)
    runs = [
        diffusion.sample_stream(noise=NOISE, sampler=sampler, steps=50, eta=1.0, seed=5)
        for sampler in ("ddpm", "ddim")
    ]
    for one, two in zip(*runs, strict=True):
        close(one.x, two.x, 1e-9)


def test_ddim_without_eta_ignores_the_random_numbers_after_the_first():
    diffusion = oracle_diffusion(FIVE)
    runs = [
        last_x(diffusion.sample_stream(noise=NOISE, sampler="ddim", steps=9, eta=0.0, seed=seed))
        for seed in (1, 2)
    ]
    assert torch.equal(*runs)


@pytest.mark.parametrize("t", [1, 20, 49])
def test_one_ancestral_step_has_the_mean_and_variance_of_the_posterior(t):
    diffusion = oracle_diffusion(ONE)
    x = NOISE[:1].expand(3000, -1, -1, -1)
    torch.manual_seed(0)
    got, x0 = diffusion.p_sample(x, t)
    mean, variance, _ = diffusion.q_posterior(x0[:1], x[:1], torch.tensor([t]))
    assert ((got - mean).mean(0).abs() < 5 * (variance / 3000).sqrt()).all()
    assert (got - mean).var().item() == pytest.approx(variance.item(), rel=0.03)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_network_is_asked_at_the_level_of_the_state_it_is_given(sampler):
    """First at T-1 for pure noise, then at each t for what was moved to t: never off by one."""
    diffusion = oracle_diffusion(ONE)
    stream = diffusion.sample_stream(noise=NOISE, sampler=sampler, steps=50, eta=1.0, seed=0)
    steps = list(stream)
    path = list(stream.state().ts[:-1])  # of heun with every level twice, of others all levels
    assert sampler == "heun" or path == list(range(49, -1, -1))
    assert diffusion.model.times == [step.t for step in steps] == path
    for t, state in zip(diffusion.model.times[5:], diffusion.model.states[5:], strict=True):
        a = diffusion.alphas_cumprod[t]
        residual = (state - a.sqrt() * ONE) / (1 - a).sqrt()
        assert 0.7 < residual.std() < 1.3


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_trained_network_draws_pictures_and_not_saturated_spots_in_ten_calls(sampler):
    """EDM's sigma is 20,000 at the end of its cosine schedule: heun must not magnify by that.

    Without its limit 97 % of all pixels end at 0 or 1.
    """
    diffusion = GaussianDiffusion.from_pretrained("bundled")
    drawn = diffusion.sample(8, sampler=sampler, steps=10, seed=0, **QUIET)
    extreme = ((drawn < 0.001) | (drawn > 0.999)).float().mean()
    assert extreme < 0.5
    assert 0.15 < (drawn > 0.5).float().mean() < 0.45


# -- one function and one row -------------------------------------------------------------------


def test_a_new_sampler_is_one_function_and_one_row(monkeypatch):
    """A toy that believes each x0 at once: streams, pauses and sentences know it without a word."""

    def toy(process, predict, x, ts, rng, eta=None, last=None):
        for t in ts[:-1]:
            x0, eps, _ = predict(x, t, None)
            x = x0
            yield Update(t, x, x0, eps)

    monkeypatch.setitem(SAMPLERS, "toy", toy)
    diffusion = oracle_diffusion(ONE)
    stream = diffusion.sample_stream(noise=NOISE, sampler="toy", steps=4, spacing="logsnr", seed=0)
    next(stream)
    rest = list(diffusion.resume_stream(stream.state()))
    assert [step.index for step in rest] == [1, 2, 3]
    close(rest[-1].x, ONE.expand_as(NOISE), 1e-6)
    with pytest.raises(ConfigError, match="toy"):
        diffusion.sample_stream(1, sampler="nonsense")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_sampler_is_longer_than_thirty_lines(sampler):
    assert len(inspect.getsource(SAMPLERS[sampler]).splitlines()) <= 30


# -- options of a run -----------------------------------------------------------------------------


def test_ddpm_draws_the_variance_it_is_asked_for():
    """One step from the same state: beta tilde, beta, or between them by the learned share."""
    spread = {}
    for kind in ("fixed_small", "fixed_large"):
        diffusion = oracle_diffusion(images_like(1, 1, 64, 64))
        x = noise_like(1, 1, 64, 64)
        step = next(diffusion.sample_stream(noise=x, t_start=20, sampler="ddpm", seed=0,
                                            variance_type=kind))  # fmt: skip
        mean = diffusion.q_posterior(step.x0, x, torch.tensor([20]))[0]
        spread[kind] = (step.x - mean).var().item()
    assert spread["fixed_small"] == pytest.approx(diffusion.posterior_variance[20].item(), rel=0.1)
    assert spread["fixed_large"] == pytest.approx(diffusion.betas[20].item(), rel=0.1)
    assert spread["fixed_small"] < 0.97 * spread["fixed_large"]


def test_clipping_and_thresholding_are_choices_of_a_run():
    """An oracle of an image beyond [-1, 1]: left, cut off, or scaled down with its contrasts."""
    image = 3 * images_like(1, 1, 8, 8)
    diffusion = oracle_diffusion(image)
    run = {"noise": NOISE, "sampler": "ddim", "steps": 5, "seed": 0}
    close(last_x(diffusion.sample_stream(**run, clip_x_start=False)), image.expand_as(NOISE), 1e-6)
    cut = last_x(diffusion.sample_stream(**run))
    assert cut.abs().max() == 1
    scaled = last_x(diffusion.sample_stream(**run, dynamic_threshold=1.0))
    close(scaled, (image / image.abs().max()).expand_as(NOISE), 1e-6)
    assert (cut.abs() == 1).sum() > 10 * (scaled.abs() == 1).sum()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", ["trailing", "logsnr"])
def test_every_sampler_bears_a_chain_that_ends_in_noise_alone(sampler, spacing):
    """alpha_bar is 0 at T - 1: lambda is infinite there, and no step may divide by it."""
    for objective in ("pred_x0", "pred_v"):
        diffusion = oracle_diffusion(
            FIVE, objective=objective, zero_terminal_snr=True, beta_schedule="linear"
        )
        assert diffusion.alpha_bar(49) == 0
        got = last_x(
            diffusion.sample_stream(noise=NOISE, sampler=sampler, steps=40, spacing=spacing, seed=0)
        )
        nearest = (got[:, None] - FIVE).abs().amax((2, 3, 4)).min(1).values
        assert (nearest < 0.05).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_takes_its_own_share_of_noise_unless_told_otherwise(sampler):
    diffusion = random_diffusion()
    default = {"ddim": 0.0, "dpmpp_2m_sde": 1.0}.get(sampler)
    assert diffusion.sample_stream(1, sampler=sampler, seed=0).state().eta == default
    told = None if default is None else 0.5  # who has no such choice does not report one
    assert diffusion.sample_stream(1, sampler=sampler, seed=0, eta=0.5).state().eta == told


def test_dpmpp_2m_sde_without_noise_is_dpmpp_2m():
    diffusion = random_diffusion()
    run = {"steps": 7, "seed": 0}
    want = last_x(diffusion.sample_stream(2, sampler="dpmpp_2m", **run))
    assert torch.equal(
        last_x(diffusion.sample_stream(2, sampler="dpmpp_2m_sde", eta=0, **run)), want
    )


# -- the stream -------------------------------------------------------------------------------


def test_a_step_counts_its_place_and_carries_what_the_contract_says():
    diffusion = oracle_diffusion(ONE)
    stream = diffusion.sample_stream(noise=NOISE, sampler="ddim", steps=5, seed=0)
    assert len(stream) == 5
    steps = list(stream)
    assert Step._fields == ("index", "total", "t", "x", "x0", "eps")
    assert [(s.index, s.total) for s in steps] == [(i, 5) for i in range(5)]
    assert steps[0].t == 49
    x = NOISE
    for step in steps:
        assert isinstance(step, Step)
        t = torch.full((4,), step.t)
        close(step.x0, ONE.expand_as(x), 1e-6)
        close(step.eps, diffusion.predict_noise_from_start(x, t, step.x0), 1e-6)
        x = step.x


@pytest.mark.parametrize("arguments", [{}, {"sampler": "ddim", "steps": 6, "eta": 0.5}])
def test_sample_is_the_last_state_of_the_stream_unnormalised(arguments):
    diffusion = random_diffusion()
    got = diffusion.sample(2, seed=4, **arguments, **QUIET)
    close(got, diffusion.unnormalize(last_x(diffusion.sample_stream(2, seed=4, **arguments))), 0)
    assert got.min() >= 0
    assert got.max() <= 1


def test_nothing_is_computed_before_the_first_step_is_asked_for():
    diffusion = oracle_diffusion(ONE)
    stream = diffusion.sample_stream(noise=NOISE, sampler="ddim", steps=5, seed=0)
    assert diffusion.model.times == []
    next(stream)
    assert len(diffusion.model.times) == 1


def test_steps_already_yielded_are_not_changed_by_later_ones():
    diffusion = random_diffusion()
    stream = diffusion.sample_stream(2, seed=0)
    first = next(stream)
    kept = [t.clone() for t in first[3:]]
    list(stream)
    assert all(torch.equal(a, b) for a, b in zip(kept, first[3:], strict=True))


def test_the_callers_noise_is_not_changed():
    diffusion, noise = random_diffusion(), torch.randn(2, 1, 8, 8)
    before = noise.clone()
    diffusion.sample(noise=noise, sampler="ddim", steps=3, seed=0, **QUIET)
    assert torch.equal(noise, before)


def test_a_closed_stream_is_over_and_the_model_is_itself():
    diffusion = random_diffusion().train()
    stream = diffusion.sample_stream(2, seed=0)
    next(stream)
    stream.close()
    assert list(stream) == []
    assert all(m.training for m in diffusion.modules())


STARTS = {
    "seed": lambda: {"seed": 9},
    "generator": lambda: {"generator": torch.Generator().manual_seed(9)},
    "global": lambda: torch.manual_seed(9) and {},
}
RUNS = [
    *({"sampler": name, "steps": 6} for name in SAMPLERS),
    {"sampler": "ddim", "steps": 4, "eta": 0.7},
    {"sampler": "ddpm", "steps": 4},
]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("arguments", RUNS, ids=str)
@pytest.mark.parametrize("self_condition", [False, True])
@pytest.mark.parametrize("pause", [0, 1, 3])
def test_pause_and_resume_equals_an_uninterrupted_run_bit_for_bit(
    start, arguments, self_condition, pause
):
    unet = {"dim": 4, "self_condition": self_condition}
    diffusion = random_diffusion(unet=unet, timesteps=6)
    whole = [s.x for s in diffusion.sample_stream(2, **arguments, **STARTS[start]())]
    stream = diffusion.sample_stream(2, **arguments, **STARTS[start]())
    parts = [next(stream).x for _ in range(pause)]
    state = pickle.loads(pickle.dumps(stream.state()))  # a state can go to disk
    stream.close()
    torch.rand(7)  # what happens in between has no say
    resumed = diffusion.resume_stream(state)
    assert len(resumed) == len(whole)
    steps = list(resumed)
    assert [s.index for s in steps] == list(range(pause, arguments["steps"]))
    assert all(torch.equal(a, b) for a, b in zip(parts + [s.x for s in steps], whole, strict=True))


def test_one_state_can_be_resumed_twice_and_gives_the_same_twice():
    diffusion = random_diffusion()
    stream = diffusion.sample_stream(2, seed=9)
    next(stream)
    state = stream.state()
    assert torch.equal(*(last_x(diffusion.resume_stream(state)) for _ in range(2)))


def test_classes_and_guidance_survive_a_pause():
    diffusion = random_diffusion(unet={"num_classes": 3})
    arguments = {"classes": [0, 2], "guidance": 3.0, "seed": 1}
    whole = last_x(diffusion.sample_stream(2, **arguments))
    stream = diffusion.sample_stream(2, **arguments)
    next(stream)
    assert torch.equal(last_x(diffusion.resume_stream(stream.state())), whole)


def test_two_streams_side_by_side_do_not_disturb_each_other():
    diffusion = random_diffusion()
    want = [last_x(diffusion.sample_stream(1, seed=s)) for s in (1, 2)]
    streams = [diffusion.sample_stream(1, seed=s) for s in (1, 2)]
    for pair in zip(*streams, strict=True):
        got = [step.x for step in pair]
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


# -- randomness -------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_alone_decides_the_picture_and_leaves_the_global_generator_alone(sampler):
    diffusion = random_diffusion()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = diffusion.sample(2, sampler=sampler, seed=7, **QUIET)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(diffusion.sample(2, sampler=sampler, seed=7, **QUIET), one)
    assert not torch.equal(diffusion.sample(2, sampler=sampler, seed=8, **QUIET), one)


def test_a_generator_continues_from_call_to_call():
    diffusion, generator = random_diffusion(), torch.Generator().manual_seed(7)
    one = diffusion.sample(1, generator=generator, **QUIET)
    two = diffusion.sample(1, generator=generator, **QUIET)
    assert torch.equal(one, diffusion.sample(1, seed=7, **QUIET))
    assert not torch.equal(one, two)


@pytest.mark.parametrize(("steps", "draws"), [(20, 20), (6, 6), (1, 1)])
def test_random_numbers_are_drawn_once_per_step_but_the_last_even_at_eta_zero(steps, draws):
    """One randn for x_T and one for each step with somewhere left to go: the reference's order."""
    diffusion = random_diffusion(sampling_timesteps=steps)
    torch.manual_seed(3)
    diffusion.sample(2, **QUIET)
    after = torch.rand(1)
    torch.manual_seed(3)
    for _ in range(draws):
        torch.randn(2, 1, 8, 8)
    assert torch.equal(torch.rand(1), after)


# -- where the reference is wrong (numerics.md, section C) ------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"sampler": "ddim", "steps": 4}])
def test_c8_sampling_runs_in_eval_mode_and_gives_every_module_its_mode_back(arguments):
    diffusion = oracle_diffusion(ONE)
    diffusion.train()
    diffusion.model.extra = torch.nn.Dropout().eval()  # someone froze a part: it stays frozen
    diffusion.sample(2, seed=0, **arguments, **QUIET)
    assert not any(diffusion.model.trained)
    assert diffusion.training
    assert diffusion.model.training
    assert not diffusion.model.extra.training


def test_c8_dropout_does_not_touch_samples():
    diffusion = random_diffusion(unet={"dropout": 0.5}).train()
    one = diffusion.sample(2, seed=0, **QUIET)
    assert torch.equal(diffusion.sample(2, seed=0, **QUIET), one)
    assert torch.equal(diffusion.eval().sample(2, seed=0, **QUIET), one)


def test_c8_training_goes_on_between_two_steps_of_a_stream():
    diffusion = random_diffusion().train()
    stream = diffusion.sample_stream(1, seed=0)
    next(stream)
    assert diffusion.model.training
    diffusion(torch.rand(1, 1, 8, 8)).backward()
    next(stream)
    assert torch.is_grad_enabled()


def test_c8_the_mode_comes_back_when_the_network_fails():
    diffusion = random_diffusion().train()
    diffusion.model.forward = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        next(diffusion.sample_stream(1, seed=0))
    assert all(m.training for m in diffusion.modules())


def test_c9_interpolation_takes_and_gives_unit_images_and_is_exact_at_both_ends():
    diffusion = random_diffusion()
    one, two = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    close(diffusion.interpolate(one, two, lam=0.0, seed=0, **QUIET), one, 1e-6)
    close(diffusion.interpolate(one, two, lam=1.0, seed=0, **QUIET), two, 1e-6)
    between = diffusion.interpolate(one, two, t=5, lam=0.4, seed=0, **QUIET)
    assert between.shape == one.shape
    assert between.min() >= 0
    assert between.max() <= 1


@pytest.mark.parametrize("t", [0, 1, 30, 49, None])
def test_c9_interpolation_shows_the_network_the_level_the_state_was_noised_to(t):
    """The reference starts one level below, and cannot start at the top."""
    diffusion = oracle_diffusion(ONE)
    images = (ONE + 1) / 2
    diffusion.interpolate(images, images, t=t, lam=0.5, seed=0, **QUIET)
    top = 49 if t is None else t
    assert diffusion.model.times == list(range(top, -1, -1))
    a = diffusion.alphas_cumprod[top]
    eps = (diffusion.model.states[0] - a.sqrt() * ONE) / (1 - a).sqrt()
    assert 0.7 < eps.std() < 1.3  # the mix of two noises must not be quieter than one


def test_c9_interpolating_at_level_zero_is_nearly_the_blend_of_pixels():
    diffusion = oracle_diffusion(FIVE, timesteps=1000)
    diffusion.model.forward = lambda x, t, x_self_cond=None: torch.zeros_like(x)
    one, two = ((x[None] + 1) / 2 for x in FIVE[:2])
    plain = diffusion.interpolate(one, two, t=0, lam=0.25, seed=0, **QUIET)
    close(plain, 0.75 * one + 0.25 * two, 0.05)


def test_c9_what_cannot_be_interpolated_is_refused_in_a_sentence():
    diffusion, x = random_diffusion(), torch.rand(1, 1, 8, 8)
    for arguments, fragments in (
        ({"t": 20}, ["20", "19"]),
        ({"t": -1}, ["-1", "0"]),
        ({"lam": 1.5}, ["1.5", "1"]),
        ({"x2": torch.rand(1, 1, 8, 16)}, ["(1, 1, 8, 8)", "(1, 1, 8, 16)"]),
    ):
        with pytest.raises(DDPMHubError) as caught:
            diffusion.interpolate(**{"x1": x, "x2": x} | arguments)
        assert all(fragment in str(caught.value) for fragment in fragments)


def test_c16_samples_are_ordinary_tensors_that_can_be_trained_on():
    diffusion = random_diffusion()
    got = diffusion.sample(2, seed=0, **QUIET)
    assert not got.is_inference()
    got.requires_grad_()
    diffusion.p_losses(got, torch.tensor([1, 2])).backward()
    assert got.grad is not None
    for step in diffusion.sample_stream(1, seed=0):
        assert not any(t.is_inference() or t.requires_grad for t in step[3:])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_c11_without_clipping_the_predicted_image_may_leave_the_range(objective):
    data = 3 * ONE
    free = oracle_diffusion(data, objective=objective, auto_normalize=False)
    close(last_x(free.sample_stream(noise=NOISE, seed=0)), data.expand_as(NOISE), 1e-6)
    held = oracle_diffusion(data, objective=objective, auto_normalize=False, clip_x_start=True)
    assert last_x(held.sample_stream(noise=NOISE, seed=0)).abs().max() <= 1


# -- classes and guidance ---------------------------------------------------------------------


@pytest.fixture
def classy():
    torch.manual_seed(0)
    return random_diffusion(unet={"num_classes": 3})


def test_guidance_one_is_the_plain_conditional_picture(classy):
    want = classy.sample(2, classes=[0, 2], seed=1, **QUIET)
    close(classy.sample(2, classes=[0, 2], guidance=1.0, seed=1, **QUIET), want, 1e-6)


def test_guidance_zero_is_the_unconditional_picture(classy):
    want = classy.sample(2, seed=1, **QUIET)
    close(classy.sample(2, classes=[0, 2], guidance=0.0, seed=1, **QUIET), want, 1e-6)


def test_guidance_is_the_line_through_both_answers(classy):
    x, t, labels = torch.randn(2, 1, 8, 8), torch.tensor([5, 5]), torch.tensor([0, 2])
    with torch.no_grad():
        classy.eval()
        label, free = classy.model(x, t, classes=labels), classy.model(x, t)
        got = classy.model_output(x, t, classes=labels, guidance=4.0)
    close(got, free + 4 * (label - free), 1e-5)


@pytest.mark.parametrize("guidance", [None, 0.0, 1.0, 4.0])
def test_guidance_costs_one_network_call_per_step(classy, guidance):
    calls = []
    classy.model.register_forward_hook(lambda *_: calls.append(1))
    classy.sample(2, classes=1, guidance=guidance, sampler="ddim", steps=5, seed=1, **QUIET)
    assert len(calls) == 5


def test_one_label_stands_for_the_whole_batch(classy):
    one = classy.sample(2, classes=1, seed=1, **QUIET)
    assert torch.equal(one, classy.sample(2, classes=[1, 1], seed=1, **QUIET))
    assert torch.equal(one, classy.sample(2, classes=torch.tensor([1, 1]), seed=1, **QUIET))


# -- the border -------------------------------------------------------------------------------


def test_pil_output_has_the_pixels_of_the_tensor():
    diffusion = random_diffusion()
    tensor = diffusion.sample(2, seed=0, **QUIET)
    images = diffusion.sample(2, seed=0, output_type="pil", **QUIET)
    assert [image.size for image in images] == [(8, 8)] * 2
    got = np.stack([np.asarray(image, dtype=np.float32) / 255 for image in images])
    assert np.abs(got - tensor[:, 0].numpy()).max() < 0.6 / 255


def test_the_progress_bar_says_what_users_know_and_can_be_silenced(capfd):
    diffusion = random_diffusion()
    diffusion.sample(1, seed=0, sampler="ddim", steps=3, progress=False)
    assert capfd.readouterr() == ("", "")
    diffusion.sample(1, seed=0, sampler="ddim", steps=3)
    out, err = capfd.readouterr()
    assert out == ""
    assert "sampling loop time step" in err
    assert "3/3" in err


def test_a_stream_prints_nothing(capfd):
    list(random_diffusion().sample_stream(1, seed=0))
    assert capfd.readouterr() == ("", "")


def test_sampling_keeps_no_memory_of_earlier_states():
    diffusion = random_diffusion()
    stream = diffusion.sample_stream(1, seed=0)
    import weakref

    refs = [weakref.ref(next(stream).x) for _ in range(20)]
    gc.collect()
    assert sum(ref() is not None for ref in refs) <= 1


COURSE = """
import torch
from ddpm_hub import Unet, GaussianDiffusion
model = Unet(dim=8, dim_mults=(1, 2, 4, 8), flash_attn=True)
diffusion = GaussianDiffusion(model, image_size=16, timesteps=20)
training_images = torch.rand(2, 3, 16, 16)
loss = diffusion(training_images)
loss.backward()
sampled_images = diffusion.sample(batch_size=4)
assert sampled_images.shape == (4, 3, 16, 16)
assert 0 <= sampled_images.min() and sampled_images.max() <= 1
"""


def test_the_course_program_runs_and_prints_no_warning():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COURSE], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "warning" not in done.stderr.lower()


BAD = [
    ({"clip_x_start": 1}, ["clip_x_start", "1"]),
    ({"dynamic_threshold": 0.4}, ["dynamic_threshold", "0.4", "0.5"]),
    ({"dynamic_threshold": "a"}, ["dynamic_threshold", "a"]),
    ({"variance_type": "huge"}, ["variance_type", "huge", "fixed_small"]),
    ({"variance_type": "learned_range"}, ["learned_range", "learned_variance=True"]),
    ({"spacing": "wide"}, ["wide", "trailing", "logsnr"]),
    ({"sampler": "plms"}, ["plms", *SAMPLERS]),
    ({"sampler": 3}, ["3", *SAMPLERS]),
    ({"spacing": "zigzag"}, ["zigzag", "linspace"]),
    ({"steps": 0}, ["0", "1", "20"]),
    ({"steps": 21}, ["21", "20"]),
    ({"steps": -3}, ["-3"]),
    ({"steps": 2.5}, ["2.5"]),
    ({"steps": True}, ["True"]),
    ({"eta": 1.5}, ["1.5", "1"]),
    ({"eta": -0.1}, ["-0.1", "0"]),
    ({"eta": float("nan")}, ["nan"]),
    ({"eta": "x"}, ["x"]),
    ({"batch_size": 0}, ["0", "1"]),
    ({"batch_size": -1}, ["-1"]),
    ({"batch_size": 1.5}, ["1.5"]),
    ({"seed": 1, "generator": torch.Generator()}, ["seed", "generator"]),
    ({"seed": 1.5}, ["1.5"]),
    ({"seed": "lucky"}, ["lucky"]),
    ({"seed": -1}, ["-1", "0"]),
    ({"noise": torch.zeros(2, 3, 8, 8)}, ["3", "1"]),
    ({"noise": torch.zeros(2, 1, 8, 9)}, ["9", "8"]),
    ({"noise": torch.zeros(8, 8)}, ["(8, 8)"]),
    ({"noise": torch.full((1, 1, 8, 8), float("nan"))}, ["NaN"]),
    ({"classes": 1}, ["num_classes"]),
    ({"guidance": 2.0}, ["guidance", "classes"]),
    ({"output_type": "jpeg"}, ["jpeg", "pt", "pil"]),
]


@pytest.mark.parametrize(("arguments", "fragments"), BAD, ids=lambda value: str(value)[:40])
def test_a_sample_that_cannot_be_is_refused_in_a_sentence(arguments, fragments):
    with pytest.raises(ConfigError) as caught:
        random_diffusion().sample(**arguments, **QUIET)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ({"classes": 3}, ["3", "2"]),
        ({"classes": [0, 1, 2]}, ["2"]),
        ({"classes": 1, "guidance": float("nan")}, ["guidance", "nan"]),
        ({"classes": 1, "guidance": "much"}, ["guidance", "much"]),
    ],
    ids=str,
)
def test_labels_that_cannot_be_are_refused_in_a_sentence(classy, arguments, fragments):
    with pytest.raises(ConfigError) as caught:
        classy.sample(2, **arguments, **QUIET)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("t", [-1, 20, 1.5])
def test_a_single_step_at_a_level_that_is_not_there_is_refused(t):
    with pytest.raises(ConfigError, match=f"{t}"):
        random_diffusion().p_sample(torch.zeros(1, 1, 8, 8), t)


def test_c6_zero_steps_and_eta_above_one_are_refused_where_the_reference_returns_noise_and_nan():
    for arguments in ({"sampling_timesteps": 0}, {"ddim_sampling_eta": 1.5}):
        with pytest.raises(ConfigError, match=str(next(iter(arguments.values())))):
            random_diffusion(**arguments)
