"""Runs on the Hub: the real client, over HTTP, with a Hub on this machine that can be told to fail.

The client works in processes of its own, which read HF_ENDPOINT and HF_TOKEN when they start.
Just over 300 lines: all of them share one way of starting such a process.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
import victim
from huggingface_hub import HfApi

from ddpm_hub import checkpoint, hub, train
from ddpm_hub.errors import HubError
from ddpm_hub.hub import client, publish

HERE = Path(__file__).parent
REPO = "alice/run"
MODEL = {
    "config.json",
    "model.safetensors",
    "README.md",
    "samples.png",
    "loss.png",
    "training.json",
}
STATE = "checkpoints/step-{:08d}.safetensors"
MINE = b"---\nlicense: mit\n---\n# My own words\n"
DOWNLOAD = {False: "GET /cdn/", True: "GET /cas/xorb/"}
FEW = "ignore:40 images are few"  # which is so
pytestmark = pytest.mark.filterwarnings("error", FEW)


@pytest.fixture
def results(tmp_path):
    """A results folder of 6 steps, made without the Hub."""
    folder = tmp_path / "results"
    list(training(folder, train_num_steps=6, push_to_hub=None))
    return folder


def training(folder, **changes):
    """The events of a run that is pushed whenever it is saved: every 3 steps."""
    plan = {"results_folder": str(folder), "push_to_hub": REPO, "push_every_minutes": 0.0}
    return train(victim.model(), victim.images(), replace(victim.CONFIG, **plan | changes))


def api(server):
    return HfApi(server.url, token=os.environ["HF_TOKEN"])


def content(server, name, repo=REPO):
    path = api(server).hf_hub_download(repo, name, cache_dir=os.environ["HF_HOME"])
    return Path(path).read_bytes()


def commits(server):
    return [c.title for c in reversed(api(server).list_repo_commits(REPO))][1:]


def missed(caught):
    return sum("was not pushed" in str(warning.message) for warning in caught)


def machine(program, *arguments):
    """Run a program in a process of its own; its stdout."""
    paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_training_is_pushed_while_it_lasts_and_at_its_end(server, tmp_path, capfd):
    list(training(tmp_path / "run", train_num_steps=8))
    assert commits(server) == ["Step 3", "Step 6", "Step 8"]
    assert set(api(server).list_repo_files(REPO)) == {".gitattributes", STATE.format(8), *MODEL}
    assert json.loads(content(server, "training.json"))["step"] == 8
    for name in {STATE.format(8), *MODEL} - {"README.md"}:
        assert content(server, name) == (tmp_path / "run" / name).read_bytes()
    assert f'from_pretrained("{REPO}")' in content(server, "README.md").decode()
    assert "".join(capfd.readouterr()) == ""


def test_between_two_pushes_there_are_minutes(server, tmp_path):
    list(training(tmp_path / "run", train_num_steps=8, push_every_minutes=5.0))
    assert commits(server) == ["Step 8"]


OPENING = """
import sys, torch
from ddpm_hub import GaussianDiffusion
there, here = (GaussianDiffusion.from_pretrained(where) for where in sys.argv[1:])
here, there = here.state_dict(), there.state_dict()
print(here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here))
"""


def test_from_pretrained_opens_what_was_pushed(server, results):
    hub.push_run(results, REPO, 6)
    assert machine(OPENING, REPO, results) == "True\n"


VANISHING = """
import os, sys
from itertools import islice
from test_hub_runs import torch, training
torch.set_num_threads(1)
run = training(sys.argv[1])
list(islice(run, 20))
os._exit(0)  # nothing is saved, nothing pushed any more
"""
GOING_ON = """
import sys
from test_hub_runs import torch, training
torch.set_num_threads(1)
print(next(training(sys.argv[1], train_num_steps=40)).step)
"""


def test_a_run_goes_on_from_the_hub_on_another_machine_bit_for_bit(server, tmp_path):
    victim.run(tmp_path / "uninterrupted", push_to_hub=None)
    expected = victim.state_of(tmp_path / "uninterrupted")
    machine(VANISHING, tmp_path / "first")
    shutil.rmtree(tmp_path / "first")
    assert machine(GOING_ON, tmp_path / "second") == "19\n"  # 18 was pushed
    losses = [event.loss for event in training(tmp_path / "third")]
    assert losses == expected["losses"].tolist()[19:]
    state = victim.state_of(tmp_path / "third")
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []
    assert not (tmp_path / "third" / publish.STAGING).exists()


def test_a_readme_edited_in_the_repo_survives_later_pushes(server, tmp_path):
    run = training(tmp_path / "run", train_num_steps=8)
    list(islice(run, 3))
    api(server).upload_file(
        path_or_fileobj=MINE, path_in_repo="README.md", repo_id=REPO, commit_message="edit"
    )
    list(run)
    assert commits(server) == ["Step 3", "edit", "Step 6", "Step 8"]
    assert content(server, "README.md") == MINE


def test_a_hub_that_goes_down_is_a_warning_and_the_files_stay_here(server, tmp_path):
    run = training(tmp_path / "run", train_num_steps=8)
    list(islice(run, 3))
    server.__exit__()
    with pytest.warns(UserWarning, match=r"step \d was not pushed.*network; it is saved") as caught:
        assert [event.step for event in run] == [4, 5, 6, 7, 8]
    assert missed(caught) == 2
    assert checkpoint.newest(tmp_path / "run").name == "step-00000008.safetensors"


def test_a_push_that_failed_is_made_up_for_by_the_next_one(server, tmp_path):
    server.fault("POST /api/models/alice/run/commit", "status:503", nth=2, times=4)
    with pytest.warns(UserWarning, match="step 6 was not pushed") as caught:
        list(training(tmp_path / "run", train_num_steps=8))
    assert missed(caught) == 1
    assert commits(server) == ["Step 3", "Step 8"]
    assert STATE.format(8) in api(server).list_repo_files(REPO)


@pytest.mark.parametrize("role", ["write", "read"])
def test_a_repo_without_the_right_to_write_is_a_warning_that_names_the_cure(
    role, server, tmp_path, monkeypatch
):
    HfApi(server.url, token=server.add_token("bob")).create_repo("bob/run")
    monkeypatch.setenv("HF_TOKEN", server.add_token("alice", role))
    with pytest.warns(
        UserWarning, match=r"Forbidden: you.*write.*: use a token with the right to write there"
    ):
        last = list(training(tmp_path / "run", train_num_steps=3, push_to_hub="bob/run"))[-1]
    assert last.checkpoint == str(tmp_path / "run")


def test_who_is_not_logged_in_is_told_how_to(server, results, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(HubError, match="hf auth login"):
        hub.push_run(results, REPO, 6)
    with pytest.raises(HubError, match=r"hf auth login.*or train with resume=None"):
        hub.fetch_checkpoint(REPO, results)


def test_a_repo_that_does_not_exist_yet_is_simply_started(server, tmp_path):
    assert next(training(tmp_path / "run")).step == 1  # and every warning is an error here


def test_a_repo_without_checkpoints_has_none_to_go_on_from(server, results, tmp_path):
    api(server).create_repo(REPO)
    assert hub.fetch_checkpoint(REPO, tmp_path / "empty") is None


def test_the_newest_of_several_checkpoints_is_fetched(server, results, tmp_path):
    api(server).create_repo(REPO)
    for step in (900, 1000, 6):
        name = STATE.format(step)
        api(server).upload_file(
            path_or_fileobj=results / STATE.format(6), path_in_repo=name, repo_id=REPO
        )
    assert hub.fetch_checkpoint(REPO, tmp_path / "other") == tmp_path / "other" / STATE.format(1000)


def test_a_network_of_somebodys_own_is_pushed_without_a_model(server, results, tmp_path):
    """`from_pretrained` could not build it, but a run can go on."""
    for name in ("config.json", "model.safetensors", "README.md"):
        (results / name).unlink()
    hub.push_run(results, REPO, 6)
    assert hub.fetch_checkpoint(REPO, tmp_path / "other").name == "step-00000006.safetensors"


def test_a_push_without_changes_makes_no_commit(server, results):
    hub.push_run(results, REPO, 6)
    url = hub.push_run(results, REPO, 6)
    assert commits(server) == ["Step 6"] and url.startswith(f"{server.url}/{REPO}/commit/")


def test_one_wrong_bit_on_the_way_is_found(xet, server, results, tmp_path):
    hub.push_run(results, REPO, 6)
    server.fault(DOWNLOAD[xet], "corrupt", times=10)
    with pytest.raises(HubError, match="arrived damaged: try again"):
        hub.fetch_checkpoint(REPO, tmp_path / "other")
    assert list((tmp_path / "other").rglob("*")) == []


def test_a_download_that_is_cut_short_is_taken_up_again(xet, server, results, tmp_path):
    hub.push_run(results, REPO, 6)
    server.fault(DOWNLOAD[xet], "truncate:1000")
    path = hub.fetch_checkpoint(REPO, tmp_path / "other")
    assert path.read_bytes() == (results / STATE.format(6)).read_bytes()


def test_what_a_killed_download_left_is_removed(server, results, tmp_path):
    hub.push_run(results, REPO, 6)
    left = tmp_path / "other" / publish.STAGING / "half.incomplete"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    hub.fetch_checkpoint(REPO, tmp_path / "other")
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["checkpoints"]


@pytest.mark.parametrize("asked", ["POST /api/repos/create", "POST /cas/", "POST .*/commit/"])
def test_a_server_that_falls_silent_is_given_up(asked, server, results, monkeypatch):
    monkeypatch.setattr(client, "SILENCE", 1.0)
    server.fault(asked, "slow:600", times=100)
    begun = time.monotonic()
    with pytest.raises(HubError, match="could not be written"):
        hub.push_run(results, REPO, 6)
    assert time.monotonic() - begun < 60


def test_storage_that_is_down_is_given_up(server, results):
    server.fault("POST /cas/v1/xorbs", "status:503", times=100)
    begun = time.monotonic()
    with pytest.raises(HubError, match=r"503 Service Unavailable.*check the name and the network"):
        hub.push_run(results, REPO, 6)
    assert time.monotonic() - begun < 60


def test_a_server_that_drips_is_given_up_in_the_end(server, results, monkeypatch):
    """Each byte comes in time, the whole never."""
    monkeypatch.setattr(client, "LONGEST", 3.0)
    server.fault("GET /api/models/alice/run", "drip:600", times=9)
    begun = time.monotonic()
    with pytest.raises(HubError, match=r"not done after 0.05 minutes\): check the name"):
        hub.push_run(results, REPO, 6)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("name", ["run", "a/b/c", "../run", "alice/", "al ice/run", ""])
def test_a_repo_is_named_user_slash_name(name, results):
    for call in (
        lambda: hub.push_run(results, name, 6),
        lambda: hub.fetch_checkpoint(name, results),
    ):
        with pytest.raises(HubError, match="use user/name"):
            call()
