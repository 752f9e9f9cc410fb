"""`ddpm-hub space`: the demo as a Space of your own, deployed and looked at."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from ddpm_hub.cli.options import upload_bar

space = typer.Typer(help="The demo as a Space of the Hub: deploy it, see how it fares.")
Name = Annotated[str, typer.Argument(metavar="USER/NAME", help="the Space")]


@space.command()
def deploy(
    name: Name,
    model: Annotated[
        Optional[str],  # noqa: UP045  typer on Python 3.10
        typer.Option(metavar="USER/REPO", help="the model it is about, fetched at its build"),
    ] = None,
    hardware: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="such as cpu-basic, t4-small, l4x1", show_default="as the Hub has it"),
    ] = None,
    sleep: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            help="minutes without a visitor after which paid hardware rests, 0 for never",
            show_default="60 with paid hardware",
        ),
    ] = None,
    bucket: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="USER/NAME", help="keeps trainings when the Space restarts"),
    ] = None,
    private: Annotated[bool, typer.Option(help="if the Space is not there yet")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would be uploaded; no network, no token")
    ] = False,
) -> None:
    """Make a Space out of this demo, or bring it up to date: one commit, none if nothing differs.

    Files that are in the Space and not here are deleted.
    """
    from ddpm_hub.hub import repos
    from ddpm_hub.hub import space as library

    wishes = library.Wishes(model, hardware, sleep, bucket, private)
    staged = library.stage(wishes)
    if dry_run:
        return _show(repos.check_repo_id(name), staged, wishes)
    with upload_bar(name, sum(staged.sizes().values())) as moved:
        done = library.deploy(name, wishes, moved=moved)
    print(f"{done.url}: {'commit' if done.changed else 'nothing to do since commit'} {done.commit}")
    if done.changed:
        print(f"  it is built now, which takes minutes: ddpm-hub space status {name}")
    return None


@space.command()
def status(name: Name) -> None:
    """Say how a Space fares: its stage, its hardware, and what went wrong last."""
    from ddpm_hub.hub import space as library

    found = library.status(name)
    asked = f", {found.requested} is asked for" if found.requested != found.hardware else ""
    print(f"space     {found.url}")
    print(f"app       {found.app}")
    print(f"stage     {found.stage}")
    print(f"hardware  {found.hardware}{asked}")
    if found.sleep is not None:
        print(f"sleep     {_rest(found.sleep)}")
    if found.error:
        print(f"error     {found.error}")


def _rest(seconds: int) -> str:
    return "never" if seconds < 0 else f"after {seconds / 60:g} minutes without a visitor"


def _show(name: str, staged: Any, wishes: Any) -> None:
    """The README as it would be, the size of each file, and the settings."""
    sizes = staged.sizes()
    print(staged.readme)
    for path, size in sizes.items():
        print(f"{size:>10,}  {path}")
    print(f"{sum(sizes.values()):>10,}  bytes in {len(sizes)} files for the Space {name}")
    told = {"hardware": wishes.hardware, "bucket": wishes.bucket, **wishes.variables}
    told["sleep"] = None if wishes.seconds is None else _rest(wishes.seconds)
    for key, value in told.items():
        if value:
            print(f"{key:>10}  {value}")
