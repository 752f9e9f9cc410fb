"""Trainer: programs written for denoising-diffusion-pytorch run here when the import changes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import victim
from PIL import Image

import ddpm_hub
from ddpm_hub import GaussianDiffusion, Trainer, checkpoint
from ddpm_hub.data import bundled
from ddpm_hub.errors import ConfigError
from ddpm_hub.training.trainer import precision_of

ROOT = Path(__file__).parents[1]
SMALL = {
    "train_batch_size": 8,
    "train_num_steps": 4,
    "save_and_sample_every": 2,
    "num_samples": 4,
    "sample_steps": 2,
}

# The training program of the reference's README, its import line changed and its numbers made
# small enough for a test; the folder has 100 images.
README_PROGRAM = """
from ddpm_hub import Unet, GaussianDiffusion, Trainer

model = Unet(
    dim = 8,
    dim_mults = (1, 2),
    flash_attn = True
)

diffusion = GaussianDiffusion(
    model,
    image_size = 16,
    timesteps = 1000,           # number of steps
    sampling_timesteps = 4      # number of sampling timesteps (using ddim for faster inference)
)

trainer = Trainer(
    diffusion,
    'path/to/your/images',
    train_batch_size = 16,
    train_lr = 8e-5,
    train_num_steps = 3,              # total training steps
    gradient_accumulate_every = 2,    # gradient accumulation steps
    ema_decay = 0.995,                # exponential moving average decay
    amp = True,                       # turn on mixed precision
    calculate_fid = True              # whether to calculate fid during training
)

trainer.train()
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """100 garments as colour JPEGs."""
    folder = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(bundled("test")[:100]):
        Image.fromarray(image[0].numpy()).convert("RGB").save(folder / f"{i}.jpg")
    return folder


def trainer(folder, data=None, **more) -> Trainer:
    return Trainer(
        victim.model(),
        victim.images() if data is None else data,
        results_folder=folder,
        **(SMALL | more),
    )


def test_the_readme_program_of_the_reference_runs_on_a_folder_of_100_images(photos, tmp_path):
    place = tmp_path / "path" / "to" / "your"
    place.mkdir(parents=True)
    (place / "images").symlink_to(photos, target_is_directory=True)
    done = subprocess.run(
        [sys.executable, "-c", README_PROGRAM],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "FID is not computed" in done.stderr and "few" not in done.stderr
    assert GaussianDiffusion.from_pretrained(tmp_path / "results").image_size == (16, 16)


def test_it_trains_saves_and_can_be_asked_how_far_it_is(tmp_path, capfd):
    one = trainer(tmp_path / "run")
    assert one.step == 0
    last = one.train()
    assert (one.step, last.step) == (4, 4) and "4/4" in capfd.readouterr().err
    assert list(checkpoint.all_of(tmp_path / "run")) == [2, 4]
    assert one.ema.ema_model.sample(2, steps=2, progress=False).shape == (2, 1, 8, 8)
    one.train(progress=False)
    assert one.step == 4  # nothing was left to do


def test_a_milestone_is_loaded_as_in_the_reference_and_the_run_goes_on(tmp_path):
    first = trainer(tmp_path / "run")
    expected = first.train(progress=False)
    second = trainer(tmp_path / "run")
    second.load(1)
    assert second.step == 2
    assert second.train(progress=False).loss == expected.loss
    with pytest.raises(ConfigError, match=r"milestone 9 \(step 18\).*\[2, 4\]"):
        trainer(tmp_path / "run").load(9)


def test_a_state_can_be_saved_by_hand(tmp_path):
    one = trainer(tmp_path / "run", save_and_sample_every=100)
    one.save()
    assert list(checkpoint.all_of(tmp_path / "run")) == [0]


def test_what_was_saved_is_loaded_by_its_name_the_latest_and_the_best_too(tmp_path):
    one = trainer(tmp_path / "run", train_num_steps=8)
    one.train(progress=False)
    one.save("mine")
    one.save(7)
    for milestone, step in (("mine", 8), (7, 8), (np.int64(2), 4), ("latest", 8)):
        one.load(1)
        assert one.step == 2
        one.load(milestone)
        assert one.step == step
    one.load("best")
    assert one.step == checkpoint.read_facts(checkpoint.newest(tmp_path / "run"))["best_step"]


def test_a_trainer_without_a_folder_loads_nobody_elses_checkpoints(tmp_path, monkeypatch):
    trainer(tmp_path).train(progress=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"milestone 1 \(step 2\) is not in 'None'"):
        trainer(None).load(1)


def test_many_trainers_live_in_one_process(tmp_path):
    """numerics.md C17: the reference allows one."""
    trainers = [trainer(tmp_path / str(i)) for i in range(3)]
    losses = [t.train(progress=False).loss for t in reversed(trainers)]
    assert len(set(losses)) == 1


def test_the_best_and_the_latest_alone_are_kept_if_asked(tmp_path):
    one = trainer(tmp_path / "run", train_num_steps=8, save_best_and_latest_only=True)
    one.train(progress=False)
    kept = list(checkpoint.all_of(tmp_path / "run"))
    assert kept[-1] == 8 and len(kept) <= 2


def test_amp_means_what_it_says_and_none_chooses():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert precision_of(None, "fp16", gpu) == "auto"
    assert precision_of(False, "fp16", gpu) == "no"
    assert precision_of(True, "fp16", gpu) == "fp16"
    assert precision_of(True, "fp16", cpu) == "auto"


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"learning_rate": 1e-3}, r"no argument \['learning_rate'\].*resume"),
        ({"convert_image_to": "RGB"}, r"'RGB' does not fit a model of 1 channels"),
        ({"train_batch_size": 0}, "train_batch_size 0"),
        ({"amp": True, "mixed_precision_type": "fp8"}, "'fp8'"),
    ],
)
def test_wrong_arguments_are_sentences(wrong, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        trainer(tmp_path, **wrong)


def test_every_argument_of_the_reference_is_taken_with_its_default():
    import inspect

    from peers import reference

    theirs = inspect.signature(reference().Trainer.__init__).parameters
    ours = inspect.signature(ddpm_hub.Trainer.__init__).parameters
    assert theirs.keys() <= ours.keys()
    # FID needs a network that cannot be had everywhere; amp=None chooses what is fastest here
    different = {n for n, p in theirs.items() if p.default != ours[n].default}
    assert different == {"calculate_fid", "amp"}
