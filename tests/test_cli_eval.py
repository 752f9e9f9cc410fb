"""`ddpm-hub eval` as a process: what it prints, writes, goes on from and exits with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import random_diffusion

from ddpm_hub.cli import main

ROOT = Path(__file__).parents[1]
QUICK = ("--samples", "10", "--steps", "2", "--batch-size", "4", "--loss-images", "4")
FEWER = ("--likelihood-images", "2", "--reference-images", "30")


def command(*arguments, processes=1):
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    return [sys.executable, "-m", *(torchrun if processes > 1 else []), "ddpm_hub", *arguments]


def run(*arguments, processes=1, **environment):
    return subprocess.run(
        command("eval", *map(str, arguments), processes=processes),
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def inside(monkeypatch, capsys):
    """`run` without a process of its own: (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["ddpm-hub", "eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    random_diffusion(image_size=28, timesteps=10).save_pretrained(folder)
    (folder / "training.json").write_text('{"config": {"ema_decay": 0.99}}')
    return folder


@pytest.fixture(scope="module")
def told(model, tmp_path_factory):
    """One whole evaluation: what it printed, its figures, its cache."""
    folder = tmp_path_factory.mktemp("told")
    file = folder / "figures.json"
    done = run(model, *QUICK, *FEWER, "--cache", folder / "cache", "--json", file)
    assert done.returncode == 0, done.stderr
    return done, json.loads(file.read_text()), folder / "cache"


def test_eval_prints_three_figures_each_with_what_it_is_of(told):
    done, _, _ = told
    for words in (
        "Fréchet distance, features of garments", "10 samples of ddim, 2 network calls",
        "spacing linspace, eta 0, seed 0, batches of 4, precision no on cpu, EMA yes",
        "against 30 images of bundled, train", "loss by t (pred_v", "t    9 .. 9",
        "4 images of bundled, test, seed 0, EMA yes", "bits/dim:", "2 images of bundled, test",
    ):  # fmt: skip
        assert words in done.stdout, words
    assert "FID" not in done.stdout and "samples" in done.stderr  # a bar


def test_eval_writes_the_figures_that_it_prints(told):
    done, figures, _ = told
    assert figures["quality"]["steps"] == 2 and figures["quality"]["ema"] is True
    assert f"{figures['quality']['value']:.3f}" in done.stdout
    assert f"{figures['bits_per_dim']['total']:.3f}" in done.stdout
    assert len(figures["loss_by_t"]["losses"]) == 10
    assert figures["model"] and figures["ddpm_hub_version"]


def test_two_processes_say_the_same_once_and_draw_only_what_is_missing(model, told, tmp_path):
    _, figures, cache = told
    file, alone = tmp_path / "figures.json", ("--no-loss", "--no-likelihood")
    words = (model, *QUICK, *FEWER, *alone, "--json", file)
    done = run(*words, "--cache", tmp_path, processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Fréchet") == 1
    assert json.loads(file.read_text())["quality"] == figures["quality"]
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
    again = run(*words, "--cache", cache)
    assert again.returncode == 0 and "samples:" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")} == before
    assert json.loads(file.read_text()) == {
        k: v for k, v in figures.items() if k not in ("loss_by_t", "bits_per_dim")
    }


def test_further_options_reach_the_sampler_and_the_report(model, tmp_path, inside):
    only = ("--no-loss", "--no-likelihood", "--cache", tmp_path)
    more = ("--sampler", "ddim", "--eta", "0.5", "--spacing", "trailing")
    code, out, _ = inside(model, *QUICK, *FEWER, *only, *more, "--option", "clip_x_start=false")
    assert code == 0 and "spacing trailing, eta 0.5, clip_x_start False, seed 0" in out


def test_bad_input_is_one_sentence_and_exit_code_2(model, tmp_path, inside):
    for words, says in (
        (("--features", "vgg"), "unknown features 'vgg': choose one of garments, inception"),
        (("--samples", "1"), "samples 1"),
        (("--steps", "11"), "steps 11"),
        (("--option", "colour"), "option 'colour' has no value: write NAME=VALUE"),
        (("--split", "test", "--data", str(tmp_path)), "split 'test'"),
    ):
        code, out, err = inside(model, *QUICK, "--cache", tmp_path / "cache", *words)
        assert (code, out) == (2, "") and says in err
        assert len(err.strip().splitlines()) == 1


def test_inception_that_cannot_be_downloaded_is_one_sentence_and_exit_code_1(model, tmp_path):
    away = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path)}
    path = {"PYTHONPATH": str(ROOT / "build" / "eval")}
    words = ("--features", "inception", "--cache", tmp_path)
    done = run(model, *QUICK, *FEWER, *words, **away, **path)
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ddpm-hub: the weights of Inception could not be had")
    assert "--feature-weights FILE" in last and "Traceback" not in done.stderr


def test_ctrl_c_keeps_what_was_drawn_and_says_so(model, tmp_path):
    words = ("--samples", "4000", "--steps", "10", "--batch-size", "4", "--cache", str(tmp_path))
    process = subprocess.Popen(command("eval", str(model), *words), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while len(list(tmp_path.rglob("chunk-*.npy"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "ddpm-hub: stopped; the same command goes on"
    assert "Traceback" not in said and not list(tmp_path.rglob("*.tmp"))


def test_the_help_of_eval_names_its_options_and_defaults():
    shown = " ".join(run("--help").stdout.replace("│", " ").split())
    for words in ("--feature-weights", "--likelihood-images", "--cache", "default: 1000", "FID"):
        assert words in shown


def test_the_tool_for_tables_fills_the_cells_it_may_and_says_what_it_left_out(model, tmp_path):
    out = tmp_path / "table.md"
    words = ("--model", model, "--samplers", "ddim", "ddpm", "--steps", "2", "9", "--n", "4")
    more = ("--batch-size", "2", "--precision", "no", "--max-calls", "5", "--cache", tmp_path)
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "quality_table.py", *words, *more, "--out", out],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    head, _, ddim, ddpm, _, note = out.read_text().strip().splitlines()
    assert head == "| network calls | 2 | 9 |"
    first, second = (float(row.split("|")[2]) for row in (ddim, ddpm))
    assert first != second and ddim.endswith("| - |") and ddpm.endswith("| - |")
    assert "4 samples" in note and "left out, over 5 calls: ddim 9, ddpm 9" in note
    assert f"{first:.2f}" in done.stdout and "EMA yes" in note
