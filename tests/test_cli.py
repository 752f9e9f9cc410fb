"""The command line as a process: what it prints, writes and exits with."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from ddpm_hub import PRESETS, SAMPLERS, GaussianDiffusion, checkpoint
from ddpm_hub.cli.train import resume_command
from ddpm_hub.images import grid, read_metadata
from ddpm_hub.spacings import SPACINGS

QUICK = ("--batch-size", "4", "--sample-steps", "2", "--num-samples", "4", "--seed", "5")


def command(*arguments):
    return [sys.executable, "-m", "ddpm_hub", *arguments]


def run(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120)


def test_sample_writes_a_grid_that_remembers_its_run(tmp_path):
    out = tmp_path / "grid.png"
    how = ("--sampler", "dpmpp_2m_sde", "--spacing", "trailing", "--eta", "0.5", "--seed", "3")
    result = run("sample", "bundled", "--n", "4", "--steps", "2", *how, "--out", str(out))
    assert result.returncode == 0, result.stderr
    assert Image.open(out).size == (56, 56)
    wanted = {"sampler": "dpmpp_2m_sde", "spacing": "trailing", "eta": 0.5, "seed": 3, "steps": 2}
    found = read_metadata(out.read_bytes())
    assert {key: found[key] for key in wanted} == wanted
    drawn = GaussianDiffusion.from_pretrained("bundled").sample(4, progress=False, **wanted)
    difference = np.asarray(Image.open(out), int) - np.asarray(grid(drawn), int)
    assert np.abs(difference).max() <= 1  # sums in another order with another number of threads


def test_sample_in_a_hurry_says_which_way_it_took_and_why(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = tmp_path / "grid.png"
    result = run("sample", "bundled", "--n=4", "--steps=2", "--runtime=auto", f"--out={out}")
    assert result.returncode == 0, result.stderr
    chosen = read_metadata(out.read_bytes())["runtime"]
    assert chosen in ("eager", "packed") and f"runtime {chosen}: " in result.stdout
    refused = run("sample", "bundled", "--n=4", "--runtime=turbo", f"--out={out}")
    assert refused.returncode == 2 and "unknown runtime 'turbo'" in refused.stderr


def test_help_of_sample_names_every_sampler_and_spacing():
    words = " ".join(run("sample", "--help").stdout.replace("│", " ").split())
    assert all(name in words for name in (*SAMPLERS, *SPACINGS))


def test_info_describes_the_bundled_model():
    result = run("info", "bundled")
    assert result.returncode == 0
    for word in ("parameters", "T = 1000", "1 x 28 x 28", "Unet"):
        assert word in result.stdout


def test_bad_input_is_one_sentence_and_exit_code_2():
    result = run("sample", "bundled", "--steps", "0")
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("ddpm-hub: steps 0")
    assert "Traceback" not in result.stderr


def test_what_could_not_be_kept_is_not_drawn(tmp_path):
    for how in (("--out", str(tmp_path)), ("--out", str(tmp_path / "nowhere" / "grid.png"))):
        result = run("sample", "bundled", "--steps", "1", *how)
        assert result.returncode == 1 and "cannot be written: give a file" in result.stderr
        assert "step" not in result.stderr  # no bar was shown
    figures = str(tmp_path / "nowhere" / "figures.json")
    result = run("eval", "bundled", "--no-quality", "--no-likelihood", "--json", figures)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.strip().splitlines()[-1].startswith(f"ddpm-hub: '{figures}' cannot be")


def test_a_file_is_not_taken_for_a_repo(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    result = run("info", str(path))
    assert result.returncode == 2 and "is a file: give the folder of" in result.stderr


def test_a_model_that_is_not_there_is_one_sentence_and_exit_code_1():
    result = run("info", "no such model")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "neither a folder nor a repo id" in result.stderr


def test_help_names_every_command():
    result = run("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in ("train", "sample", "eval", "info"))


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    out = str(tmp_path / "nowhere" / "grid.png")
    result = run("sample", "bundled", "--n", "1", "--steps", "1", "--out", out)
    assert (
        result.returncode == 1 and "Traceback" not in result.stderr and "nowhere" in result.stderr
    )


def test_train_makes_a_model_that_sample_opens_and_a_film_of_it(tmp_path):
    folder = str(tmp_path / "run")
    result = run("train", "--preset", "tiny", "--output", folder, "--steps", "2", *QUICK)
    assert result.returncode == 0, result.stderr
    assert "12,000 images" in result.stdout and "step 2" in result.stdout
    assert "2/2" in result.stderr  # the bar
    assert GaussianDiffusion.from_pretrained(folder).image_size == (28, 28)
    film = tmp_path / "film.webp"
    grid = ("--out", str(tmp_path / "grid.png"), "--gif", str(film))
    result = run("sample", folder, "--n", "1", "--steps", "3", *grid)
    assert result.returncode == 0, result.stderr
    assert Image.open(film).n_frames == 3


def test_train_goes_on_where_it_was_and_says_when_nothing_is_left(tmp_path):
    folder = str(tmp_path / "run")
    assert run("train", "--output", folder, "--steps", "2", *QUICK).returncode == 0
    more = run("train", "--output", folder, "--steps", "3", *QUICK, "--resume", "auto")
    assert more.returncode == 0 and "resumed   at step 2" in more.stdout
    assert len(checkpoint.read_curve(folder)) == 3
    done = run("train", "--output", folder, "--steps", "3", *QUICK, "--resume", "auto")
    assert done.returncode == 0 and "step 3 of 3 is reached" in done.stdout


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_training_politely_and_the_command_that_resumes_is_said(
    number, code, tmp_path
):
    folder = tmp_path / "a run"
    words = ("train", "--output", str(folder), "--steps", "100000", *QUICK, "--resume", "auto")
    process = subprocess.Popen(
        command(*words, "--save-every-minutes", "0"), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not checkpoint.all_of(folder):  # the first step is done
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "finishing the step" in said and "Traceback" not in said
    assert "--resume auto" in said.splitlines()[-1] and "'" in said.splitlines()[-1]
    reached = len(checkpoint.read_curve(folder))
    assert reached >= 1 and checkpoint.newest(folder)
    more = run(*words[:4], str(reached + 1), *words[5:])
    assert more.returncode == 0 and f"at step {reached:,}" in more.stdout


def test_the_command_that_resumes_is_the_same_with_one_resume():
    words = ["train", "--output", "a b", "--resume", "x", "--steps", "3", "--resume=auto"]
    assert resume_command(words) == "ddpm-hub train --output 'a b' --steps 3 --resume auto"


def test_bad_training_options_are_one_sentence_and_exit_code_2(tmp_path):
    for words, says in (
        (("--preset", "huge"), "unknown preset 'huge': choose one of tiny"),
        (("--steps", "0"), "train_num_steps 0"),
        (("--data", str(tmp_path / "nowhere")), "nowhere"),
        (("--mixed-precision", "int8"), "'int8'"),
    ):
        result = run("train", "--output", str(tmp_path / "run"), *words)
        assert result.returncode == 2, result.stderr
        assert says in result.stderr and "Traceback" not in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_the_help_of_train_names_every_preset_with_its_cost_and_every_default():
    shown = " ".join(run("train", "--help").stdout.replace("│", " ").split())
    for name, preset in PRESETS.items():
        assert f"{name}:" in shown and preset.cost.split()[0] in shown
    for option in ("--output", "--resume", "--push-to-hub", "--batch-size", "--log-with"):
        assert option in shown
