"""The README is executable: its first program runs, and every command in it exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_hub import samplers

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def blocks(language, text=TEXT):
    """The fenced blocks of a language, in order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.M | re.S)
    return [text for name, text in fenced if name == language]


def commands():
    """Every line that starts with a program of ours, in a shell block or in backticks."""
    shells = "\n".join(b for kind in ("", "bash", "sh", "console") for b in blocks(kind))
    lines = shells.split("\n")
    lines += re.findall(r"`((?:make|ddpm-hub) [^`]*)`", TEXT)
    return sorted({line.split("#")[0].strip().removeprefix("$ ") for line in lines if line.strip()})


def test_the_first_program_runs_as_pasted_and_is_about_ten_lines(tmp_path):
    program = blocks("python")[0]
    code = [line for line in program.split("\n") if line.strip() and not line.startswith("#")]
    assert len(code) <= 12
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


GUIDES = "".join((ROOT / "docs" / name).read_text() for name in ("sampling.md", "performance.md"))
PASTED = [code for code in blocks("python") if "img2img" in code] + blocks("python", GUIDES)


@pytest.mark.parametrize("program", PASTED, ids=range(len(PASTED)))
def test_programs_that_edit_measure_and_hurry_run_as_pasted(program, monkeypatch, tmp_path):
    monkeypatch.setattr(samplers, "SAMPLERS", dict(samplers.SAMPLERS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # figures of this machine are its own
    exec(compile(program, "docs", "exec"), {})


def test_the_readme_shows_both_commands():
    assert "make demo" in commands()
    assert "make test" in commands()


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make ")])
def test_a_make_command_in_the_readme_is_a_target(command):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set(command.split()[1:2]) <= targets


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("ddpm-hub ")])
def test_a_cli_command_in_the_readme_exists_with_its_options(command):
    words = command.split()
    options = [w.split("=")[0] for w in words if w.startswith("--")]
    shown = subprocess.run(
        [sys.executable, "-m", "ddpm_hub", words[1], "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert shown.returncode == 0, shown.stderr
    assert [o for o in options if o not in shown.stdout] == []


@pytest.mark.parametrize("script", sorted(set(re.findall(r"python3? ([\w/]+\.py)", TEXT))))
def test_a_script_in_the_readme_exists(script):
    assert (ROOT / script).is_file()


@pytest.mark.parametrize(
    "link", sorted(set(re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", TEXT)))
)
def test_a_link_or_picture_in_the_readme_is_in_the_repository(link):
    assert (ROOT / link).exists()


def test_the_readme_has_a_picture():
    assert re.search(r"!\[[^\]]+\]\([^)]+\)|<img [^>]*alt=", TEXT)
