"""Trainings whose GPU is lent: chunk after chunk in forked workers, for real, and bit for bit."""

import time

import gradio as gr
import pytest
import torch

from ddpm_hub import checkpoint
from ddpm_hub.app import estimate, fork, jobs, lane, limits
from ddpm_hub.app.job import ACTIVE
from ddpm_hub.errors import ConfigError


@pytest.fixture(autouse=True)
def workers_everywhere(monkeypatch):
    monkeypatch.setenv("DDPM_HUB_LANE", "fork")


@pytest.fixture
def small_model(small_presets):
    """Trainings that cost little."""


@pytest.fixture
def workers(monkeypatch):
    """How many workers were forked, as a list that grows."""
    calls, stream = [], fork.stream
    monkeypatch.setattr(fork, "stream", lambda *call: (calls.append(1), stream(*call))[1])
    return calls


def begun(folder, steps=24):
    desk = jobs.Desk(folder)
    options = {"train_batch_size": 2, "num_samples": 1}
    return desk, desk.start(limits.train_request("bundled", "tiny", steps, 3, None, options))


def until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def finished(job):
    until(lambda: job.state not in ACTIVE)
    assert job.state == "done", job.message
    return job


def test_a_training_in_chunks_has_the_losses_and_pictures_of_a_whole_one(
    small_model, workers, tmp_path, monkeypatch
):
    whole = finished(begun(tmp_path / "whole")[1])
    assert len(workers) == 1
    monkeypatch.setenv("DDPM_HUB_CHUNK_SECONDS", "0.4")
    chunked = finished(begun(tmp_path / "chunked")[1])
    assert len(workers) >= 3
    assert chunked.losses == whole.losses and len(whole.losses) == 24
    assert [f.averaged for f in chunked.frames] == [f.averaged for f in whole.frames]
    a, b = whole.model().state_dict(), chunked.model().state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_chunked_training_pauses_with_its_step_and_goes_on(small_model, tmp_path, monkeypatch):
    desk, job = begun(tmp_path, steps=60)
    until(lambda: job.step >= 5)
    desk.end(job.id, "paused")
    until(lambda: job.state not in ACTIVE)
    assert job.state == "paused"
    until(lambda: job.visitor is None)  # nothing of them is kept
    assert checkpoint.read_curve(job.folder)[: job.step] == job.losses
    finished(desk.resume(job.id))
    assert job.step == 60


def test_a_training_whose_visitor_has_no_gpu_left_is_paused_with_the_scheduler_s_words(
    small_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("DDPM_HUB_CHUNK_SECONDS", "0.2")
    granted, left = lane._granted, [True, True]

    def spent(call, wanted):
        if not left:
            raise gr.Error("You have exceeded your <b>quota</b>. <a>Try again in 2:00.</a>")
        left.pop()
        return granted(call, wanted)

    monkeypatch.setattr(lane, "_granted", spent)
    _, job = begun(tmp_path, steps=5000)
    until(lambda: job.state not in ACTIVE)
    assert job.state == "paused" and job.resumable
    assert job.message == (
        f"Paused at step {job.step:,}, all is saved: "
        "You have exceeded your quota. Try again in 2:00."
    )


def test_a_lent_gpu_is_not_spent_on_a_measurement(monkeypatch):
    monkeypatch.setattr(estimate, "_seconds", {})
    with pytest.raises(ConfigError, match="a GPU that is lent is not measured beforehand"):
        estimate.measure("tiny", 2)
