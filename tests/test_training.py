"""The training generator: it learns, repeats by seed, survives NaN, and leaves others alone.

Over 300 lines: one tiny model and one configuration serve every test of the loop.
"""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_hub import PRESETS, GaussianDiffusion, TrainConfig, Unet, runtime, train
from ddpm_hub.data import bundled
from ddpm_hub.errors import ConfigError, DataError, DDPMHubError, HubError
from ddpm_hub.nets import build
from ddpm_hub.training.loop import by_time, learning_rate
from ddpm_hub.training.state import ema_with_warmup

QUICK = TrainConfig(
    train_batch_size=8,
    train_lr=2e-3,
    train_num_steps=6,
    ema_update_every=1,
    num_samples=4,
    sample_steps=2,
    results_folder=None,
    mixed_precision="no",
)


def model(**unet) -> GaussianDiffusion:
    torch.manual_seed(0)
    net = Unet(**{"dim": 8, "dim_mults": (1, 2), "channels": 1, "attn_dim_head": 8} | unet)
    return GaussianDiffusion(net, image_size=28, timesteps=50)


def weights(module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_the_loss_falls_on_real_garments():
    config = replace(QUICK, train_num_steps=60, train_batch_size=16, save_and_sample_every=60)
    losses = [event.loss for event in train(model(), "bundled", config)]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_each_step_is_an_event_and_the_last_brings_samples():
    diffusion = model()
    events = list(train(diffusion, "bundled", QUICK))
    assert [e.step for e in events] == [1, 2, 3, 4, 5, 6] and {e.total for e in events} == {6}
    assert [e.samples is not None for e in events] == [False] * 5 + [True]
    last = events[-1]
    assert (
        last.samples.shape == (4, 1, 28, 28) and 0 <= last.samples.min() <= last.samples.max() <= 1
    )
    assert last.images_per_second > 0 and last.eta_seconds == 0 and last.grad_norm > 0
    assert last.skipped == 0 and last.checkpoint is None


def test_a_seed_repeats_a_run_and_another_one_does_not():
    def losses(seed):
        unet = {"dropout": 0.1, "self_condition": True}
        return [e.loss for e in train(model(**unet), "bundled", replace(QUICK, seed=seed))]

    first = losses(1)
    torch.rand(17)  # what happens outside must not matter
    assert losses(1) == first != losses(2)


def test_the_callers_random_numbers_go_on_as_if_nothing_had_happened():
    run = train(model(dropout=0.1), "bundled", QUICK)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    got = [torch.rand(1) for _ in islice(run, 3)]
    assert torch.equal(torch.cat(got), expected)


def test_training_can_be_left_at_any_step():
    run = train(model(), "bundled", QUICK)
    assert next(run).step == 1
    run.close()


def test_the_average_follows_the_weights_and_is_not_them():
    diffusion, ema = model(), None
    for event in train(diffusion, "bundled", QUICK):
        ema = event.ema
    assert not torch.equal(weights(ema), weights(diffusion))
    assert (weights(ema) - weights(diffusion)).abs().max() < 0.1


def test_the_average_starts_with_short_memory_and_ends_at_its_decay():
    rule, averaged, current = ema_with_warmup(0.9), [torch.zeros(1)], [torch.ones(1)]
    rule(averaged, current, 0)
    assert averaged[0].item() == pytest.approx(0.9)  # decay 1/10
    averaged[0].zero_()
    rule(averaged, current, 10_000)
    assert averaged[0].item() == pytest.approx(0.1)


def test_accumulated_gradients_equal_one_large_batch():
    """Four quarters of a batch, noised alike, must step as the whole batch does."""
    images = torch.rand(8, 1, 28, 28)
    times, noise = torch.randint(0, 50, (8,)), torch.randn(8, 1, 28, 28)
    whole, parts = model(), model()
    whole(images, times=times, noise=noise).backward()
    for i in range(0, 8, 2):
        part = slice(i, i + 2)
        (parts(images[part], times=times[part], noise=noise[part]) / 4).backward()
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4)


class Poisoned(GaussianDiffusion):
    """Gives NaN for the losses of the calls listed."""

    def forward(self, img, **kwargs):
        self.calls = getattr(self, "calls", -1) + 1
        loss = super().forward(img, **kwargs)
        return loss * float("nan") if self.calls in self.bad else loss


def poisoned(bad) -> Poisoned:
    torch.manual_seed(0)
    diffusion = Poisoned(Unet(8, dim_mults=(1, 2), channels=1), image_size=28, timesteps=50)
    diffusion.bad = bad
    return diffusion


def test_a_loss_that_is_not_finite_is_skipped_and_counted():
    """numerics.md C12: the reference trains on with NaN weights."""
    diffusion = poisoned({1, 3})
    before = {}
    for event in train(diffusion, "bundled", QUICK):
        if event.step in (2, 4):
            assert torch.equal(weights(diffusion), before[event.step - 1])
        before[event.step] = weights(diffusion)
    assert event.skipped == 2 and torch.isfinite(weights(event.ema)).all()


def test_training_that_diverges_stops_with_the_last_good_weights():
    diffusion = poisoned(set(range(3, 100)))
    run = train(diffusion, "bundled", replace(QUICK, train_num_steps=100))
    good = None
    with pytest.raises(DDPMHubError, match="lower train_lr"):
        for event in run:
            good = weights(diffusion) if event.step == 3 else good
    assert torch.equal(weights(diffusion), good) and torch.isfinite(good).all()


def test_the_learning_rate_warms_up_and_falls_to_zero():
    config = TrainConfig(
        train_lr=1.0, lr_warmup_steps=10, train_num_steps=110, lr_schedule="cosine"
    )
    assert learning_rate(config, 5) == 0.5
    assert learning_rate(config, 10) == pytest.approx(1)
    assert learning_rate(config, 60) == pytest.approx(0.5)
    assert learning_rate(config, 110) == pytest.approx(0)
    assert learning_rate(replace(config, lr_schedule="constant"), 110) == 1


def test_the_results_folder_opens_as_a_model_and_shows_how_it_was_made(tmp_path):
    config = replace(QUICK, results_folder=str(tmp_path / "run"), train_num_steps=3)
    *_, last = train(model(), "bundled", config)
    opened = GaussianDiffusion.from_pretrained(last.checkpoint)
    assert torch.equal(weights(opened), weights(last.ema))
    assert Image.open(tmp_path / "run" / "samples.png").size == (56, 56)
    assert '"step": 3' in (tmp_path / "run" / "training.json").read_text()


def test_what_was_learnt_before_an_interruption_is_kept(tmp_path):
    config = replace(QUICK, results_folder=str(tmp_path / "run"), train_num_steps=100)
    try:
        for event in train(model(), "bundled", config):
            if event.step == 3:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    kept = GaussianDiffusion.from_pretrained(tmp_path / "run")
    assert torch.equal(weights(kept), weights(event.ema))
    assert '"step": 3' in (tmp_path / "run" / "training.json").read_text()


def test_numbers_of_numpy_and_a_path_are_as_good_as_others(tmp_path):
    numbers = {"seed": np.int64(9), "train_lr": np.float32(2e-3), "train_num_steps": np.int32(3)}
    numbers |= {"adam_betas": (np.float64(0.9), np.float64(0.99))}
    config = replace(QUICK, results_folder=tmp_path / "run", **numbers)
    *_, last = train(model(), "bundled", config)
    assert (tmp_path / "run" / "model.safetensors").is_file()
    usual = {"seed": 9, "train_lr": numbers["train_lr"].item(), "train_num_steps": 3}
    *_, same = train(model(), "bundled", replace(QUICK, **usual))
    assert torch.equal(weights(last.ema), weights(same.ema))
    on = replace(config, train_num_steps=4, resume=tmp_path / "run")
    *_, more = train(model(), "bundled", on)
    assert more.step == 4


def test_images_of_two_channels_train_though_nobody_can_look_at_them(tmp_path):
    net = Unet(dim=8, dim_mults=(1, 2), channels=2)
    diffusion = GaussianDiffusion(net, image_size=8, timesteps=10)
    config = replace(QUICK, results_folder=str(tmp_path / "run"))
    *_, last = train(diffusion, torch.randint(256, (200, 2, 8, 8), dtype=torch.uint8), config)
    assert last.samples.shape == (4, 2, 8, 8) and not (tmp_path / "run" / "samples.png").exists()
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_weights_that_are_tied_are_saved_by_all_their_names(tmp_path):
    tied = model()
    tied.model.mid_block2 = tied.model.mid_block1
    *_, last = train(tied, "bundled", replace(QUICK, results_folder=str(tmp_path / "run")))
    opened = GaussianDiffusion.from_pretrained(last.checkpoint)
    want = last.ema.state_dict()
    assert all(torch.equal(t, want[name]) for name, t in opened.state_dict().items())


def test_two_trainings_go_side_by_side():
    """numerics.md C17: the reference allows one trainer in a process."""
    alone = [e.loss for e in train(model(), "bundled", QUICK)]
    a, b = train(model(), "bundled", QUICK), train(model(), "bundled", replace(QUICK, seed=9))
    both = list(zip(a, b, strict=True))
    assert [x.loss for x, _ in both] == alone


def test_a_folder_of_images_trains(tmp_path):
    for i, image in enumerate(bundled("test")[:4]):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{i}.png")
    with pytest.warns(UserWarning, match="few"):
        run = train(model(), tmp_path, replace(QUICK, train_num_steps=2))
    assert len(list(run)) == 2


def test_every_preset_builds_and_takes_a_step():
    for name, preset in PRESETS.items():
        size = {"image_size": 64} if name == "folder256" else {}  # its own would take minutes
        diffusion = GaussianDiffusion(build(preset.unet), **preset.diffusion | size)
        config = replace(preset.train, results_folder=None, train_batch_size=2)
        assert next(train(diffusion, "bundled", config)).loss > 0


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("train_batch_size", 0, ["train_batch_size 0", "1 .."]),
        ("train_lr", float("nan"), ["train_lr nan"]),
        ("ema_decay", 1.5, ["ema_decay 1.5", "[0, 1]"]),
        ("lr_schedule", "linear", ["'linear'", "constant, cosine"]),
        ("mixed_precision", "int8", ["'int8'", "auto, no, bf16"]),
        ("seed", -1, ["seed -1"]),
    ],
)
def test_bad_training_options_are_sentences_before_the_first_step(field, value, words):
    with pytest.raises(ConfigError) as caught:
        train(model(), "bundled", replace(QUICK, **{field: value}))
    assert all(word in str(caught.value) for word in words)


def test_a_push_that_cannot_be_is_refused_before_the_first_step(tmp_path):
    push = replace(QUICK, push_to_hub="alice/run")
    with pytest.raises(ConfigError, match="give a results_folder"):
        train(model(), "bundled", push)
    with pytest.raises(HubError, match="user/name"):
        train(model(), "bundled", replace(push, push_to_hub="run", results_folder=str(tmp_path)))


def test_data_of_another_size_is_refused_before_the_first_step():
    with pytest.raises(DataError, match=r"\(3, 28, 28\).*\(1, 28, 28\)"):
        train(model(), torch.zeros(4, 3, 28, 28, dtype=torch.uint8), QUICK)


def test_samples_of_the_weights_as_they_are_come_beside_the_average_if_asked():
    *_, last = train(model(), "bundled", replace(QUICK, sample_raw=True))
    assert last.raw_samples.shape == last.samples.shape
    assert not torch.equal(last.raw_samples, last.samples)


def test_the_loss_is_told_apart_by_t_and_is_larger_where_there_is_little_noise():
    """pred_noise: at small t there is hardly any noise to be seen, so it is hard to predict."""
    torch.manual_seed(0)
    net = Unet(dim=8, dim_mults=(1, 2), channels=1, attn_dim_head=8)
    diffusion = GaussianDiffusion(net, image_size=28, timesteps=50, objective="pred_noise")
    config = replace(QUICK, train_num_steps=40, train_batch_size=16)
    *_, last = train(diffusion, "bundled", config)
    assert len(last.loss_by_t) == 10 and all(loss > 0 for loss in last.loss_by_t)
    assert last.loss_by_t[0] > 1.3 * last.loss_by_t[9]


def test_the_bins_of_t_hold_the_means_of_their_images():
    sums = by_time(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 4, 49]), 50)
    assert sums[:10].tolist() == [4.0] + [0.0] * 8 + [5.0]
    assert sums[10:].tolist() == [2.0] + [0.0] * 8 + [1.0]


def test_time_that_is_over_ends_the_run_with_samples_and_a_checkpoint(tmp_path):
    config = replace(
        QUICK, train_num_steps=10_000, max_minutes=0.01, results_folder=str(tmp_path / "run")
    )
    *_, last = train(model(), "bundled", config)
    assert 1 <= last.step < 10_000 and last.samples is not None and last.checkpoint
    assert last.eta_seconds < 60


def test_the_clock_saves_too_and_then_without_samples(tmp_path):
    config = replace(QUICK, save_every_minutes=0, results_folder=str(tmp_path), train_num_steps=3)
    events = list(train(model(), "bundled", config))
    assert [e.checkpoint for e in events] == [str(tmp_path)] * 3
    assert [e.samples is None for e in events] == [True, True, False]


def test_float16_finds_the_scale_it_can_bear_and_learns():
    config = replace(QUICK, mixed_precision="fp16", train_num_steps=30, train_batch_size=16)
    events = list(train(model(), "bundled", config))
    assert events[-1].skipped < 20
    assert events[-1].smoothed_loss < events[0].loss


def test_a_compiled_network_keeps_its_names_and_trains(tmp_path, monkeypatch):
    """With the eager backend, which needs no compiler: the names are what matters here."""
    monkeypatch.setattr(runtime, "compile", lambda net: net.compile(backend="eager") or net)
    diffusion = model()
    names = list(diffusion.state_dict())
    config = replace(QUICK, compile=True, train_num_steps=2, results_folder=str(tmp_path))
    *_, last = train(diffusion, "bundled", config)
    assert list(diffusion.state_dict()) == names
    assert GaussianDiffusion.from_pretrained(last.checkpoint)


def test_a_network_with_classes_learns_from_labels_and_asks_for_them():
    conditional = model(num_classes=10)
    *_, last = train(conditional, "bundled", replace(QUICK, train_num_steps=2))
    assert last.samples.shape == (4, 1, 28, 28)
    images = torch.zeros(100, 1, 28, 28, dtype=torch.uint8)
    with pytest.raises(DataError, match="10 classes and the data has no labels"):
        train(model(num_classes=10), images, QUICK)
    with pytest.raises(DataError, match="label 9, the network 3 classes"):
        train(model(num_classes=3), "bundled", QUICK)


class MyNet(torch.nn.Module):
    """A network of somebody's own, of which no config.json can tell."""

    channels, out_dim, self_condition = 1, 1, False

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, t, x_self_cond=None):
        return self.layer(x)


def test_a_network_of_ones_own_trains_and_resumes_from_its_checkpoint(tmp_path):
    def losses(**changes):
        torch.manual_seed(0)
        diffusion = GaussianDiffusion(MyNet(), image_size=28, timesteps=50)
        config = replace(QUICK, results_folder=str(tmp_path), resume="auto", **changes)
        return [event.loss for event in train(diffusion, "bundled", config)]

    first = losses(train_num_steps=2)
    assert len(losses(train_num_steps=4)) == 2 and len(first) == 2
    assert not (tmp_path / "model.safetensors").exists()
