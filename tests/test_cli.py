"""The command line as a process: what it prints, writes and exits with."""

import subprocess
import sys

from PIL import Image

from ddpm_hub.images import read_metadata


def run(*arguments):
    command = [sys.executable, "-m", "ddpm_hub", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_sample_writes_a_grid_that_remembers_its_run(tmp_path):
    out = tmp_path / "grid.png"
    result = run("sample", "bundled", "--n", "4", "--steps", "2", "--seed", "3", "--out", str(out))
    assert result.returncode == 0, result.stderr
    assert Image.open(out).size == (56, 56)
    assert read_metadata(out.read_bytes())["seed"] == 3


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


def test_a_model_that_is_not_there_is_one_sentence_and_exit_code_1():
    result = run("info", "no such model")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "neither a folder nor a repo id" in result.stderr


def test_help_names_every_command():
    result = run("--help")
    assert result.returncode == 0 and "sample" in result.stdout and "info" in result.stdout


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    out = str(tmp_path / "nowhere" / "grid.png")
    result = run("sample", "bundled", "--n", "1", "--steps", "1", "--out", out)
    assert (
        result.returncode == 1 and "Traceback" not in result.stderr and "nowhere" in result.stderr
    )
