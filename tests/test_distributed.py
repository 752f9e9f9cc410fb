"""Several processes train as one: the same weights, the same files, and resuming with fewer."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import victim
from PIL import Image

from ddpm_hub import checkpoint
from ddpm_hub.distributed import Team, join
from ddpm_hub.errors import ConfigError
from ddpm_hub.training.checks import check_team

ROOT = Path(__file__).parents[1]
PROGRAM = str(ROOT / "tests" / "victim.py")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# Exit handlers run in reverse: this one after those that training has registered.
WATCHED = """
import atexit, sys
from pathlib import Path
import victim

def threads():
    for task in Path("/proc/self/task").iterdir():
        try:
            yield (task / "comm").read_text().strip()
        except OSError:  # it has just ended
            pass

def gloo():
    return sum("gloo" in name for name in threads())

atexit.register(lambda: print("at the end", gloo()))
victim.run(sys.argv[1], train_num_steps=int(sys.argv[2]))
print("trained", gloo() > 0)
"""


def launch(processes, folder, steps, program=PROGRAM):
    """The victim as a program: alone, or under torchrun. What it said."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), program, str(folder), str(steps)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"} | ONE_THREAD,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    launch(1, folder, 20)
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    launch(2, folder, 20)
    return folder


def worst(state, expected, kinds=("model", "ema", "losses")):
    names = [name for name in expected if name.split(".")[0] in kinds]
    return max((state[name] - expected[name]).abs().max().item() for name in names)


def test_two_processes_with_half_the_batch_each_equal_one_with_the_whole(alone, together):
    state = victim.state_of(together)
    assert len(state["losses"]) == 20
    assert worst(state, victim.state_of(alone)) < 1e-6


def test_samples_that_were_shared_out_are_those_that_one_process_draws(alone, together):
    ours, theirs = (
        np.asarray(Image.open(folder / "samples.png"), dtype=int) for folder in (together, alone)
    )
    assert abs(ours - theirs).max() <= 1
    assert abs(ours[:, :8] - ours[:, 8:]).max() > 10  # two samples, and not one twice


def test_files_are_written_once_and_none_is_left_over(together):
    names = sorted(p.name for p in together.iterdir())
    assert names == [
        "README.md", "checkpoints", "config.json", "loss.png", "model.safetensors", "samples.png",
        "training.json",
    ]  # fmt: skip
    assert list(together.rglob("*.tmp")) == []
    assert 20 in checkpoint.all_of(together)


def test_what_two_processes_began_one_can_finish(alone, tmp_path):
    launch(2, tmp_path, 12)
    assert len(checkpoint.read_curve(tmp_path)) == 12
    launch(1, tmp_path, 20)
    assert worst(victim.state_of(tmp_path), victim.state_of(alone)) < 1e-6


def test_no_thread_of_the_team_is_left_when_the_interpreter_ends(tmp_path):
    """One that then wants Python's lock would abort the process, after all was done and saved."""
    (tmp_path / "watched.py").write_text(WATCHED)
    said = launch(2, tmp_path / "run", 2, str(tmp_path / "watched.py"))
    assert sorted(said.split("\n")) == ["", *["at the end 0"] * 2, *["trained True"] * 2]


def test_a_batch_that_cannot_be_shared_is_a_sentence():
    config = victim.replace(victim.CONFIG, train_batch_size=9)
    with pytest.raises(ConfigError, match=r"train_batch_size 9 .* 2 processes: use 8"):
        check_team(config, Team(0, 2))


def test_alone_a_team_changes_nothing():
    team, rows = join(torch.device("cpu")), torch.rand(3, 2)
    module = torch.nn.Linear(2, 2)
    assert team == Team(0, 1) and team.leads
    assert team.sum(rows) is rows and team.gather(rows) is rows and team.wrap(module) is module
