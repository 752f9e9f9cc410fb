"""Checkpoints as files: found, pruned, cleaned, refused in a sentence; and a disk that says no."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import pytest
import torch
import victim

from ddpm_hub import GaussianDiffusion, Unet, checkpoint, train
from ddpm_hub.errors import CheckpointError
from ddpm_hub.training.state import State

ROOT = Path(__file__).parents[1]
TENSORS = {"losses": torch.arange(3, dtype=torch.float64), "model.w": torch.ones(2)}


def put(folder, *steps):
    return [checkpoint.write(folder, TENSORS, {"step": step}) for step in steps]


def test_what_is_written_is_read_again_facts_and_all(tmp_path):
    (path,) = put(tmp_path, 7)
    tensors, facts = checkpoint.read(path)
    assert facts == checkpoint.read_facts(path) == {"step": 7}
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert checkpoint.read_curve(tmp_path) == [0, 1, 2]
    assert checkpoint.read_curve(tmp_path / "nowhere") == []


def test_the_newest_is_by_step_and_a_damaged_one_is_passed_over(tmp_path):
    paths = put(tmp_path, 100, 20, 3)
    assert list(checkpoint.all_of(tmp_path)) == [3, 20, 100]
    assert checkpoint.newest(tmp_path) == paths[0]
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    assert checkpoint.newest(tmp_path) == paths[1]


def test_the_last_few_and_the_best_are_kept(tmp_path):
    put(tmp_path, *range(1, 9))
    checkpoint.prune(tmp_path, keep=2, best=3)
    assert list(checkpoint.all_of(tmp_path)) == [3, 7, 8]


def test_leftovers_of_a_crash_are_removed_and_nothing_else(tmp_path):
    put(tmp_path, 1)
    left = tmp_path / "checkpoints" / ".step-00000002.safetensors.123.tmp"
    mine = tmp_path / ".notes.tmp.txt"
    for path in (left, mine):
        path.write_text("half")
    checkpoint.clean(tmp_path)
    assert not left.exists() and mine.exists() and checkpoint.newest(tmp_path)


def test_a_new_run_in_an_old_folder_sets_the_old_checkpoints_aside(tmp_path):
    victim.run(tmp_path, train_num_steps=3, resume=None)
    with pytest.warns(UserWarning, match=r"earlier run.*checkpoints\.old"):
        victim.run(tmp_path, train_num_steps=6, resume=None)
    assert list(checkpoint.all_of(tmp_path)) == [3, 6]
    old = tmp_path / "checkpoints.old" / "step-00000003.safetensors"
    assert checkpoint.read_facts(old)["step"] == 3


@pytest.mark.parametrize("resume", ["auto", "folder", "file"])
def test_a_run_resumes_from_auto_a_folder_or_a_file(resume, tmp_path):
    victim.run(tmp_path / "run", train_num_steps=4)
    file = checkpoint.newest(tmp_path / "run")
    where = {"auto": "auto", "folder": str(tmp_path / "run"), "file": str(file)}[resume]
    folder = tmp_path / ("run" if resume == "auto" else "other")
    assert len(victim.run(folder, train_num_steps=6, resume=where)) == 2
    assert len(checkpoint.read_curve(folder)) == 6


def test_auto_with_nothing_to_resume_from_starts_anew(tmp_path):
    assert len(victim.run(tmp_path / "new", train_num_steps=2)) == 2


def test_another_network_a_foreign_file_and_an_empty_folder_are_sentences(tmp_path):
    victim.run(tmp_path, train_num_steps=2)
    other = GaussianDiffusion(Unet(12, dim_mults=(1, 2), channels=1), image_size=8, timesteps=50)
    config = victim.replace(victim.CONFIG, results_folder=str(tmp_path))
    with pytest.raises(CheckpointError, match="another network"):
        train(other, victim.images(), config)
    (tmp_path / "empty").mkdir()
    foreign = tmp_path / "model.safetensors"
    for resume, words in ((tmp_path / "empty", "no checkpoint"), (foreign, "no checkpoint")):
        with pytest.raises(CheckpointError, match=words):
            train(victim.model(), victim.images(), victim.replace(config, resume=str(resume)))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"timesteps": 40}, "trained with timesteps 50, this process has 40"),
        ({"objective": "pred_noise"}, "trained with objective 'pred_v'"),
        ({"beta_schedule": "cosine"}, "trained with beta_schedule 'sigmoid'"),
    ],
)
def test_a_run_is_not_resumed_in_another_process(changed, words, tmp_path):
    victim.run(tmp_path, train_num_steps=2)
    tensors, facts = checkpoint.read(checkpoint.newest(tmp_path))
    as_it_was = victim.model()
    other = GaussianDiffusion(as_it_was.model, **as_it_was.config | changed)
    with pytest.raises(CheckpointError, match=words):
        State(other, victim.CONFIG).restore(tensors, facts)
    State(as_it_was, victim.CONFIG).restore(tensors, facts)
    del facts["process"]  # as states were before
    State(other, victim.CONFIG).restore(tensors, facts)


def test_an_incomplete_state_is_a_sentence(tmp_path):
    victim.run(tmp_path, train_num_steps=2)
    tensors, facts = checkpoint.read(checkpoint.newest(tmp_path))
    del facts["skipped"]
    with pytest.raises(CheckpointError, match="incomplete or of another version"):
        State(victim.model(), victim.CONFIG).restore(tensors, facts)


def test_the_report_beside_the_model_has_the_curve_and_the_configuration(tmp_path):
    losses = victim.run(tmp_path)
    report = json.loads((tmp_path / "training.json").read_text())
    assert report["step"] == 40 and report["config"]["train_batch_size"] == 8
    assert report["curve"]["step"] == list(range(1, 41)) and report["curve"]["loss"] == losses
    assert len(report["loss_by_t"]) == 10 and report["images_seen"] == 640


def test_interrupted_in_its_middle_a_step_leaves_the_state_of_the_last_whole_one(tmp_path):
    """Ctrl-C in the network: the optimiser has not moved, and what is saved is exact."""

    class Nervous(GaussianDiffusion):
        calls = 0

        def forward(self, *args, **kwargs):
            self.calls += 1
            if self.calls == 8:  # the second half of step 4
                raise KeyboardInterrupt
            return super().forward(*args, **kwargs)

    config = victim.replace(victim.CONFIG, results_folder=str(tmp_path))
    nervous = Nervous(victim.model().model, **victim.model().config)
    with pytest.raises(KeyboardInterrupt):
        list(train(nervous, victim.images(), config))
    expected = tmp_path / "expected"
    run = train(
        victim.model(), victim.images(), victim.replace(config, results_folder=str(expected))
    )
    list(islice(run, 3))
    run.close()
    state, other = victim.state_of(tmp_path), victim.state_of(expected)
    assert len(state["losses"]) == 3
    assert [name for name in other if not torch.equal(state[name], other[name])] == []


REFUSED = """
import sys
import victim
from ddpm_hub.errors import CheckpointError
run = victim.train(victim.model(), victim.images(),
                   victim.replace(victim.CONFIG, results_folder=sys.argv[1]))
try:
    for event in run:
        if event.step == 4:
            {trouble}
except CheckpointError as error:
    print(error)
    sys.exit(7)
"""


def refused(folder, trouble):
    """What a training says whose folder becomes unwritable after step 4."""
    done = subprocess.run(
        [sys.executable, "-c", REFUSED.format(trouble=trouble), str(folder)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 7, done.stderr[-2000:]
    return done.stdout


def assert_loadable(folder, step):
    assert len(checkpoint.read_curve(folder)) == step
    victim.run(folder, train_num_steps=step + 1)
    assert GaussianDiffusion.from_pretrained(folder)
    assert [p for p in folder.rglob("*.tmp")] == []


def test_a_full_disk_leaves_the_checkpoint_before_and_is_a_typed_error(tmp_path):
    """A limit on the size of files makes writing fail half-way, as a full disk does."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    says = refused(tmp_path, limit)
    assert "step 6 could not be saved" in says and "too large" in says.lower()
    assert_loadable(tmp_path, 3)


def test_a_folder_that_became_read_only_does_too():
    """As another user from then on, since root may write everywhere."""
    folder = Path(tempfile.mkdtemp())
    lock = (
        "import os; os.chmod(sys.argv[1] + '/checkpoints', 0o555); "
        "os.geteuid() or os.seteuid(65534)"
    )
    try:
        folder.chmod(0o755)
        says = refused(folder, lock)
        assert "step 6 could not be saved" in says and "denied" in says
        (folder / "checkpoints").chmod(0o755)
        assert_loadable(folder, 3)
    finally:
        shutil.rmtree(folder)
