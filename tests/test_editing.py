"""Editing: what is kept is kept exactly, the network sees the level it should, runs resume.

`interpolate` of the reference's signature is in test_samplers.py (C9).
"""

import pickle

import pytest
import torch
from support import images_like, noise_like, oracle_diffusion, random_diffusion

from ddpm_hub.editing import mixed, repainted
from ddpm_hub.errors import ConfigError, DataError
from ddpm_hub.samplers import SAMPLERS
from ddpm_hub.streams import call_ends

IMAGES = (images_like(2, 1, 8, 8, seed=4) + 1) / 2
OTHERS = (images_like(2, 1, 8, 8, seed=5) + 1) / 2
LEFT = torch.zeros(8, 8)
LEFT[:, :4] = 1  # keeps the left half
QUIET = {"progress": False}


def close(got, want, atol=1e-6):
    torch.testing.assert_close(got, want, atol=atol, rtol=0)


# -- img2img ----------------------------------------------------------------------------------


def test_img2img_of_strength_zero_returns_the_image_itself():
    diffusion = random_diffusion()
    got = diffusion.img2img(IMAGES.float(), 0, seed=0, **QUIET)
    assert torch.equal(got, IMAGES.float())
    assert got is not IMAGES
    assert list(diffusion.img2img_stream(IMAGES.float(), 0.0)) == []


@pytest.mark.parametrize(("strength", "t"), [(1.0, 49), (0.5, 24), (0.02, 0)])
def test_img2img_asks_the_network_first_at_the_level_the_image_was_noised_to(strength, t):
    diffusion = oracle_diffusion(images_like(1, 1, 8, 8))
    stream = diffusion.img2img_stream(IMAGES, strength, seed=3)
    noise = torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(3),
                        dtype=torch.float64)  # fmt: skip
    a = diffusion.alphas_cumprod[t]
    close(stream.state().x, a.sqrt() * (2 * IMAGES - 1) + (1 - a).sqrt() * noise)
    assert [step.t for step in stream] == list(range(t, -1, -1))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_img2img_runs_any_sampler_in_as_many_calls_as_asked(sampler):
    diffusion = oracle_diffusion(IMAGES * 2 - 1)
    steps = list(diffusion.img2img_stream(IMAGES, 0.6, sampler=sampler, steps=7, seed=0))
    assert len(steps) == 7
    close(steps[-1].x, 2 * IMAGES - 1, 1e-3)  # this little noise leaves no doubt which it was


def test_img2img_without_steps_takes_the_same_share_of_the_chain():
    diffusion = random_diffusion(sampling_timesteps=10)  # T = 20
    assert len(diffusion.img2img_stream(IMAGES.float(), 0.5)) == 5
    assert len(random_diffusion().img2img_stream(IMAGES.float(), 0.5)) == 10


# -- any x at any t ---------------------------------------------------------------------------


def test_a_run_may_start_from_any_state_at_any_level():
    """The rest of a run, begun again from its own state, is that rest."""
    diffusion = random_diffusion()
    whole = list(diffusion.sample_stream(2, sampler="ddim", seed=0))
    rest = list(diffusion.sample_stream(noise=whole[11].x, t_start=7, sampler="ddim", steps=8))
    assert [step.t for step in rest] == [step.t for step in whole[12:]]
    close(rest[-1].x, whole[-1].x, 1e-5)


# -- inpainting -------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_inpainting_leaves_the_known_region_exactly_and_draws_the_rest(sampler):
    diffusion = random_diffusion()
    got = diffusion.inpaint(IMAGES.float(), LEFT, sampler=sampler, steps=7, jump_length=3,
                            jump_n_sample=2, seed=0, **QUIET)  # fmt: skip
    assert torch.equal(got[..., :4], IMAGES.float()[..., :4])
    assert (got[..., 4:] - IMAGES.float()[..., 4:]).abs().mean() > 0.05


def test_inpainting_an_image_that_the_network_knows_finds_its_other_half():
    """The oracle knows two images: the half that is kept decides which of them it must be."""
    diffusion = oracle_diffusion(torch.cat((IMAGES, OTHERS)) * 2 - 1)
    got = diffusion.inpaint(IMAGES, LEFT, seed=0, jump_n_sample=2, **QUIET)
    close(got, IMAGES, 1e-3)


def test_after_every_step_the_known_region_is_at_the_level_stepped_to():
    """Noised to s, not to t: with two levels as far apart as these the difference shows."""
    side = torch.full((1, 1, 64, 64), 0.75, dtype=torch.float64)
    diffusion = oracle_diffusion(side * 2 - 1)
    mask = torch.ones(64, 64)
    mask[:4] = 0
    stream = diffusion.inpaint_stream(side, mask, steps=4, jump_n_sample=1, seed=0)
    steps, levels = list(stream), [*stream.state().ts[1:-1], -1]
    for step, s in zip(steps, levels, strict=True):
        known = step.x[..., 4:, :]
        a = diffusion.alpha_bar(s)
        assert known.mean().item() == pytest.approx(0.5 * a**0.5, abs=0.07)
        assert known.std().item() == pytest.approx((1 - a) ** 0.5, abs=0.05)


def test_one_mask_may_stand_for_all_images_or_each_have_its_own():
    diffusion = random_diffusion()
    images, own = IMAGES.float(), torch.stack((LEFT, 1 - LEFT))[:, None]
    got = diffusion.inpaint(images, own, steps=3, sampler="ddim", seed=0, **QUIET)
    assert torch.equal(got[0, :, :, :4], images[0, :, :, :4])
    assert torch.equal(got[1, :, :, 4:], images[1, :, :, 4:])
    for mask in (LEFT.bool(), LEFT[None], LEFT[None, None].int()):
        assert diffusion.inpaint(images, mask, steps=2, seed=0, **QUIET).shape == images.shape


def test_a_path_with_jumps_walks_every_stretch_as_often_as_asked():
    assert repainted((9, 7, 5, 3, 1, -1), 2, 1) == (9, 7, 5, 3, 1, -1)
    assert repainted((9, 7, 5, 3, 1, -1), 2, 2) == (9, 7, 5, 9, 7, 5, 3, 1, 5, 3, 1, -1)
    assert repainted((9, -1), 10, 3) == (9, -1)
    path = repainted((9, 7, 5, 3, 1, -1), 2, 3)
    assert len(call_ends(path)) == 3 * 4 + 1  # the step to clean data is made once


def test_a_jump_back_up_restores_the_level_in_mean_and_variance():
    """Where everything is known, every state is the known image noised to its level."""
    side = torch.full((1, 1, 64, 64), 0.9, dtype=torch.float64)
    diffusion = oracle_diffusion(side * 2 - 1)
    mask = torch.zeros(64, 64)
    mask[0, 0] = 1
    diffusion.inpaint(side, mask, steps=5, jump_length=2, jump_n_sample=3, seed=0, **QUIET)
    for t, state in zip(diffusion.model.times, diffusion.model.states, strict=True):
        a = diffusion.alpha_bar(t)
        assert state.mean().item() == pytest.approx(0.8 * a**0.5, abs=0.08)
        assert state.std().item() == pytest.approx((1 - a) ** 0.5, abs=0.05)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("pause", [0, 1, 4, 9])
def test_inpainting_is_reproducible_and_resumes_bit_for_bit(sampler, pause):
    diffusion = random_diffusion()
    options = {"sampler": sampler, "steps": 6, "jump_length": 2, "jump_n_sample": 2, "seed": 1}
    whole = [step.x for step in diffusion.inpaint_stream(IMAGES.float(), LEFT, **options)]
    stream = diffusion.inpaint_stream(IMAGES.float(), LEFT, **options)
    parts = [next(stream).x for _ in range(pause)]
    resumed = diffusion.resume_stream(pickle.loads(pickle.dumps(stream.state())))
    assert len(resumed) == len(whole) > 6
    parts += [step.x for step in resumed]
    assert all(torch.equal(a, b) for a, b in zip(parts, whole, strict=True))


# -- interpolation and continuations ----------------------------------------------------------


def test_an_interpolation_path_is_exact_at_both_ends():
    diffusion = random_diffusion()
    x1, x2 = IMAGES.float(), OTHERS.float()
    path = diffusion.interpolation(x1, x2, 5, t=12, seed=0, steps=4, **QUIET)
    assert path.shape == (2, 5, 1, 8, 8)
    assert torch.equal(path[:, 0], x1) and torch.equal(path[:, -1], x2)
    assert torch.equal(path, diffusion.interpolation(x1, x2, 5, 12, seed=0, steps=4, **QUIET))
    assert diffusion.interpolation(x1, x2, 2, seed=0, **QUIET).shape == (2, 2, 1, 8, 8)


def test_the_frames_of_a_path_share_one_noise():
    """Between an image and itself nothing changes along the path."""
    diffusion = random_diffusion()
    path = diffusion.interpolation(IMAGES.float(), IMAGES.float(), 6, seed=0, **QUIET)
    between = path[:, 1:-1]
    close(between, between[:, :1].expand_as(between), 1e-5)
    assert (between[0, 0] - between[1, 0]).abs().mean() > 0.01  # each image has noise of its own


def test_an_interpolation_path_at_a_low_level_is_nearly_the_blend_of_pixels():
    diffusion = oracle_diffusion(images_like(1, 1, 8, 8), clip_x_start=False)
    x = mixed(diffusion, IMAGES, OTHERS, 0, 0.25)
    blend = 2 * (0.75 * IMAGES + 0.25 * OTHERS) - 1
    sigma = diffusion.sqrt_one_minus_alphas_cumprod[0]
    assert 0.6 * sigma < (x - blend).abs().mean() < sigma


def test_a_mixed_state_has_the_noise_of_its_level():
    diffusion = oracle_diffusion(images_like(1, 1, 64, 64))
    grey = torch.full((1, 1, 64, 64), 0.5, dtype=torch.float64)
    for lam in (0.1, 0.5):
        x = mixed(diffusion, grey, grey, 30, lam, torch.Generator().manual_seed(0))
        sigma = diffusion.sqrt_one_minus_alphas_cumprod[30].item()
        assert x.std().item() == pytest.approx(sigma, rel=0.05)


def test_continuations_begin_in_one_latent_and_differ_in_the_end():
    diffusion = random_diffusion()
    x = noise_like(2, 1, 8, 8).float()
    stream = diffusion.continuations(x, 15, 3, seed=0)
    start = stream.state().x
    assert torch.equal(start, x.repeat_interleave(3, dim=0))
    steps = list(stream)
    assert [step.t for step in steps] == list(range(15, -1, -1))
    assert torch.equal(steps[0].x0[0], steps[0].x0[2])  # what the network sees there is the same
    assert (steps[-1].x[0] - steps[-1].x[1]).abs().mean() > 0.01


def test_later_latents_leave_less_to_chance():
    """Figure 7: with the oracle of many images, what is shared at a low level is nearly the end."""
    data = images_like(40, 1, 8, 8, seed=11)
    diffusion = oracle_diffusion(data)
    spread = {}
    chain = {step.t: step.x for step in diffusion.sample_stream(1, sampler="ddpm", seed=2)}
    for t in (45, 5):  # the state at level t is the one after the step from t + 1
        *_, last = diffusion.continuations(chain[t + 1], t, 12, seed=0)
        spread[t] = (last.x - last.x[:1]).abs().mean().item()
    assert spread[45] > 0.1 > 10 * spread[5]


# -- refusals ---------------------------------------------------------------------------------

X = IMAGES.float()


@pytest.mark.parametrize(
    ("call", "fragments"),
    [
        (lambda d: d.img2img(X, 1.5), ["strength", "1.5", "[0, 1]"]),
        (lambda d: d.img2img(X, float("nan")), ["strength", "nan"]),
        (lambda d: d.img2img(X * 300, 0.5), ["outside [0, 1]"]),
        (lambda d: d.img2img(X, 0.5, steps=11), ["steps", "11", "10"]),
        (lambda d: d.inpaint(X, LEFT[:4]), ["mask", "(1, 1, 4, 8)", "8 x 8"]),
        (lambda d: d.inpaint(X, LEFT * 0.5), ["mask", "0 and 1"]),
        (lambda d: d.inpaint(X, None), ["mask"]),
        (lambda d: d.inpaint(X, LEFT.expand(3, 1, 8, 8)), ["mask", "(3, 1, 8, 8)"]),
        (lambda d: d.inpaint(X, LEFT, jump_length=0), ["jump_length", "0"]),
        (lambda d: d.inpaint(X, LEFT, jump_n_sample=1.5), ["jump_n_sample", "1.5"]),
        (lambda d: d.interpolation(X, X, 1), ["frames", "1"]),
        (lambda d: d.interpolation(X, X[:1]), ["differ"]),
        (lambda d: d.interpolation(X, X, t=20), ["t", "20", "19"]),
        (lambda d: d.continuations(X, 20), ["20", "19"]),
        (lambda d: d.continuations(X, 5, 0), ["count", "0"]),
        (lambda d: d.continuations(X[0], 5), ["shape", "(1, 8, 8)"]),
        (lambda d: d.sample_stream(t_start=5), ["t_start", "noise"]),
        (lambda d: d.sample_stream(noise=X, t_start=-1), ["t_start", "-1"]),
    ],
)
def test_an_edit_that_cannot_be_is_refused_in_a_sentence(call, fragments):
    with pytest.raises((ConfigError, DataError)) as caught:
        call(random_diffusion())
    for fragment in fragments:
        assert fragment in str(caught.value)
