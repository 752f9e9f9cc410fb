"""What commands share: options made from TrainConfig (default and help stand there), and a bar."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import Field, fields
from typing import Annotated, Any, Optional, get_type_hints

import typer
from tqdm import tqdm

from ddpm_hub.config import TrainConfig

# the names people type; every other field is its own name with dashes
FLAGS = {
    "train_batch_size": "--batch-size",
    "train_num_steps": "--steps",
    "train_lr": "--lr",
    "results_folder": "--output",
    "augment_horizontal_flip": "--flip/--no-flip",
    "compile": "--compile/--no-compile",
    "sample_raw": "--sample-raw/--no-sample-raw",
}
LEFT_OUT = ("adam_betas",)  # two numbers make no good option


def with_config(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, whose **config becomes an option for each field of TrainConfig.

    An option that is not given is None: what it then is, the preset says.
    """
    own = inspect.signature(command, eval_str=True)
    kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    made = [_parameter(field) for field in fields(TrainConfig) if field.name not in LEFT_OUT]

    def run(**given: Any) -> None:
        command(**given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(kept + made)
    run.__annotations__ = {p.name: p.annotation for p in kept + made}
    return run


@contextmanager
def upload_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for uploads of over 2 s; inside, a function that is told the bytes sent so far."""
    with tqdm(desc=what, total=total, unit="B", unit_scale=True, delay=2) as bar:
        yield lambda sent: bar.update(max(0, min(sent, total) - bar.n))


def _parameter(field: Field) -> inspect.Parameter:
    flag = FLAGS.get(field.name, "--" + field.name.replace("_", "-"))
    kind = TYPES[field.name]
    option = typer.Option(
        flag, help=field.metadata["help"], show_default=f"the preset's, or {field.default}"
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Optional[kind], option],  # noqa: UP045  typer on Python 3.10
    )


def _plain(hint: Any) -> type:
    """int for `int | None`."""
    return next((a for a in getattr(hint, "__args__", ()) if a is not type(None)), hint)


TYPES = {name: _plain(hint) for name, hint in get_type_hints(TrainConfig).items()}
