"""Figures of a model: quality, loss by t, bits/dim, and the real images they are held against."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from eval_support import FEW, mean_and_corner, pixels
from support import oracle_diffusion, random_diffusion
from torch import nn

from ddpm_hub import GaussianDiffusion, data, evaluate
from ddpm_hub.data import bundled
from ddpm_hub.errors import ConfigError, DataError
from ddpm_hub.evaluate import Drawing, work
from ddpm_hub.likelihood import bits_per_dim
from ddpm_hub.randomness import generator


def test_a_figure_of_quality_says_all_that_it_depends_on():
    diffusion, reference = random_diffusion(), pixels(20, 1, 8, 8)
    options = {"spacing": "trailing", "eta": 0.5, "clip_x_start": True}
    asked = Drawing(6, "ddim", 4, 3, 2, options=options)
    figure = evaluate.sample_quality(
        diffusion, asked, reference, mean_and_corner(), reference_name="noise", ema=True
    )
    samples = evaluate.draw_samples(diffusion, asked).images
    assert figure.value == evaluate.quality_of(samples, reference, mean_and_corner())
    assert asdict(figure) == {
        "metric": "Fréchet distance, features of corners",
        "value": figure.value,
        "features": "corners",
        "sampler": "ddim",
        "steps": 4,
        "spacing": "trailing",
        "eta": 0.5,
        "options": {"clip_x_start": True},
        "samples": 6,
        "batch_size": 2,
        "seed": 3,
        "precision": "no",
        "device": "cpu",
        "weights": work.weights_of(diffusion)[:16],
        "ema": True,
        "reference": "noise",
        "reference_images": 20,
    }
    for words in (
        "features of corners", "6 samples of ddim", "4 network calls", "spacing trailing",
        "eta 0.5", "clip_x_start True", "seed 3", "batches of 2", "precision no", "EMA yes",
        "20 images of noise",
    ):  # fmt: skip
        assert words in figure.sentence()


def test_an_eta_that_the_sampler_does_not_ask_for_is_not_reported():
    figure = evaluate.sample_quality(random_diffusion(), FEW, pixels(9, 1, 8, 8), mean_and_corner())
    assert figure.eta is None and "eta" not in figure.sentence()
    assert figure.ema is None and "EMA unknown" in figure.sentence()


def test_samples_and_reference_of_different_sizes_are_a_sentence():
    with pytest.raises(DataError, match=r"\(1, 4, 4\) .* \(1, 8, 8\) cannot be compared"):
        evaluate.quality_of(pixels(3, 1, 4, 4), pixels(3, 1, 8, 8), mean_and_corner())


def test_what_cannot_be_compared_is_said_before_anything_is_drawn(tmp_path):
    diffusion = random_diffusion()
    for reference, network in (
        (pixels(3, 1, 4, 4), mean_and_corner()),
        (pixels(3, 1, 8, 8), evaluate.feature_network("garments")),
    ):
        with pytest.raises(DataError):
            evaluate.sample_quality(diffusion, FEW, reference, network, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_whether_weights_are_averaged_is_read_beside_them_or_not_known(tmp_path):
    assert evaluate.is_averaged("bundled") is True
    random_diffusion().save_pretrained(tmp_path)
    assert evaluate.is_averaged(tmp_path) is None
    for decay, says in ((0.9, True), (0, False)):
        report = {"config": {"ema_decay": decay}}
        (tmp_path / "training.json").write_text(json.dumps(report))
        assert evaluate.is_averaged(tmp_path) is says
    (tmp_path / "training.json").write_text("{")
    assert evaluate.is_averaged(tmp_path) is None


class Silent(nn.Module):
    """A network that says 0."""

    channels = out_dim = 1
    self_condition = False

    def forward(self, x, t, x_self_cond=None):
        return torch.zeros_like(x)


def test_figures_of_a_network_with_classes_say_that_it_was_told_none():
    images = torch.rand(4, 1, 8, 8)
    for classes, said in ((None, False), (3, True)):
        diffusion = random_diffusion(unet={"num_classes": classes})
        for figure in (
            evaluate.loss_by_t(diffusion, images, bins=2),
            work.finish(evaluate.likelihood_work(diffusion, images, steps=2)),
        ):
            assert figure.unlabelled is said
            assert ("without labels" in figure.sentence()) is said


def test_the_loss_by_t_of_a_network_that_knows_the_image_is_0_everywhere():
    image = pixels(1, 1, 8, 8).double() / 255
    diffusion = oracle_diffusion(image * 2 - 1, objective="pred_noise")
    found = evaluate.loss_by_t(diffusion, image.expand(6, -1, -1, -1), bins=5)
    assert found.edges == (0, 10, 20, 30, 40, 50)
    assert max(found.losses) < 1e-12


def test_the_loss_by_t_of_a_silent_network_is_the_weight_of_each_stretch():
    diffusion = GaussianDiffusion(
        Silent(), image_size=8, timesteps=4, objective="pred_x0", beta_schedule="cosine"
    )
    images = pixels(40, 1, 8, 8).float() / 255
    found = evaluate.loss_by_t(diffusion, images, bins=4)
    square = (images * 2 - 1).square().mean().item()
    expected = [w.item() * square for w in diffusion.loss_weight]
    assert found.losses == pytest.approx(expected, rel=1e-5)
    assert found.mean == pytest.approx(sum(expected) / 4, rel=1e-5)
    uneven = evaluate.loss_by_t(diffusion, images, bins=3)  # 0, 1, and 2 .. 3
    assert uneven.edges == (0, 1, 2, 4)
    assert uneven.mean == pytest.approx(
        (uneven.losses[0] + uneven.losses[1] + 2 * uneven.losses[2]) / 4
    )


def test_the_loss_by_t_follows_from_the_seed_and_leaves_the_callers_random_numbers_alone():
    diffusion = random_diffusion(unet={"self_condition": True}).train()
    images = pixels(12, 1, 8, 8)
    torch.manual_seed(5)
    first = evaluate.loss_by_t(diffusion, images, bins=2, data="these", ema=False)
    after = torch.rand(1)
    assert torch.equal(after, torch.rand(1, generator=torch.manual_seed(5)))
    assert diffusion.training
    assert first == evaluate.loss_by_t(diffusion, images, bins=2, data="these", ema=False)
    assert first.losses != evaluate.loss_by_t(diffusion, images, bins=2, seed=1).losses
    assert "12 images of these, seed 0, EMA no" in first.sentence()
    with pytest.raises(ConfigError, match=r"bins 21 .* 1 .. 20"):
        evaluate.loss_by_t(diffusion, images, bins=21)
    with pytest.raises(DataError, match="scales nothing"):
        evaluate.loss_by_t(random_diffusion(auto_normalize=False), images)


def test_bits_per_dim_are_those_of_the_bound_with_the_seeds_noise():
    diffusion, images = random_diffusion(), pixels(5, 1, 8, 8)
    figure = evaluate.finish(evaluate.likelihood_work(diffusion, images, seed=4, data="these"))
    rng = generator(torch.device("cpu"), "bits/dim", 4)
    bound = bits_per_dim(diffusion, images, rng)
    assert figure.total == bound.total.item() == pytest.approx(figure.LT + figure.Lt + figure.L0)
    assert figure.error == pytest.approx(bound.per_image.std(correction=0).item() / 5**0.5)
    assert figure.steps == 20 and "5 images of these, 20 network calls" in figure.sentence()
    short = evaluate.finish(evaluate.likelihood_work(diffusion, images, steps=6))
    assert short.steps == 6 and short.total != figure.total
    with pytest.raises(ConfigError, match="likelihood_steps 21"):
        evaluate.finish(evaluate.likelihood_work(diffusion, images, steps=21))


def test_real_images_are_the_split_that_was_asked_for_and_some_are_always_the_same():
    train = evaluate.real_images("bundled", (28, 28), 1)
    assert torch.equal(train.images, bundled()) and train.name == "bundled, train"
    some = evaluate.real_images("bundled", (28, 28), 1, split="test", limit=9)
    again = evaluate.real_images("bundled", (28, 28), 1, split="test", limit=9)
    assert torch.equal(some.images, again.images) and some.name == "bundled, test"
    known = {image.numpy().tobytes() for image in bundled("test")}
    assert {image.numpy().tobytes() for image in some.images} <= known
    assert len({image.numpy().tobytes() for image in some.images}) == 9
    scaled = evaluate.real_images("bundled", (32, 32), 3, split="test", limit=2)
    assert scaled.images.shape == (2, 3, 32, 32)


def test_held_out_images_are_the_test_split_or_say_that_they_may_be_known(tmp_path):
    held = evaluate.held_out_images("bundled", (28, 28), 1, 5)
    assert held.name == "bundled, test" and len(held.images) == 5
    array = pixels(120, 1, 8, 8)
    given = evaluate.held_out_images(data.ImageSet(array, "mine"), (8, 8), 1, 5)
    assert given.name == "mine, perhaps trained on"
    with pytest.raises(ConfigError, match=r"split 'test' of '.*' is not known"):
        evaluate.real_images(tmp_path, (8, 8), 1, split="test")


def test_of_a_set_without_end_the_first_images_are_taken(monkeypatch):
    rows = [pixels(1, 4, 4, seed=i).numpy() for i in range(8)]
    stream = data.ImageStream((1, 4, 4), "stream", lambda *_: iter(rows * 9), lambda row: row)
    five = evaluate.real_images(stream, (4, 4), 1, limit=5).images
    assert np.array_equal(five.numpy(), np.stack(rows[:5]))
    monkeypatch.setattr("ddpm_hub.evaluate.real.OF_A_STREAM", 7)
    found = evaluate.real_images(stream, (4, 4), 1)
    assert np.array_equal(found.images.numpy(), np.stack(rows[:7])) and found.name == "stream"
