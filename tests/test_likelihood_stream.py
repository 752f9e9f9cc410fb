"""The likelihood as something to use: sums, curves, streams, shorter chains, and bad input."""

import pytest
import torch
from support import images_like, noise_like, oracle_diffusion, random_diffusion

from ddpm_hub import likelihood
from ddpm_hub.diffusion import VARIANCES
from ddpm_hub.errors import ConfigError, DataError
from ddpm_hub.likelihood import (
    bits_per_dim,
    fixed_variance_terms,
    likelihood_stream,
    rate_distortion,
)
from ddpm_hub.spacings import logsnr

BYTES = torch.arange(5 * 64, dtype=torch.int64).mul(37).remainder(256).to(torch.uint8)
IMAGES = BYTES.view(5, 1, 8, 8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def diffusion_of(kind="fixed_small", **kwargs):
    """T = 20, float64, PyTorch's initial weights."""
    unet = {"learned_variance": kind == "learned_range"}
    return random_diffusion(unet=unet, variance_type=kind, **kwargs).double()


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# -- sums -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", VARIANCES)
def test_the_terms_sum_to_the_total_and_the_totals_of_the_images_have_it_for_a_mean(kind):
    got = bits_per_dim(diffusion_of(kind), IMAGES, seeded(), batch_size=2)  # 2, 2 and 1 of them
    assert got.Lt.shape == got.mse_x0.shape == got.mse_eps.shape == got.t.shape == (20,)
    assert got.per_image.shape == (5,) and got.Lt[0] == 0 and (got.Lt[1:] > 0).all()
    torch.testing.assert_close(got.total, got.LT + got.Lt.sum() + got.L0)
    torch.testing.assert_close(got.total, got.per_image.mean())
    assert all(value.dtype == torch.float64 for value in got[:-1])


def test_an_images_total_is_that_of_the_image_alone(monkeypatch):
    noise = noise_like(1, 8, 8)  # the same for all
    monkeypatch.setattr(likelihood, "noise_like", lambda x, rng: noise.expand_as(x))
    diffusion = diffusion_of()
    together = bits_per_dim(diffusion, IMAGES, batch_size=2).per_image
    alone = [bits_per_dim(diffusion, image[None]).total for image in IMAGES]
    torch.testing.assert_close(together, torch.stack(alone))


@pytest.mark.parametrize("ts", [None, (19, 11, 5, 2, 0, -1)])
@pytest.mark.parametrize("kind", ["fixed_small", "fixed_large"])
def test_the_error_of_x0_tells_the_terms_of_either_fixed_variance(kind, ts):
    one = bits_per_dim(diffusion_of("fixed_small"), IMAGES, seeded(), ts=ts)
    got = bits_per_dim(diffusion_of(kind), IMAGES, seeded(), ts=ts)
    want = fixed_variance_terms(diffusion_of("fixed_large"), one.mse_x0, kind, ts)
    torch.testing.assert_close(got.Lt, want)
    assert got.L0 == one.L0 and got.LT == one.LT


def test_the_variance_can_be_chosen_for_one_call():
    diffusion = diffusion_of("learned_range")
    got = {
        kind: bits_per_dim(diffusion, IMAGES, seeded(), variance_type=kind)
        for kind in (None, *VARIANCES)
    }
    assert equal(got[None], got["learned_range"])
    for kind in ("fixed_small", "fixed_large"):
        want = fixed_variance_terms(diffusion, got[None].mse_x0, kind)
        torch.testing.assert_close(got[kind].Lt, want)
    assert len({result.total.item() for result in got.values()}) == 3


def test_the_error_of_eps_is_the_loss_of_the_papers_network():
    diffusion = diffusion_of(objective="pred_noise", clip_x_start=False)
    got, rng = bits_per_dim(diffusion, IMAGES, seeded()), seeded()
    x0 = IMAGES.double() / 127.5 - 1
    for t in range(19, -1, -1):
        noise = torch.randn(x0.shape, generator=rng, dtype=x0.dtype)
        with torch.no_grad():
            out = diffusion.model(
                diffusion.q_sample(x0, torch.full((5,), t), noise), torch.full((5,), t)
            )
        torch.testing.assert_close(got.mse_eps[t], (out - noise).square().mean())


def test_float32_says_the_same_as_float64():
    double = bits_per_dim(diffusion_of(), IMAGES, torch.Generator().manual_seed(0))
    single = bits_per_dim(diffusion_of().float(), IMAGES, torch.Generator().manual_seed(0))
    assert single.total.dtype == torch.float64
    torch.testing.assert_close(single.LT, double.LT)
    # other noise: torch draws other numbers in float32
    torch.testing.assert_close(single.total, double.total, rtol=0.05, atol=0)


def test_without_signal_in_the_last_state_the_prior_costs_nothing():
    diffusion = diffusion_of(zero_terminal_snr=True, objective="pred_v")
    got = bits_per_dim(diffusion, IMAGES, seeded())
    assert got.LT == 0 and got.total.isfinite()
    with_signal = bits_per_dim(diffusion_of(beta_schedule="linear"), IMAGES, seeded())
    assert with_signal.LT > 0


# -- rate and distortion ------------------------------------------------------------------------


@pytest.mark.parametrize("ts", [None, (19, 11, 5, 2, 0, -1)])
def test_the_curve_goes_from_the_prior_to_the_whole_bound_and_to_the_very_image(ts):
    diffusion = diffusion_of()
    got = bits_per_dim(diffusion, IMAGES, seeded(), ts=ts)
    curve = got.rate_distortion()
    assert curve.t.tolist() == list(ts or range(19, -2, -1))
    assert curve.rate[0] == got.LT and (curve.rate.diff() > 0).all()
    torch.testing.assert_close(curve.rate[-1], got.total)
    assert curve.distortion[-1] == 0
    for i, t in enumerate(got.t):
        later = got.Lt[i + 1 :].sum()  # what was sent to have x_t
        at = curve.t == t
        torch.testing.assert_close(curve.rate[at], (got.LT + later)[None])
        torch.testing.assert_close(curve.distortion[at], 127.5 * got.mse_x0[i].sqrt()[None])
    assert equal(rate_distortion(diffusion, IMAGES, seeded(), ts=ts), curve)


def test_the_distortion_is_the_error_in_grey_levels_of_the_predicted_image():
    guess, truth = torch.full((1, 1, 8, 8), 100 / 127.5 - 1), torch.full((1, 1, 8, 8), 97)
    diffusion = oracle_diffusion(guess.double(), timesteps=20)  # it knows of one image alone
    curve = rate_distortion(diffusion, truth.to(torch.uint8), seeded())
    torch.testing.assert_close(curve.distortion[:-1], torch.full((20,), 3.0).double())


# -- streams ----------------------------------------------------------------------------------


def test_the_stream_reports_each_network_call_and_ends_with_the_result():
    diffusion = oracle_diffusion(images_like(3, 1, 8, 8), timesteps=20)
    steps = list(likelihood_stream(diffusion, IMAGES, seeded(), batch_size=2))
    assert diffusion.model.times == [step.t for step in steps] == [*range(19, -1, -1)] * 3
    assert [step.done for step in steps] == list(range(1, 61))
    assert {step.total for step in steps} == {60}
    assert equal(steps[-1].result, bits_per_dim(diffusion, IMAGES, seeded(), batch_size=2))


def test_the_stream_shows_the_state_and_the_image_that_the_network_sees_in_it():
    diffusion = oracle_diffusion(images_like(3, 1, 8, 8), timesteps=20)
    x0, steps = IMAGES.double() / 127.5 - 1, likelihood_stream(diffusion, IMAGES, seeded())
    for step, seen in zip(steps, diffusion.model.states, strict=False):
        assert torch.equal(step.x, seen) and step.x0.abs().max() <= 1
        error = (step.x0 - x0).square().mean()
        torch.testing.assert_close(step.result.mse_x0[step.t], error)


def test_what_is_not_known_yet_is_nan_and_what_is_known_stays_as_it_was_told():
    steps = list(likelihood_stream(diffusion_of(), IMAGES, seeded(), batch_size=3))
    early, half = steps[4].result, steps[19].result
    assert early.total.isnan() and early.L0.isnan() and early.LT.isfinite()
    assert early.Lt.isfinite().tolist() == [True] + [False] * 14 + [True] * 5
    assert half.total.isfinite()
    assert half.per_image.isfinite().tolist() == [True] * 3 + [False] * 2
    torch.testing.assert_close(half.total, half.per_image[:3].mean())


def test_the_network_is_asked_in_eval_mode_without_gradients_and_is_itself_between():
    diffusion = oracle_diffusion(images_like(3, 1, 8, 8), timesteps=20).train()
    for step in likelihood_stream(diffusion, IMAGES, seeded()):
        assert diffusion.training and diffusion.model.training and torch.is_grad_enabled()
        if step.done == 5:
            break
    assert diffusion.model.trained == [False] * 5
    assert not bits_per_dim(random_diffusion(), IMAGES, seeded()).total.requires_grad


def test_a_seed_gives_the_same_bits_and_leaves_the_global_generator_alone():
    diffusion, before = diffusion_of(), torch.get_rng_state()
    one, two, other = (bits_per_dim(diffusion, IMAGES, seeded(s)) for s in (0, 0, 1))
    assert equal(one, two) and one.total != other.total
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_numbers_come_from_the_global_one():
    diffusion = diffusion_of()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert equal(bits_per_dim(diffusion, IMAGES), bits_per_dim(diffusion, IMAGES, seeded()))


def test_the_labels_of_the_images_go_with_their_batches():
    unet = {"num_classes": 3}
    diffusion = random_diffusion(unet=unet).double()
    got = bits_per_dim(diffusion, IMAGES[:2].repeat(2, 1, 1, 1), seeded(), classes=[0, 1, 2, 0])
    assert got.total != bits_per_dim(diffusion, IMAGES[:2].repeat(2, 1, 1, 1), seeded()).total
    seen = []
    diffusion.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["classes"].tolist()), with_kwargs=True
    )
    bits_per_dim(diffusion, IMAGES[:4], seeded(), classes=[0, 1, 2, 1], batch_size=3)
    assert seen == [[0, 1, 2]] * 20 + [[1]] * 20


def test_a_self_conditioned_network_is_told_of_no_x0():
    diffusion = random_diffusion(unet={"self_condition": True}).double()
    seen = []
    diffusion.model.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    assert bits_per_dim(diffusion, IMAGES, seeded()).total.isfinite()
    assert seen == [None] * 20


# -- shorter chains and input -------------------------------------------------------------------


def test_a_shorter_chain_costs_more_bits_and_least_when_spaced_by_log_snr():
    diffusion = diffusion_of(timesteps=200)
    alpha_bar = diffusion.alphas_cumprod
    full, by_snr, even = (
        fixed_variance_terms(diffusion, error, "fixed_small", ts).sum()
        for ts in (range(199, -2, -1), logsnr(alpha_bar, 20), (*range(190, -1, -10), -1))
        for a in [alpha_bar[list(ts)[-2::-1]]]
        for error in [0.25 * (1 - a) / (0.25 * a + 1 - a)]  # of the best network for N(0, 0.25)
    )
    assert full < by_snr < 0.6 * even


def test_bytes_are_the_floats_that_they_stand_for():
    diffusion = diffusion_of()
    floats = bits_per_dim(diffusion, IMAGES.double() / 255, seeded())
    assert equal(bits_per_dim(diffusion, IMAGES, seeded()), floats)


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (IMAGES[:, :, :4], "images of shape (1, 1, 4, 8) do not fit"),
        (IMAGES[:0], "images of shape (0, 1, 8, 8) do not fit"),
        (IMAGES.long(), "images are torch.int64, not floats"),
        (IMAGES.float(), "images hold 0 .. 255, outside [0, 1]"),
        ("cat.png", "images are a str"),
    ],
)
def test_images_that_do_not_fit_are_refused_before_anything_is_computed(images, error):
    with pytest.raises(DataError) as raised:
        likelihood_stream(diffusion_of(), images)
    assert error in str(raised.value)


def test_bytes_are_refused_by_a_model_that_scales_nothing():
    with pytest.raises(DataError, match=r"pass floats in \[-1, 1\]"):
        likelihood_stream(diffusion_of(auto_normalize=False), IMAGES)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"ts": (19, 5, 0)}, "ts [19, 5, 0] does not go down to -1"),
        ({"ts": (5, 19, -1)}, "pass timesteps from 19 down, and -1"),
        ({"ts": (5, 5, -1)}, "does not go down"),
        ({"ts": (-1,)}, "does not go down"),
        ({"ts": ()}, "does not go down"),
        ({"ts": (20, 0, -1)}, "ts 20 is not a whole number in -1 .. 19"),
        ({"ts": (1.5, -1)}, "ts 1.5 is not a whole number"),
        ({"batch_size": 0}, "batch_size 0 is not a whole number"),
        ({"variance_type": "small"}, "unknown variance_type 'small': choose one of fixed_small"),
        ({"variance_type": "learned_range"}, "needs a network that predicts a variance"),
        ({"classes": [0] * 5}, "this network has no classes"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_value_and_the_cure(options, error):
    with pytest.raises(ConfigError) as raised:
        bits_per_dim(diffusion_of(), IMAGES, **options)
    assert error in str(raised.value)
