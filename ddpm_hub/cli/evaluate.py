"""`ddpm-hub eval`: samples and losses of a model, as figures that say what they are of."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from tqdm import tqdm

from ddpm_hub.cli.hub import Model, Revision
from ddpm_hub.errors import ConfigError
from ddpm_hub.version import __version__

STEPS = 50  # network calls per batch, unless told: all T take hours on a CPU


def evaluate(  # noqa: PLR0913  each is an option of the command
    model: Model,
    data: Annotated[
        str, typer.Option(help="the real images: bundled, a folder, a zip, or hub:user/dataset")
    ] = "bundled",
    split: Annotated[
        str, typer.Option(help="of the data, that samples are compared with: train or test")
    ] = "train",
    samples: Annotated[int, typer.Option(help="images drawn to be judged")] = 1000,
    sampler: Annotated[
        Optional[str],  # noqa: UP045  typer on Python 3.10
        typer.Option(help="a row of SAMPLERS", show_default="ddim, or ddpm for all T steps"),
    ] = None,
    steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="network calls per batch", show_default=f"{STEPS}, at most T"),
    ] = None,
    eta: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="share of ancestral noise, 0 to 1", show_default="the sampler's"),
    ] = None,
    spacing: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="which timesteps are visited", show_default="the sampler's"),
    ] = None,
    option: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="NAME=VALUE, another argument of sample_stream; repeatable"),
    ] = None,
    seed: Annotated[int, typer.Option(help="of samples, noise and timesteps")] = 0,
    batch_size: Annotated[int, typer.Option(help="images drawn at once; part of the result")] = 50,
    mixed_precision: Annotated[
        str, typer.Option(help="of sampling: no, bf16, fp16, or auto: what is fast here")
    ] = "no",
    runtime: Annotated[
        str,
        typer.Option(help="of sampling: eager, or in bfloat16 packed (CPU), graphed (GPU) ..."),
    ] = "eager",
    features: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="network whose features are compared: garments, or inception, which is FID's",
            show_default="garments for 1 x 28 x 28, else inception",
        ),
    ] = None,
    feature_weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="file of inception's weights", show_default="downloaded"),
    ] = None,
    reference_images: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="real images that samples are compared with", show_default="all"),
    ] = None,
    loss_images: Annotated[int, typer.Option(help="images for the loss by t")] = 200,
    likelihood_images: Annotated[int, typer.Option(help="images for bits/dim")] = 64,
    likelihood_steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            help="of a shorter chain, evenly in log SNR: a bound of its own, sooner there",
            show_default="all T",
        ),
    ] = None,
    quality: Annotated[bool, typer.Option(help="compare samples with real images")] = True,
    loss: Annotated[bool, typer.Option(help="measure the loss by t")] = True,
    likelihood: Annotated[bool, typer.Option(help="measure bits/dim, T calls per image")] = True,
    cache: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="samples and features, kept to go on from", show_default="user's cache"),
    ] = None,
    json: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="file for all figures; MODEL/evaluation.json, and its card has them"),
    ] = None,
    revision: Revision = None,
) -> None:
    """Judge a model: sample quality, loss by t, bits/dim.

    What was drawn is kept: the same command goes on after an interruption. Under torchrun the
    samples are shared out, and are the same.
    """
    from ddpm_hub import evaluate as library
    from ddpm_hub.distributed import join
    from ddpm_hub.files import check_place
    from ddpm_hub.model import GaussianDiffusion
    from ddpm_hub.runtime import pick_device

    if json is not None:
        check_place(json)
    device = pick_device()
    diffusion = GaussianDiffusion.from_pretrained(model, revision=revision, map_location=device)
    options = {"eta": eta, "spacing": spacing, **_options(option or ())}
    steps = min(STEPS, diffusion.num_timesteps) if steps is None else steps
    drawing = library.Drawing(
        samples, sampler, steps, seed, batch_size, mixed_precision, runtime, options
    )
    size, ema = (diffusion.image_size, diffusion.channels), library.is_averaged(model, revision)
    team, shared = join(device), {"ema": ema, "seed": seed}
    plan: dict[str, Any] = {}
    if quality:
        reference = library.real_images(data, *size, split=split, limit=reference_images)
        name = features or library.default_features(tuple(reference.images.shape[1:]))
        plan["quality"] = library.quality_stream(
            diffusion,
            drawing,
            reference.images,
            library.feature_network(name, feature_weights, device),
            reference_name=reference.name,
            ema=ema,
            cache=cache or library.default_cache(),
            team=team,
        )
    if loss:
        held = library.held_out_images(data, *size, loss_images)
        plan["loss_by_t"] = library.loss_stream(diffusion, held.images, data=held.name, **shared)
    if likelihood:
        held = library.held_out_images(data, *size, likelihood_images)
        plan["bits_per_dim"] = library.likelihood_work(
            diffusion, held.images, data=held.name, steps=likelihood_steps, **shared
        )
    _carry_out(plan, model, team, json)


def _carry_out(plan: dict[str, Any], model: str, team, json: Path | None) -> None:
    """One stage after the other, each with a bar; the leader's figures on stdout and in a file."""
    from ddpm_hub.evaluate import finish
    from ddpm_hub.files import write_text

    figures: dict[str, Any] = {"model": model, "ddpm_hub_version": __version__}
    for name, work in plan.items():
        if not team.leads and name != "quality":
            continue  # samples are shared out; the rest is short
        with Bars(team.leads) as bars:
            try:
                figure = finish(work, bars)
            except KeyboardInterrupt:
                bars.close()
                print("\nddpm-hub: stopped; the same command goes on", file=sys.stderr)
                raise typer.Exit(130) from None
        if team.leads:
            print(figure.sentence(), flush=True)
            figures[name] = asdict(figure)
    if json is not None and team.leads:
        write_text(json, json_format.dumps(figures, indent=2, allow_nan=False) + "\n")


class Bars:
    """A bar for each stage that is watched, one after the other."""

    def __init__(self, shown: bool):
        self.shown, self.stage, self.bar = shown, None, None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, progress) -> None:
        """Show one Progress."""
        if progress.stage != self.stage:
            self.close()
            self.stage = progress.stage
            self.bar = tqdm(desc=self.stage, total=progress.total, disable=not self.shown)
        self.bar.update(progress.done - self.bar.n)

    def close(self) -> None:
        """Leave the last bar as it is."""
        if self.bar is not None:
            self.bar.close()


def _options(words: list[str]) -> dict[str, Any]:
    """{"name": value} of NAME=VALUE, where a value is JSON or else itself."""
    found = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign:
            raise ConfigError(f"option {word!r} has no value: write NAME=VALUE")
        try:
            found[name] = json_format.loads(text)
        except ValueError:
            found[name] = text
    return found
