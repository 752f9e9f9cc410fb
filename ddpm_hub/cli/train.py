"""`ddpm-hub train`: a preset, some data, and what to change of them."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from typing import Annotated, Any, Optional

import typer

from ddpm_hub.cli.options import with_config
from ddpm_hub.config import PRESETS
from ddpm_hub.errors import check_choice

EXIT = {"SIGINT": 130, "SIGTERM": 143}  # as shells report them
COSTS = "; ".join(f"{name}: {preset.cost}" for name, preset in PRESETS.items())


@with_config
def train(
    data: Annotated[
        str, typer.Option(help="bundled, a folder, a zip, or hub:user/dataset")
    ] = "bundled",
    preset: Annotated[str, typer.Option(help=f"network and training. {COSTS}")] = "tiny",
    image_size: Annotated[
        Optional[int],  # noqa: UP045  typer on Python 3.10
        typer.Option(help="side in pixels", show_default="the preset's"),
    ] = None,
    channels: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            help="1 grey, 3 colour, 4 with alpha", show_default="bundled: the preset's, else 3"
        ),
    ] = None,
    log_with: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="tensorboard (under runs/) or trackio (its own folder); repeatable"),
    ] = None,
    **config: Any,
) -> None:
    """Train a model, keep its checkpoints, and say how to go on.

    Ctrl-C finishes the step and saves; the same command with --resume auto continues bit for bit.
    """
    from ddpm_hub.training.follow import Interrupted

    chosen = PRESETS[check_choice("preset", preset, PRESETS)]
    given = {name: value for name, value in config.items() if value is not None}
    if channels is None and data != "bundled":
        channels = 3
    try:
        _train(data, _model(chosen, image_size, channels, given), chosen, given, log_with or ())
    except Interrupted as stop:
        print(f"\nddpm-hub: {stop}; go on with\n  {resume_command(sys.argv[1:])}", file=sys.stderr)
        raise typer.Exit(EXIT[stop.signal]) from None


def _model(preset, image_size, channels, given):
    import torch

    from ddpm_hub.model import GaussianDiffusion
    from ddpm_hub.nets import build
    from ddpm_hub.runtime import pick_device

    torch.manual_seed(given.get("seed", preset.train.seed))
    arguments = preset.diffusion | ({} if image_size is None else {"image_size": image_size})
    return GaussianDiffusion(build(preset.unet, channels), **arguments).to(pick_device())


def _train(data, diffusion, preset, given, log_with):
    from ddpm_hub.training.follow import follow
    from ddpm_hub.training.loop import Training
    from ddpm_hub.training.sinks import open_sinks

    config = replace(preset.train, **given)
    training = Training(diffusion, data, config)
    training.keeper.open()
    leads, done = training.team.leads, training.state.step
    if leads:
        print(describe(training), flush=True)
    if done >= config.train_num_steps:
        return print(f"step {done} of {config.train_num_steps} is reached: ask for more --steps")
    sinks = open_sinks(log_with, diffusion_name(config), config) if leads else []
    try:
        last = follow(
            training.events(), config.train_num_steps, done=done, progress=leads, sinks=sinks
        )
    finally:
        for sink in sinks:
            sink.close()
    if leads and last is not None:
        print(
            f"step {last.step}, loss {last.smoothed_loss:.4f}: model, samples and checkpoints are "
            f"in {config.results_folder}\n"
            f"  {shlex.join(['ddpm-hub', 'sample', str(config.results_folder)])}"
        )
    return None


def describe(training) -> str:
    """What is about to be trained, in a few lines."""
    from ddpm_hub.runtime import describe as device

    diffusion, config, state = training.state.diffusion, training.config, training.state
    count = sum(p.numel() for p in diffusion.parameters())
    height, width = diffusion.image_size
    lines = [
        f"network   {count / 1e6:.2f} M parameters, {diffusion.channels} x {height} x {width}",
        f"data      {training.images_in_words()}",
        f"training  {config.train_num_steps:,} steps of "
        f"{config.train_batch_size * config.gradient_accumulate_every} images on "
        f"{device(diffusion.device)}",
    ]
    if state.step:
        lines.append(f"resumed   at step {state.step:,}")
    return "\n".join(lines)


def diffusion_name(config) -> str:
    """The name of a run in its logs: that of its folder."""
    from pathlib import Path

    return Path(config.results_folder).resolve().name if config.results_folder else "run"


def resume_command(arguments: list[str]) -> str:
    """The command that goes on where the one with these arguments stopped."""
    kept, skip = [], False
    for word in arguments:
        if not skip and not word.startswith("--resume"):
            kept.append(word)
        skip = not skip and word == "--resume"
    return shlex.join(["ddpm-hub", *kept, "--resume", "auto"])
