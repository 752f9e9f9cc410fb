"""The command line, `ddpm-hub` and `python -m ddpm_hub`: each command calls the library once.

Errors and warnings are one sentence on stderr. Exit code 2 for an argument, a config or data that
cannot be, 1 for what could not be had, read or written.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Optional

import typer
from tqdm import tqdm

from ddpm_hub.cli.evaluate import evaluate
from ddpm_hub.cli.hub import Model, Revision, convert, info, push
from ddpm_hub.cli.space import space
from ddpm_hub.cli.train import train
from ddpm_hub.errors import ConfigError, DataError, DDPMHubError
from ddpm_hub.memory import keep_memory
from ddpm_hub.version import __version__

app = typer.Typer(
    help="Denoising diffusion probabilistic models: train them, sample from them, look at them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(train)
app.command("eval")(evaluate)
app.command()(push)
app.command()(convert)
app.command()(info)
app.add_typer(space, name="space", no_args_is_help=True)


@app.command()
def sample(  # noqa: PLR0913  each is an option of the command
    model: Model,
    out: Annotated[Path, typer.Option(help="PNG to write")] = Path("samples.png"),
    n: Annotated[int, typer.Option(help="images in the grid")] = 16,
    sampler: Annotated[
        Optional[str],  # noqa: UP045  typer on Python 3.10
        typer.Option(
            help="ddpm, ddim, dpmpp_2m, dpmpp_2m_sde, heun or unipc",
            show_default="ddim, or ddpm for all T steps",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="network calls")] = 25,
    eta: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="share of ancestral noise, 0 to 1", show_default="the sampler's"),
    ] = None,
    spacing: Annotated[
        str, typer.Option(help="timesteps visited: linspace, trailing, leading or logsnr")
    ] = "linspace",
    seed: Annotated[int, typer.Option(help="same seed, same pictures")] = 0,
    gif: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="film of what the network believes, .webp or .gif"),
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            help="eager (exact), bfloat16 as packed (CPUs), half, graphed (GPUs) or compiled "
            "(minutes at first), or auto: what is faster"
        ),
    ] = "eager",
    revision: Revision = None,
) -> None:
    """Draw a grid of images."""
    from ddpm_hub import images
    from ddpm_hub.errors import check_choice, check_int
    from ddpm_hub.files import check_place
    from ddpm_hub.model import GaussianDiffusion
    from ddpm_hub.runtime import pick_device

    kind = check_choice("film", gif.suffix[1:], ("webp", "gif")) if gif else None
    for path in (out, gif) if gif else (out,):
        check_place(path)
    check_int("n", n, 1, 100_000)
    diffusion = GaussianDiffusion.from_pretrained(
        model, revision=revision, map_location=pick_device()
    ).accelerated(runtime, n)
    stream = diffusion.sample_stream(
        n, sampler=sampler, steps=steps, eta=eta, spacing=spacing, seed=seed
    )
    frames = []
    for step in tqdm(stream, total=len(stream), unit="step"):
        frames += [images.grid(diffusion.unnormalize(step.x0).cpu())] if gif else []
    state = stream.state()
    run = {"model": model, "sampler": state.sampler, "steps": steps, "seed": seed}
    run |= {"eta": state.eta, "spacing": spacing, "runtime": diffusion.runtime.runtime}
    out.write_bytes(images.save_png(images.grid(diffusion.unnormalize(step.x).cpu()), run))
    print(f"{out}: {n} images")
    if runtime == "auto":
        print(f"runtime {diffusion.runtime.runtime}: {diffusion.runtime.why}")
    if gif:
        gif.write_bytes(images.animate(frames, kind))
        print(f"{gif}: {len(frames)} frames")


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    """Options that stand before any command."""
    if version:
        print(f"ddpm-hub {__version__}")
        raise typer.Exit


def main() -> None:
    """The entry point: run the command, and turn our own errors into a sentence."""
    keep_memory()
    warnings.showwarning = _say
    try:
        app()
    except DDPMHubError as error:
        print(f"ddpm-hub: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, ConfigError | DataError) else 1) from None
    except OSError as error:  # a folder that is not there, a full disk
        print(f"ddpm-hub: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _say(message: Warning | str, *_: object) -> None:
    """A warning for people: not where in the library it was thought of."""
    print(f"ddpm-hub: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
