"""The project's own files: requirements in step, entry point, package data, no machine's paths."""

import importlib.metadata as metadata
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXTS = {".py", ".md", ".toml", ".txt", ".json", ".js", ".css", ".yml", ""}
PROJECT = (ROOT / "pyproject.toml").read_text()


def listed(text):
    """Requirements in a text, as written."""
    return set(re.findall(r"^\s*\"?([a-z][\w-]*(?:\[\w+\])?[<>=][^\"#;]*?)\"?,?\s*$", text, re.M))


def dependencies():
    return listed(PROJECT.split("dependencies = [")[1].split("]")[0])


def test_requirements_txt_names_the_runtime_dependencies_of_the_package_and_no_other():
    assert dependencies() == listed((ROOT / "requirements.txt").read_text())


def test_the_runtime_is_the_eight_packages_of_the_architecture_and_nothing_else():
    names = {re.match(r"[\w-]+", line)[0] for line in dependencies()}
    assert names == {
        *("torch", "einops", "numpy", "gradio", "huggingface-hub", "safetensors", "tqdm", "pillow"),
    }


def test_the_version_is_written_the_same_everywhere():
    from ddpm_hub import __version__

    assert f'version = "{__version__}"' in PROJECT
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_entry_point_leads_to_a_function():
    points = metadata.entry_points(group="console_scripts", name="ddpm-hub")
    assert [point.value for point in points] == ["ddpm_hub.cli:main"]
    assert all(callable(point.load()) for point in points)


def test_every_file_of_the_package_is_packaged():
    patterns = re.findall(r'"((?:assets|app)/[^"]+)"', PROJECT)
    package = ROOT / "ddpm_hub"
    packaged = {p for pattern in patterns for p in package.glob(pattern) if p.is_file()}
    other = {
        p
        for p in package.rglob("*")
        if p.is_file() and p.suffix not in {".py", ".pyc"} and "__pycache__" not in p.parts
    }
    assert other <= packaged


def test_bundled_data_and_model_are_within_their_size_and_have_their_licences():
    assets = ROOT / "ddpm_hub" / "assets"
    files = [p for p in assets.rglob("*") if p.is_file()]
    weights = [p for p in files if p.suffix == ".safetensors"]
    assert weights
    assert all(p.stat().st_size <= 12 * 2**20 for p in weights)
    assert sum(p.stat().st_size for p in files if p not in weights) <= 5 * 2**20
    assert [p for p in files if "licen" in p.name.lower()]


def test_ci_runs_the_command_that_the_readme_gives():
    script = ROOT / ".ci" / "run"
    assert "make test" in script.read_text()
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench", "help"])
def test_the_makefile_has_the_target_and_help_lists_it(target):
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"make {target}" in done.stdout


def test_no_file_of_the_repository_holds_a_path_of_somebodys_machine():
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    home = re.compile(r"(?<![\w.])/(?:home|Users|root|work|tmp)/[\w.-]")
    for name in names:
        path = ROOT / name
        if path.is_file() and path.suffix in TEXTS:
            assert not home.search(path.read_text(errors="replace")), name


def test_no_test_is_skipped_or_expected_to_fail():
    mark = re.compile(r"pytest\.(?:mark\.)?(?:skip|xfail|importorskip|skipif)\b")
    for path in (ROOT / "tests").rglob("*.py"):
        if path != Path(__file__):
            assert not mark.search(path.read_text()), path.name
