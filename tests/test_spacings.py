"""Spacings: what any list of timesteps must be, and what each one promises."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import NAMES, random_diffusion

from ddpm_hub.samplers import SAMPLERS
from ddpm_hub.schedules import alpha_bar, make_betas, zero_terminal_snr
from ddpm_hub.spacings import SPACINGS
from ddpm_hub.streams import call_ends, timesteps


@given(st.data(), st.sampled_from(sorted(SPACINGS)), st.sampled_from(NAMES))
def test_timesteps_fall_strictly_within_the_chain_and_end_in_clean_data(data, spacing, schedule):
    T = data.draw(st.integers(20, 400), label="T")
    steps = data.draw(st.integers(1, T), label="steps")
    ts = SPACINGS[spacing](alpha_bar(schedule, T), steps)
    assert len(ts) == steps + 1
    assert ts[-1] == -1
    assert all(t > s for t, s in pairwise(ts))
    assert ts[0] < T
    if spacing != "leading":
        assert ts[0] == T - 1
    if steps == T:
        assert ts == list(range(T - 1, -2, -1))


@pytest.mark.parametrize(
    ("spacing", "want"),
    [
        ("linspace", [999, 899, 799, 699, 599, 499, 399, 299, 199, 99, -1]),
        ("trailing", [999, 899, 799, 699, 599, 499, 399, 299, 199, 99, -1]),
        ("leading", [900, 800, 700, 600, 500, 400, 300, 200, 100, 0, -1]),
    ],
)
def test_ten_of_a_thousand_are_those_of_the_papers(spacing, want):
    assert SPACINGS[spacing](alpha_bar("linear", 1000), 10) == want


@pytest.mark.parametrize("schedule", NAMES)
def test_logsnr_steps_are_even_in_log_snr_as_far_as_whole_timesteps_can_be(schedule):
    a = alpha_bar(schedule, 10_000)
    ts = SPACINGS["logsnr"](a, 20)
    lam = 0.5 * torch.logit(a[torch.tensor(ts[:-1])])
    want = torch.linspace(max(lam[0], -5.1), lam[-1], 20, dtype=lam.dtype)
    assert (ts[0], ts[-2]) == (9999, 0)
    middle = slice(1, 17)  # the first timesteps after clean data are far from each other in lambda
    torch.testing.assert_close(lam[middle], want[middle], atol=0.05, rtol=0)


def test_logsnr_bears_a_chain_that_ends_in_noise_alone():
    a = (1 - zero_terminal_snr(make_betas("linear", 1000))).cumprod(0)
    ts = SPACINGS["logsnr"](a, 20)
    assert ts[0] == 999 and len(set(ts)) == 21 and ts[1] < 999 and ts[10] > 50


@given(st.sampled_from(sorted(SAMPLERS)), st.sampled_from(sorted(SPACINGS)), st.integers(1, 50))
def test_every_sampler_makes_as_many_network_calls_as_asked(sampler, spacing, steps):
    ts = timesteps(alpha_bar("cosine", 50), sampler, spacing, steps)
    assert len(call_ends(ts)) == len(ts) - 1 == steps


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_stream_says_the_timesteps_of_its_spacing(spacing):
    diffusion = random_diffusion(timesteps=50)
    stream = diffusion.sample_stream(1, steps=7, spacing=spacing, seed=0)
    a = diffusion._exact["alphas_cumprod"]
    assert [step.t for step in stream] + [-1] == SPACINGS[spacing](a, 7)
