"""`ddpm-hub push`, `convert`, `info`: models on their way between folders, formats, the Hub."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from ddpm_hub.cli.options import upload_bar
from ddpm_hub.errors import ConfigError, DDPMHubError, check_choice

FORMATS = ("ddpm_hub", "diffusers")
LARGEST = 20 * 2**20  # bytes of a picture or report that is taken along
Model = Annotated[str, typer.Argument(help="a folder, a repo id of the Hub, or 'bundled'")]
Revision = Annotated[
    Optional[str],  # noqa: UP045  typer on Python 3.10
    typer.Option(help="branch, tag or commit of the repo", show_default="main"),
]
AllowPickle = Annotated[
    bool,
    typer.Option(help="read weights that are no safetensors, by torch.load(weights_only=True)"),
]


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="of save_pretrained or a training")],
    repo: Annotated[str, typer.Argument(metavar="USER/REPO", help="made if it is not there")],
    private: Annotated[bool, typer.Option(help="if the repo is not there yet")] = False,
    overwrite_card: Annotated[
        bool, typer.Option(help="replace a README that somebody has edited in the repo")
    ] = False,
    message: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="of the commit", show_default="Upload DIR with ddpm_hub"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the card and the files; no network, no token")
    ] = False,
) -> None:
    """Publish a model with its card, samples and report in one commit; none if nothing differs."""
    from ddpm_hub import hub

    card, sizes = hub.preview(folder, repo)
    total = sum(sizes.values())
    if dry_run:
        print(card)
        for name, size in sorted(sizes.items()):
            print(f"{size:>13,}  {name}")
        print(f"{total:>13,}  bytes in {len(sizes)} files for {repo}")
        return
    options = {"private": private, "overwrite_card": overwrite_card, "commit_message": message}
    with upload_bar(repo, total) as moved:
        pushed = hub.push_folder(folder, repo, moved=moved, **options)
    print(f"{pushed.url}\n  ddpm-hub sample {repo}")


def convert(  # noqa: PLR0913  each is an option of the command
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="a folder, a repo id, or model-N.pt of lucidrains"),
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="folder to write")],
    to: Annotated[str, typer.Option(help=" or ".join(FORMATS))] = "ddpm_hub",
    image_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="side in pixels, of a model-N.pt: it does not say", show_default=False),
    ] = None,
    ema: Annotated[bool, typer.Option(help="the averaged weights of a model-N.pt")] = True,
    license: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="of the weights, as the Hub names it", show_default="SRC's, or unknown"),
    ] = None,
    revision: Revision = None,
    allow_pickle: AllowPickle = False,
) -> None:
    """Write a model of any format in one of ours: for this library, or for diffusers."""
    check_choice("format", to, FORMATS)
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        raise ConfigError(f"{str(target)!r} is not empty: give a new folder")
    diffusion = _opened(source, image_size, ema, revision=revision, allow_pickle=allow_pickle)
    if to == "diffusers":
        diffusion.save_diffusers(target)
    else:
        diffusion.save_pretrained(target)
    told = None if source.endswith(".pt") else _take_along(source, revision, target)
    _write_card(diffusion, target, license or told or "unknown")
    print(f"{target}: {sum(p.numel() for p in diffusion.parameters()):,} parameters for {to}")


def _opened(source: str, image_size: int | None, ema: bool, **how: Any):
    from ddpm_hub.model import GaussianDiffusion

    if Path(source).suffix == ".pt" and not Path(source).is_dir():
        return GaussianDiffusion.from_lucidrains(source, image_size=image_size, ema=ema)
    if image_size is not None:
        raise ConfigError(f"image_size {image_size} is for a model-N.pt: {source} says its own")
    return GaussianDiffusion.from_pretrained(source, **how)


def _take_along(name: str, revision: str | None, target: Path) -> str | None:
    """Copy samples, curve and reports of the source, as far as it has them; its licence."""
    from ddpm_hub import card
    from ddpm_hub.card import facts
    from ddpm_hub.hub.sources import open_source

    source, found = open_source(name, revision=revision), None
    for path in (card.SAMPLES, card.CURVE, facts.REPORT, facts.EVALUATION, card.CARD):
        with suppress(DDPMHubError):  # the model is there all the same
            if source.has(path):
                here = source.fetch(path, LARGEST)
                if path == card.CARD:
                    found = card.license_of(here)
                else:
                    shutil.copyfile(here, target / path)
    return found


def _write_card(diffusion: Any, target: Path, license: str) -> None:
    from ddpm_hub import card
    from ddpm_hub.files import write_text

    write_text(
        target / card.CARD, card.of_folder(target, config=diffusion.to_config(), license=license)
    )


def info(model: Model, revision: Revision = None, allow_pickle: AllowPickle = False) -> None:
    """Say what a model is: size, process, network, and how it was trained as far as is known."""
    from ddpm_hub.hub.sources import open_source
    from ddpm_hub.interop import LAYOUTS
    from ddpm_hub.model import GaussianDiffusion

    diffusion = GaussianDiffusion.from_pretrained(
        model, revision=revision, allow_pickle=allow_pickle
    )
    source = open_source(model, revision=revision)
    found = {name: read(source, allow_pickle) for name, read in LAYOUTS.items()}
    name, layout = next((name, layout) for name, layout in found.items() if layout)
    parameters = sum(p.numel() for p in diffusion.parameters())
    height, width = diffusion.image_size
    size = source.fetch(layout.weights).stat().st_size
    rows = [
        ("model", model),
        ("layout", name),
        ("weights", f"{layout.weights}, {size / 1e6:,.1f} MB"),
        ("parameters", f"{parameters:,}"),
        ("images", f"{diffusion.channels} x {height} x {width}"),
        ("process", f"T = {diffusion.num_timesteps}, {diffusion.config['beta_schedule']} betas"),
        ("objective", diffusion.objective),
        ("network", f"{type(diffusion.model).__name__} {_told(diffusion.model.config)}"),
        *_history(source),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _told(config: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in config.items() if value is not None)


def _history(source: Any) -> list[tuple[str, str]]:
    """How it was trained, if the source says."""
    from ddpm_hub.card import facts

    try:
        report = facts.read_report(source.fetch(facts.REPORT))
    except DDPMHubError:  # the model is there all the same
        return []
    name, count = facts.data_of(report)
    data = [("data", f"{count:,} images of {name}" if count else name)] if name else []
    return data + [(row.lower(), value) for row, value in facts.training_rows(report)]
