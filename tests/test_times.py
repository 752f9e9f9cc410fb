"""Importance sampling of t: the right chances, an unbiased loss, and a history that resumes."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
import victim

from ddpm_hub import train
from ddpm_hub.errors import ConfigError
from ddpm_hub.training.times import KEPT, Importance

CONFIG = replace(
    victim.CONFIG, time_sampling="importance", train_num_steps=80, save_and_sample_every=40
)


def filled(levels):
    """A history in which t always had the loss levels[t]."""
    importance = Importance(len(levels))
    for _ in range(KEPT):
        importance.record(torch.arange(len(levels)), torch.tensor(levels))
    return importance


def test_until_every_t_was_seen_ten_times_all_are_alike():
    importance = Importance(4)
    for _ in range(KEPT):
        assert importance.probabilities().tolist() == [0.25] * 4
        importance.record(torch.tensor([0, 1, 2, 3]), torch.tensor([9.0, 1, 1, 1]))
    assert importance.probabilities()[0] > 0.7


def test_the_chances_are_in_proportion_to_the_root_mean_square_loss():
    p = filled([4.0, 1.0, 1.0, 2.0]).probabilities()
    assert p.sum().item() == pytest.approx(1)
    assert p.tolist() == pytest.approx([0.5, 0.125, 0.125, 0.25], abs=0.001)
    assert filled([1.0, 0.0]).probabilities()[1] > 0  # none is forgotten
    assert filled([0.0, 0.0]).probabilities().tolist() == [0.5, 0.5]


def test_only_the_last_ten_losses_count_and_none_that_is_not_finite():
    importance = filled([1.0, 1.0])
    importance.record(torch.tensor([0, 0]), torch.tensor([float("nan"), float("inf")]))
    assert importance.probabilities().tolist() == pytest.approx([0.5, 0.5])
    for _ in range(KEPT):
        importance.record(torch.tensor([0]), torch.tensor([3.0]))
    assert importance.probabilities()[0] == pytest.approx(0.75, abs=0.001)


def test_the_order_in_which_a_batch_is_found_does_not_matter():
    one, two = filled([1.0, 2.0]), filled([1.0, 2.0])
    times, losses = torch.tensor([0, 1, 0]), torch.tensor([5.0, 6.0, 4.0])
    one.record(times, losses)
    two.record(times.flip(0), losses.flip(0))
    assert torch.equal(one.history, two.history)


def test_a_weighted_loss_has_the_expectation_of_the_uniform_one():
    losses = torch.tensor([8.0, 1.0, 0.1, 3.0], dtype=torch.float64)
    p = filled(losses.tolist()).probabilities()
    weighted = losses / (len(p) * p)
    assert (p * weighted).sum().item() == pytest.approx(losses.mean().item())
    spread = (p * weighted**2).sum() - losses.mean() ** 2
    assert spread < 0.05 * losses.var(correction=0)  # which is what it is for


def test_training_draws_times_by_importance_and_resumes_bit_for_bit(tmp_path):
    def model():
        return victim.model()

    def run(folder, **changes):
        config = replace(CONFIG, results_folder=str(folder), **changes)
        return train(model(), victim.images(), config)

    whole = [event.loss for event in run(tmp_path / "whole")]
    broken = run(tmp_path / "broken")
    first = [event.loss for event in islice(broken, 70)]
    broken.close()
    rest = [event.loss for event in run(tmp_path / "broken", resume="auto")]
    assert [x.hex() for x in first + rest] == [x.hex() for x in whole]
    state = victim.state_of(tmp_path / "whole")
    history = state["loss_history"]
    assert history.isfinite().all()  # so that the last steps drew their times by it
    assert torch.equal(history, victim.state_of(tmp_path / "broken")["loss_history"])


def test_a_way_of_drawing_times_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match=r"time_sampling.*uniform, importance"):
        next(train(victim.model(), victim.images(), replace(CONFIG, time_sampling="clever")))
