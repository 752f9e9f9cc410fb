"""The models in memory: one for each commit, as many as there is room for, whose they are.

A Hub on this machine answers, with the real client; only what a model weighs is chosen here.
"""

import os
from pathlib import Path

import pytest
import torch
from hub_page import small
from hub_support import api, hub_on_this_machine

from ddpm_hub.app import jobs, machine, models, opened
from ddpm_hub.app.tabs import header

NAME = "alice/small"


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    """No model is in memory, and nothing was asked."""
    for name in ("_models", "_cards", "_reading", "_commits"):
        monkeypatch.setattr(models, name, type(getattr(models, name))())


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_on_this_machine(monkeypatch, tmp_path / "home") as server:
        yield server


def push(hub, seed, folder):
    """A commit of the repo with that model; its hash."""
    small(seed).save_pretrained(folder)
    api(hub).create_repo(NAME, exist_ok=True)
    return api(hub).upload_folder(repo_id=NAME, folder_path=folder).oid


def weight(diffusion):
    return next(diffusion.parameters()).detach()


# ---- a repository's commits ---------------------------------------------------------------------
def test_two_names_of_one_commit_share_the_memory_and_are_read_once(hub, tmp_path):
    commit = push(hub, 1, tmp_path / "a")
    by_branch, by_commit = models.load(NAME, "main"), models.load(f"{NAME}@{commit}")
    assert by_branch is by_commit is models.load(NAME)
    assert list(models._models) == [(NAME, commit)]
    assert models.exact_name(NAME) == f"{NAME}@{commit}" == models.exact_name(f"{NAME}@main")


def test_a_branch_that_has_moved_on_is_seen_and_the_old_commit_stays_what_it_was(
    hub, tmp_path, monkeypatch
):
    old = push(hub, 1, tmp_path / "a")
    first = models.load(NAME)
    new = push(hub, 2, tmp_path / "b")
    assert models.load(NAME) is first  # asked a moment ago
    monkeypatch.setattr(models, "ASKED_SECONDS", 0.0)
    second = models.load(NAME)
    assert not torch.equal(weight(first), weight(second))
    assert set(models._models) == {(NAME, old), (NAME, new)}
    assert models.load(NAME, old) is first


def test_a_commit_in_memory_is_not_asked_for_again_and_no_token_is_ever_sent(hub, tmp_path):
    commit = push(hub, 1, tmp_path / "a")
    hub.clear()
    models.load(NAME)
    asked = len(hub.log)
    assert asked and "alice" not in {request["auth"] for request in hub.log}
    models.model_card(f"{NAME}@{commit}")
    models.load(NAME)
    assert len(hub.log) == asked


def test_the_page_keeps_the_exact_name(hub, tmp_path):
    commit = push(hub, 1, tmp_path / "a")
    assert header.use_model(NAME)[0] == f"{NAME}@{commit}"
    assert header.use_model("bundled")[0] == "bundled"
    assert header.use_model("alice/missing")[0] == "alice/missing"


def test_names_that_strangers_make_up_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(opened, "commit", lambda repo, revision: "0" * 40)
    for number in range(600):
        models.exact_name(f"alice/model-{number}")
    assert len(models._commits) <= 256


# ---- room ---------------------------------------------------------------------------------------
def names():
    return [repo for repo, _ in models._models]


def test_the_least_used_goes_when_there_are_too_many_and_the_bundled_one_never(monkeypatch):
    monkeypatch.setattr(models, "MAX_MODELS", 2)
    models.load("bundled")
    for number in (1, 2):
        models.adopt(f"a/{number}", small(number))
    models.load("a/1")
    models.adopt("a/3", small(3))
    assert names() == ["bundled", "a/1", "a/3"]
    models.load("bundled")
    assert sorted(names()) == ["a/1", "a/3", "bundled"]


def test_bytes_bound_the_memory_and_the_model_in_use_stays_however_large_it_is(monkeypatch):
    one = models._bytes(small(1))
    monkeypatch.setattr(machine, "room_for_models", lambda: int(2.5 * one))
    for number in range(5):
        models.adopt(f"a/{number}", small(number), "a card")
    assert names() == ["a/3", "a/4"]
    assert len(models._cards) == 2
    monkeypatch.setattr(machine, "room_for_models", lambda: 1)
    kept = models.adopt("a/5", small(5))
    assert names() == ["a/5"] and models.load("a/5") is kept


def test_models_have_a_share_of_the_memory_that_the_container_may_use(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "CGROUP", limit)
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine.memory() == physical
    limit.write_text("max\n")
    assert machine.memory() == physical
    limit.write_text("1000000000\n")
    assert machine.memory() == 10**9
    assert machine.room_for_models() == 250_000_000


# ---- the machine --------------------------------------------------------------------------------
def test_the_device_line_says_what_where_and_how_much():
    where, formats, memory = machine.line().split(" · ")
    assert where.startswith("cpu, ") and where.endswith(("thread", "threads"))
    assert formats.split(",")[0] == "float32"
    _, unit, *rest = memory.split()
    assert rest == ["in", "use"] and unit in ("MB", "GB")
    assert 10e6 < machine.memory_used() < machine.memory()


def test_the_memory_in_use_follows_what_is_allocated():
    before = machine.memory_used()
    held = torch.ones(50_000_000 // 4)
    assert machine.memory_used() - before > 40e6
    del held


def test_trainings_lie_on_the_volume_of_a_space_unless_somebody_says_where(monkeypatch, tmp_path):
    monkeypatch.delenv("DDPM_HUB_RUNS", raising=False)
    monkeypatch.setattr(machine, "VOLUME", tmp_path)
    assert machine.runs_folder() == Path("runs").resolve()  # a /data at home is nobody's bucket
    monkeypatch.setenv("SPACE_ID", "alice/demo")
    assert machine.runs_folder() == tmp_path / "runs"
    monkeypatch.setenv("DDPM_HUB_RUNS", str(tmp_path / "mine"))
    assert machine.runs_folder() == tmp_path / "mine"


def test_a_space_that_restarts_finds_its_trainings_on_the_volume(monkeypatch, tmp_path):
    monkeypatch.delenv("DDPM_HUB_RUNS", raising=False)
    monkeypatch.setenv("SPACE_ID", "alice/demo")
    monkeypatch.setattr(machine, "VOLUME", tmp_path)
    folder = tmp_path / "runs" / ("a" * 16)
    request = jobs.limits.train_request("bundled", "tiny", 10, 0)
    jobs.Job.create(folder, request, "garments").become("running")
    (found,) = jobs.Desk(machine.runs_folder()).newest()
    assert (found.id, found.state, found.resumable) == ("a" * 16, "interrupted", True)
    assert "Resume goes on from step 0" in found.sentence()
