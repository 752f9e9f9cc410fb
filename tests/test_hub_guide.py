"""docs/hub.md is executable: its commands and programs run in order, on a Hub on this machine."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from local_hub import LocalHub
from support import HERE, TRAINER

from ddpm_hub import GaussianDiffusion, card, hub
from ddpm_hub.config_file import MAX_BYTES
from ddpm_hub.hub_model import MAX_PARAMETERS

ROOT = HERE.parent
GUIDE = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.M | re.S)
COMMANDS = [line for kind, text in BLOCKS if not kind for line in text.splitlines()]
PROGRAMS = [text for kind, text in BLOCKS if kind == "python"]
# what makes a command of the guide quick, or gives it what the reader has
SHORTER = {
    "train": "--steps 3 --batch-size 4 --num-samples 4 --sample-steps 2",
    "sample": "--n 4 --steps 2",
    "eval": "--samples 2 --batch-size 2 --steps 1 --reference-images 64 --loss-images 2",
    "convert model-7.pt": "--image-size 16",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model-7.pt, and a Hub where "user" is logged in and google has its DDPM."""
    folder = tmp_path_factory.mktemp("guide")
    shutil.copy(TRAINER / "model-1.pt", folder / "model-7.pt")
    with LocalHub() as server:
        google = HfApi(server.url, token=server.add_token("google"))
        google.create_repo("google/ddpm-cifar10-32")
        google.upload_folder(
            repo_id="google/ddpm-cifar10-32", folder_path=HERE / "golden" / "diffusers_pipeline"
        )
        environment = {"HF_ENDPOINT": server.url, "HF_TOKEN": server.add_token("user")}
        environment |= {"HF_HOME": str(folder / "hf"), "DDPM_HUB_CACHE": str(folder / "cache")}
        yield folder, os.environ | environment | {"PYTHONPATH": f"{ROOT}:{HERE}"}


def run(place, *words):
    folder, environment = place
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def arguments(command):
    more = [words for start, words in SHORTER.items() if command.startswith(f"ddpm-hub {start}")]
    return ["-m", "ddpm_hub", *shlex.split(command)[1:], *" ".join(more).split()]


def test_training_here_publishing_and_opening_there_are_five_commands():
    assert len(BLOCKS[0][1].splitlines()) == 5
    assert all(command.startswith("ddpm-hub ") for command in COMMANDS)


def test_all_commands_and_then_all_programs_run_in_order(place):
    said = {command: run(place, *arguments(command)) for command in COMMANDS}
    folder, _ = place
    assert "nothing" not in said["ddpm-hub space deploy user/ddpm-demo --model user/ddpm-garments"]
    status = said["ddpm-hub space status user/ddpm-demo"]
    assert "RUNNING" in status and "user-ddpm-demo" in status
    assert (folder / "grid.png").is_file() and (folder / "garments" / "evaluation.json").is_file()
    for name in ("cifar10", "cifar10-diffusers", "mine"):
        assert GaussianDiffusion.from_pretrained(folder / name).num_timesteps == 1000
    program = "\n".join(PROGRAMS).replace("steps=20", "steps=2").replace("steps=50", "steps=2")
    run(place, "-c", program)
    assert "private" not in run(place, *arguments("ddpm-hub info user/ddpm-garments-copy"))


def test_the_files_that_are_published_are_those_of_the_table():
    listed = set(re.findall(r"`([\w.]+\.\w+)`", GUIDE.split("### The card")[0].split("|---|")[1]))
    table = {name for name in listed if "." in name} - {"training.md"}
    assert table == {*hub.MODEL, *hub.EXTRAS}


def test_the_numbers_of_the_guide_are_those_of_the_code():
    assert f"fewer than {card.FEW:,} images" in GUIDE
    assert f"at most {MAX_BYTES // 1024} kB" in GUIDE
    assert "two thousand million parameters" in GUIDE and MAX_PARAMETERS == 2_000_000_000


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?://)([^)#]+)\)", GUIDE))
def test_a_link_of_the_guide_leads_to_a_file(link):
    assert (Path(ROOT) / "docs" / link).exists()
