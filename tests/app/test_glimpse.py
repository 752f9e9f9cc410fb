"""What the network sees on the Forward tab, against the library's own answer; hostile scenes."""

import base64
import json
import math

import numpy as np
import pytest
import torch
from forward_page import base64_of, decoded, message

from ddpm_hub import GaussianDiffusion, Unet, images
from ddpm_hub.app import glimpse, handoff, models, process
from ddpm_hub.errors import DDPMHubError, HubError

PRIVATE = "opened:" + "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def bundled():
    return models.load()


@pytest.fixture(scope="module")
def foreign():
    """A model of another shape, chain and schedule, whose last alpha_bar is 0."""
    torch.manual_seed(0)
    network = Unet(8, dim_mults=(1, 2), channels=3, flash_attn=False)
    diffusion = GaussianDiffusion(
        network, image_size=16, timesteps=60, beta_schedule="linear", zero_terminal_snr=True
    )
    models.adopt(PRIVATE, models.placed(diffusion.eval()))
    yield diffusion
    models.forget(PRIVATE)


# ---- the same answer as the library's ----------------------------------------------------------
@pytest.mark.parametrize("t", [0, 412, 999])
def test_what_is_shown_is_the_library_s_prediction_for_that_x_t_and_t(bundled, t):
    asked = message(alpha_bar=float(f"{bundled.alpha_bar(t):.10g}"))
    answer = glimpse.look("bundled", glimpse.scene(asked))
    pixels = np.frombuffer(base64.b64decode(asked["data"]), np.uint8).reshape(1, 1, 28, 28)
    x0 = bundled.normalize(torch.from_numpy(pixels / np.float32(255)))
    eps = torch.from_numpy(np.frombuffer(base64.b64decode(asked["eps"]), "<f4").copy())
    at = torch.tensor([t])
    xt = bundled.q_sample(x0, at, eps.view(1, 1, 28, 28))
    with torch.no_grad():
        said = bundled.predict(xt, at)
        raw = bundled.model_predictions(xt, at, clip_x_start=True, rederive_pred_noise=True)
    torch.testing.assert_close(said.x0, raw.pred_x_start)
    assert (answer["t"], answer["T"], answer["same"]) == (t, 1000, True)
    assert answer["mse"] == pytest.approx((said.x0 - x0).square().mean().item(), rel=1e-4)
    noise = (said.eps - eps.view(1, 1, 28, 28)).square().mean().item()
    assert answer["eps_mse"] == pytest.approx(noise, rel=1e-3)
    for name, expected in (("x", xt), ("x0_hat", said.x0), ("x0", x0)):
        shown = decoded(answer["pictures"][name])
        apart = shown - bundled.unnormalize(expected[0]).clamp(0, 1)
        assert apart.abs().max() < 0.5 / 255 + 1e-4, name
    json.dumps(answer, allow_nan=False)


def test_each_t_of_the_model_s_own_schedule_is_found_again_from_ten_digits(bundled, foreign):
    for model in (bundled, foreign):
        levels = [float(f"{model.alpha_bar(t):.10g}") for t in range(model.num_timesteps)]
        found = [glimpse.nearest_t(model, level) for level in levels]
        assert found == list(range(model.num_timesteps))


def test_a_level_of_another_schedule_meets_the_t_that_is_nearest_to_it(foreign):
    last = foreign.num_timesteps - 1
    assert glimpse.nearest_t(foreign, 1.0) == 0 and glimpse.nearest_t(foreign, 0.0) == last
    between = (foreign.alpha_bar(20) + 3 * foreign.alpha_bar(21)) / 4
    assert glimpse.nearest_t(foreign, between) == 21
    assert glimpse.nearest_t(foreign, foreign.alpha_bar(20) * 0.999) == 20


def test_a_model_of_another_shape_gets_the_picture_in_its_own_with_noise_of_the_seed(foreign):
    grey, same_seed, other = (
        glimpse.state_of(foreign, glimpse.scene(message(seed=seed))) for seed in (5, 5, 6)
    )
    scene = glimpse.scene(message())
    expected = images.from_pil(images.to_pil(torch.from_numpy(scene.picture)[None])[0], (16, 16), 3)
    assert grey.same is False and grey.x.shape == (3, 16, 16) and grey.x.dtype == np.float32
    np.testing.assert_allclose(grey.x0, 2 * expected.numpy() - 1, atol=1e-6)
    assert np.array_equal(grey.x, same_seed.x) and not np.array_equal(grey.eps, other.eps)
    assert abs(grey.eps.mean()) < 0.15 and abs(grey.eps.std() - 1) < 0.1
    level = foreign.alpha_bar(grey.t)
    total = math.sqrt(level) * grey.x0 + math.sqrt(1 - level) * grey.eps
    np.testing.assert_allclose(grey.x, total, atol=1e-6)


def test_a_start_for_sample_is_the_x_t_that_the_network_was_shown(bundled):
    scene = glimpse.scene(message(name="ankle\n\x00 boot" + "x" * 100, alpha_bar=0.05))
    kept = handoff.find(glimpse.begin("bundled", scene))
    state = glimpse.state_of(bundled, scene)
    assert kept.model == "bundled" and kept.t == state.t
    assert np.array_equal(kept.x, state.x) and kept.x.dtype == np.float32
    assert kept.words.startswith("ankle boot") and len(kept.words) < 90


def test_a_network_that_gives_no_numbers_has_no_error_rather_than_a_nan(foreign):
    weights = next(foreign.parameters())
    before = weights.detach().clone()
    try:
        with torch.no_grad():
            weights.fill_(math.nan)
        answer = glimpse.look(PRIVATE, glimpse.scene(message()))
    finally:
        with torch.no_grad():
            weights.copy_(before)
    assert answer["mse"] is None and answer["eps_mse"] is None
    json.dumps(answer, allow_nan=False)


def test_a_private_model_answers_who_has_its_key_and_is_not_named(foreign):
    answer = glimpse.look(PRIVATE, glimpse.scene(message()))
    assert answer["shape"] == [3, 16, 16] and answer["T"] == 60
    assert answer["model"] == "a private model"
    with pytest.raises(HubError, match="no longer in memory"):
        glimpse.look("opened:" + "f" * 32, glimpse.scene(message()))


# ---- anybody may send anything ------------------------------------------------------------------
NAN = np.full((28, 28, 1), np.nan, "<f4")
HUGE = np.full((28, 28, 1), 1e30, "<f4")


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 65, "height": 65},
        {"width": 10**9},
        {"width": -28},
        {"width": "28"},
        {"width": 28.5},
        {"width": True},
        {"channels": 2},
        {"channels": 4},
        {"data": None},
        {"data": ["AAAA"]},
        {"data": "A" * 10_000_000},
        {"data": "!" * 1048},
        {"data": "\u00e9" * 1048},
        {"eps": ""},
        {"eps": base64_of(NAN)},
        {"eps": base64_of(HUGE)},
        {"eps": base64_of(NAN[1:])},
        {"alpha_bar": math.nan},
        {"alpha_bar": 1.01},
        {"alpha_bar": -1e-9},
        {"alpha_bar": "0.5"},
        {"alpha_bar": None},
        {"seed": -1},
        {"seed": 10**400},
        {"seed": {"a": 1}},
    ],
)
def test_a_scene_that_no_widget_sends_is_refused_in_one_short_sentence(changes):
    with pytest.raises(DDPMHubError) as caught:
        glimpse.scene(message() | changes)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 200 and ":" in sentence


@pytest.mark.parametrize("junk", [None, [], "scene", 7, {}, {"width": {}}])
def test_what_is_no_scene_at_all_is_refused_too(junk):
    with pytest.raises(DDPMHubError):
        glimpse.scene(junk)


def test_a_name_is_words_of_at_most_sixty_letters_whatever_was_sent():
    for name in (None, 3, ["a"], "", "\n\t", "\x1b"):
        assert glimpse.scene(message(name=name)).name == "the picture"
    assert len(glimpse.scene(message(name="a" * 10**6)).name) == process.NAME_LENGTH
