"""Schedules: the anchors of the papers and of the reference, and what they refuse."""

import itertools

import pytest
import torch
from support import NAMES, SCHEDULE_BUFFERS

from ddpm_hub import SCHEDULES
from ddpm_hub.errors import ConfigError
from ddpm_hub.schedules import alpha_bar, make_betas


def golden_points(T):
    return [0, 1, T // 2, T - 2, T - 1]


@pytest.mark.parametrize("key", SCHEDULE_BUFFERS)
def test_betas_and_alpha_bar_equal_the_reference(key):
    T, name = key[1:].split("/")
    T, want = int(T), SCHEDULE_BUFFERS[key]
    points = golden_points(T)
    got = make_betas(name, T)[points].float()
    torch.testing.assert_close(got, torch.tensor(want["betas"]), atol=0, rtol=1e-6)
    got = alpha_bar(name, T)[points].float()
    torch.testing.assert_close(got, torch.tensor(want["alphas_cumprod"]), atol=0, rtol=1e-6)


def test_the_anchors_of_numerics_hold_at_a_thousand_steps():
    anchors = {
        "linear": (1e-4, 4.0358e-5),
        "cosine": (4.12842e-5, 2.42877e-9),
        "sigmoid": (3.002792e-4, 3.00287e-7),
    }
    for name, (first_beta, last_alpha_bar) in anchors.items():
        assert SCHEDULES[name](1000)[0].item() == pytest.approx(first_beta, rel=1e-5)
        assert alpha_bar(name, 1000)[-1].item() == pytest.approx(last_alpha_bar, rel=1e-4)


def test_the_registry_names_the_three_schedules():
    assert set(NAMES) <= set(SCHEDULES)


@pytest.mark.parametrize(("name", "T"), [*itertools.product(NAMES, (20, 21, 50, 999, 4000))])
def test_every_schedule_is_float64_and_falls_strictly_from_nearly_clean_to_nearly_noise(name, T):
    betas, bar = make_betas(name, T), alpha_bar(name, T)
    assert betas.dtype == bar.dtype == torch.float64
    assert betas.shape == bar.shape == (T,)
    assert ((betas > 0) & (betas <= 0.999)).all()
    assert (bar.diff() < 0).all()
    assert bar[0] > 0.97
    assert bar[-1] < 6e-4


@pytest.mark.parametrize("T", (1, 2, 7, 19))
def test_cosine_and_sigmoid_serve_chains_as_short_as_one_step(T):
    for name in ("cosine", "sigmoid"):
        betas = make_betas(name, T)
        assert betas.isfinite().all()
        assert ((betas > 0) & (betas < 1)).all()


def test_linear_betas_scale_with_the_length_so_that_a_short_chain_still_ends_in_noise():
    """Unscaled, T = 100 would end at alpha_bar = 0.364."""
    assert alpha_bar("linear", 100)[-1] < 1e-4


@pytest.mark.parametrize("T", (1, 5, 10, 19))
def test_c5_a_linear_schedule_with_betas_above_one_is_refused_in_a_sentence(T):
    with pytest.raises(ConfigError, match=rf"{T}\b.*20"):
        make_betas("linear", T)


def test_alpha_bar_is_the_product_of_what_each_step_keeps():
    for name in NAMES:
        kept = 1.0
        for t, beta in enumerate(make_betas(name, 30).tolist()):
            kept *= 1 - beta
            assert alpha_bar(name, 30)[t].item() == pytest.approx(kept, rel=1e-12)


def test_schedule_options_reach_the_schedule():
    wide = make_betas("sigmoid", 100, start=0, end=3, tau=0.7)
    assert not torch.equal(wide, make_betas("sigmoid", 100))
    assert not torch.equal(make_betas("cosine", 100, s=0.1), make_betas("cosine", 100))


@pytest.mark.parametrize(
    ("name", "T", "options", "fragments"),
    [
        ("quadratic", 100, {}, ["quadratic", "linear", "cosine", "sigmoid"]),
        (None, 100, {}, ["None", "linear"]),
        ("linear", 0, {}, ["0", "1"]),
        ("linear", -5, {}, ["-5", "1"]),
        ("linear", 100.5, {}, ["100.5"]),
        ("linear", True, {}, ["True"]),
        ("linear", "100", {}, ["100"]),
        ("cosine", 100, {"z": 1}, ["z", "cosine"]),
        ("sigmoid", 100, {"tau": 0}, ["tau", "0"]),
        ("sigmoid", 100, {"start": 3, "end": -3}, ["3", "-3"]),
    ],
)
def test_what_a_schedule_cannot_be_is_refused_in_a_sentence(name, T, options, fragments):
    with pytest.raises(ConfigError) as caught:
        make_betas(name, T, **options)
    for fragment in fragments:
        assert fragment in str(caught.value)
