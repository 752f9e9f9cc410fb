"""`ddpm-hub push`, `convert`, `info` and `--revision`, with a Hub on this machine.

Where the Hub is read, each command is a process of its own with a cache of its own; the others
run here, since every process loads torch anew.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from PIL import Image
from support import HERE, TRAINER, random_diffusion

from ddpm_hub import GaussianDiffusion, UNet2D, card
from ddpm_hub.cli import main
from ddpm_hub.hub.sources import BUNDLED

REPO = "alice/garments"
BAR = re.compile(r"\d\d:\d\d[^]]*\]")  # the times of tqdm
MODEL = {"README.md", "config.json", "model.safetensors", "samples.png", "training.json"}
PIPELINE = HERE / "golden" / "diffusers_pipeline"


@pytest.fixture
def folder(tmp_path):
    """A small model's folder, as save_pretrained leaves it."""
    random_diffusion(seed=1).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def process(*words):
    """The stdout of a command that has to succeed, in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "ddpm_hub", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def run(*words):
    """(exit code, stdout, stderr) of a command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["ddpm-hub", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code, out.getvalue(), err.getvalue()


def done(*words):
    """The stdout of a command that has to succeed."""
    code, out, err = run(*words)
    assert code == 0, err
    return out


def refused(code, *words):
    """The one sentence of a command that has to fail with that exit code."""
    found, _, err = run(*words)
    assert found == code, err
    # nothing else, but for the bar that is drawn before on a slow day
    (line,) = (line for line in err.strip().splitlines() if line and not BAR.search(line))
    assert line.startswith("ddpm-hub: ")
    return line


def api(server):
    return HfApi(server.url, token=os.environ["HF_TOKEN"])


def text_of(server, name="README.md", repo=REPO):
    return Path(api(server).hf_hub_download(repo, name)).read_text(encoding="utf-8")


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_push_publishes_a_model_with_a_card_that_names_the_repo_and_twice_makes_one_commit(
    server, xet, tmp_path
):
    shutil.copytree(BUNDLED, tmp_path / "run")
    (tmp_path / "run" / "README.md").unlink()
    (tmp_path / "run" / "notes.txt").write_text("of mine")
    said = process("push", tmp_path / "run", REPO)
    assert f"{server.url}/{REPO}/commit/" in said and f"ddpm-hub sample {REPO}" in said
    assert set(api(server).list_repo_files(REPO)) == {".gitattributes", *MODEL}
    text = text_of(server)
    assert f'from_pretrained("{REPO}")' in text and card.is_generated(text)
    assert "| Steps | `7,000` |" in text and "<Gallery />" in text
    assert process("push", tmp_path / "run", REPO) == said
    assert len(api(server).list_repo_commits(REPO)) == 2


def test_a_pushed_model_is_opened_by_the_other_commands_at_any_revision(server, folder, tmp_path):
    process("push", folder, REPO, "--private", "--message", "first")
    (first, *_) = api(server).list_repo_commits(REPO)
    assert first.title == "first" and api(server).model_info(REPO).private
    other = random_diffusion(seed=2, image_size=16)
    other.save_pretrained(folder)
    process("push", folder, REPO)
    assert "1 x 16 x 16" in process("info", REPO)
    assert "1 x 8 x 8" in process("info", REPO, "--revision", first.commit_id)
    out = tmp_path / "grid.png"
    grid = ("--n", 4, "--steps", 2, "--out", out)
    process("sample", REPO, "--revision", first.commit_id, *grid)
    assert Image.open(out).size == (16, 16)
    assert "has no revision 'v9'" in refused(1, "sample", REPO, "--revision", "v9", *grid)


def test_a_card_that_somebody_edited_in_the_repo_stays_unless_told(server, folder):
    done("push", folder, REPO)
    api(server).upload_file(
        path_or_fileobj=b"---\nlicense: mit\n---\n# Mine\n", path_in_repo="README.md", repo_id=REPO
    )
    random_diffusion(seed=2).save_pretrained(folder)
    done("push", folder, REPO)
    assert "# Mine" in text_of(server)
    done("push", folder, REPO, "--overwrite-card")
    assert "# Mine" not in text_of(server) and "# garments" in text_of(server)


def test_a_dry_run_of_push_shows_the_very_card_and_files_without_network_or_token(
    server, folder, monkeypatch
):
    said = done("push", folder, REPO, "--dry-run")
    assert server.log == []
    done("push", folder, REPO)
    assert said.startswith(text_of(server))
    files = {
        f.rfilename: f.size for f in api(server).model_info(REPO, files_metadata=True).siblings
    }
    for name in ("README.md", "config.json", "model.safetensors"):
        assert f"{files[name]:,}  {name}" in said
    assert f"bytes in 3 files for {REPO}" in said


def test_push_says_in_one_sentence_what_is_wrong(server, folder, tmp_path, monkeypatch):
    assert "holds no model" in refused(1, "push", tmp_path / "nowhere", REPO)
    assert "does not say whose repo" in refused(1, "push", folder, "garments", "--dry-run")
    assert "could not be written" in refused(1, "push", folder, "bob/garments")
    (folder / "training.json").write_text('{"token": "hf_' + "a1" * 17 + '"}')
    assert "training.json holds what looks like a token" in refused(1, "push", folder, REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    (folder / "training.json").unlink()
    assert "hf auth login" in refused(1, "push", folder, REPO)


def test_convert_goes_to_diffusers_and_back_without_changing_a_number(tmp_path):
    done("convert", PIPELINE, tmp_path / "ours")
    done("convert", tmp_path / "ours", tmp_path / "theirs", "--to", "diffusers")
    for name in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json"):
        assert (tmp_path / "theirs" / name).is_file()
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "theirs" / weights).read_bytes() == (PIPELINE / weights).read_bytes()
    first, last = map(GaussianDiffusion.from_pretrained, (PIPELINE, tmp_path / "ours"))
    assert same(first, last)


def test_a_converted_model_has_a_card_for_its_format_and_claims_no_licence_of_its_own(tmp_path):
    done("convert", PIPELINE, tmp_path / "ours")
    ours = (tmp_path / "ours" / "README.md").read_text()
    assert "\nlicense: unknown\n" in ours and "DDPMPipeline" not in ours
    done("convert", tmp_path / "ours", tmp_path / "theirs", "--to", "diffusers", "--license", "mit")
    theirs = (tmp_path / "theirs" / "README.md").read_text()
    assert "\nlicense: mit\n" in theirs and "DDPMPipeline.from_pretrained" in theirs
    done("convert", "bundled", tmp_path / "bundled")
    card_there = (tmp_path / "bundled" / "README.md").read_text()
    assert "\nlicense: apache-2.0\n" in card_there and "| Steps | `7,000` |" in card_there
    assert (tmp_path / "bundled" / "samples.png").read_bytes() == (
        BUNDLED / "samples.png"
    ).read_bytes()


def test_a_folder_of_diffusers_is_pushed_with_a_card_that_names_the_repo(server, tmp_path):
    done("convert", PIPELINE, tmp_path / "theirs", "--to", "diffusers")
    done("push", tmp_path / "theirs", REPO)
    text = text_of(server)
    assert f'DDPMPipeline.from_pretrained("{REPO}")' in text and card.is_generated(text)
    assert "\n# garments\n" in text and "user/repo" not in text
    assert "layout      diffusers" in done("info", REPO)


def test_convert_reads_a_lucidrains_checkpoint_and_asks_for_what_it_does_not_say(tmp_path):
    path = TRAINER / "model-1.pt"
    assert "image_size" in refused(2, "convert", path, tmp_path / "ours")
    done("convert", path, tmp_path / "ours", "--image-size", 16)
    opened = GaussianDiffusion.from_pretrained(tmp_path / "ours")
    assert same(opened, GaussianDiffusion.from_lucidrains(path, image_size=16))
    done("convert", path, tmp_path / "raw", "--image-size", 16, "--no-ema")
    assert not same(opened, GaussianDiffusion.from_pretrained(tmp_path / "raw"))


def test_convert_refuses_what_it_cannot_do_and_leaves_nothing_behind(tmp_path, folder):
    new = tmp_path / "new"
    for words, says in (
        (("bundled", new, "--to", "onnx"), "unknown format 'onnx'"),
        (("bundled", new, "--to", "diffusers"), "no counterpart in diffusers"),
        (("bundled", new, "--image-size", "28"), "image_size 28 is for a model-N.pt"),
        (("bundled", folder), "is not empty: give a new folder"),
        (("bundled", folder / "config.json"), "is not empty"),
    ):
        assert says in refused(2, "convert", *words)
    assert not new.exists()


def test_convert_reads_pickled_weights_only_if_told(tmp_path):
    shutil.copytree(PIPELINE, tmp_path / "old")
    old = tmp_path / "old" / "unet" / "diffusion_pytorch_model.safetensors"
    diffusion = GaussianDiffusion.from_pretrained(PIPELINE)
    old.unlink()
    torch.save(diffusion.model.state_dict(), old.with_suffix(".bin"))
    assert "allow_pickle" in refused(1, "convert", tmp_path / "old", tmp_path / "new")
    done("convert", tmp_path / "old", tmp_path / "new", "--allow-pickle")
    assert same(GaussianDiffusion.from_pretrained(tmp_path / "new"), diffusion)


def test_info_says_layout_file_size_and_how_it_was_trained():
    said = done("info", "bundled")
    size = (BUNDLED / "model.safetensors").stat().st_size
    for words in ("ddpm_hub", f"{size / 1e6:.1f} MB", "2,555,969", "7,000", "decay 0.999"):
        assert words in said
    said = done("info", PIPELINE)
    assert "diffusers" in said and "unet/diffusion_pytorch_model.safetensors" in said
    assert "UNet2D" in said and "steps" not in said.split()


def test_info_of_a_strangers_report_prints_no_control_characters(folder):
    report = {"step": 7, "device": "\x1b]0;owned\x07gpu", "data": {"name": "a\nb\x1b[31m"}}
    (folder / "training.json").write_text(json.dumps(report))
    said = done("info", folder)
    assert "\x1b" not in said and "\x07" not in said and "gpu" in said


def test_the_figures_of_eval_reach_the_card_that_is_pushed(server, tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "run")
    (tmp_path / "run" / "README.md").unlink()
    quick = ("--samples", 2, "--batch-size", 2, "--steps", 1, "--reference-images", 64)
    quick += ("--no-loss", "--no-likelihood", "--cache", tmp_path / "cache")
    figures = tmp_path / "run" / "evaluation.json"
    done("eval", tmp_path / "run", *quick, "--json", figures)
    done("push", tmp_path / "run", REPO)
    value = json.loads(figures.read_text())["quality"]["value"]
    (entry,) = api(server).model_info(REPO).card_data.to_dict()["model-index"]
    assert entry["results"][0]["metrics"][0]["value"] == round(value, 4)
    assert "evaluation.json" in api(server).list_repo_files(REPO)


@pytest.mark.parametrize("words", [("push",), ("convert",), ("info",), ("space", "deploy")])
def test_the_help_of_a_command_names_its_options_with_their_defaults(words):
    said = " ".join(done(*words, "--help").replace("│", " ").split())
    wanted = {
        "push": ("--private", "--overwrite-card", "--dry-run", "Upload DIR with ddpm_hub"),
        "convert": ("--to", "[default: ddpm_hub]", "--image-size", "pixels", "--allow-pickle"),
        "info": ("--revision", "main"),
        "space": ("--model", "--hardware", "minutes", "60 with paid hardware", "--bucket"),
    }
    assert [part for part in wanted[words[0]] if part not in said] == []


def test_a_unet2d_alone_is_opened_from_what_was_converted(tmp_path):
    done("convert", PIPELINE, tmp_path / "ours")
    assert same(UNet2D.from_pretrained(PIPELINE), UNet2D.from_pretrained(tmp_path / "ours"))
