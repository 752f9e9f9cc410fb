"""Where a training's numbers can also go: TensorBoard's event files, trackio's local database.

A sink is fed the events that everybody else drains, and never ends a training: a full disk is one
warning. In the room: what of an event is logged, and both packages (`pip install "ddpm-hub[log]"`),
imported only by who asks for them. Not in the room: networks. Nothing is sent anywhere.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_hub import files
from ddpm_hub.config import TrainConfig
from ddpm_hub.errors import ConfigError, check_choice, shown
from ddpm_hub.images import grid
from ddpm_hub.training.loop import Event

PROJECT = "ddpm-hub"  # under which trackio keeps all runs
SCALARS = ("loss", "smoothed_loss", "lr", "grad_norm", "images_per_second", "skipped")
PICTURES = ("samples", "raw_samples")


def open_sinks(
    names: Iterable[str], run_name: str, config: TrainConfig, folder: str | Path = "runs"
) -> list[Sink]:
    """A sink for each of `names`, once each; ConfigError if one is unknown or not installed."""
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        check_choice("log_with", name, SINKS)
    return [SINKS[name](run_name, config, folder) for name in dict.fromkeys(names)]


class Sink:
    """Call it with every Event, close it at the end.

    run_name: what the run is called there. A run that is resumed under its name goes on; one that
    starts at step 1 again takes the older one's place. folder: where files go.

    Raises ConfigError if the name cannot be one of a folder, or a package is missing. Whatever
    goes wrong later is a warning, once, and nothing more is logged.
    """

    module = ""  # what to import

    def __init__(self, run_name: str, config: TrainConfig, folder: str | Path = "runs"):
        if Path(run_name).name != run_name or run_name == ".." or not 0 < len(run_name) <= 200:
            raise ConfigError(
                f"run_name {shown(run_name)} cannot be the name of a folder: use 1 to 200 "
                "characters, without slashes"
            )
        self.run_name, self.config, self.folder = run_name, config, Path(folder)
        self.opened = self.failed = False
        try:
            import_module(self.module)
        except ImportError as error:
            raise ConfigError(
                f"logging with {self._name()} needs a package that is not installed ({error}): "
                'pip install "ddpm-hub[log]"'
            ) from error

    def __call__(self, event: Event) -> None:
        """Log one step."""
        if self.failed:
            return
        try:
            if not self.opened:  # only now: the first step says whether the run was resumed
                self._open(event)
                self.opened = True
            self._log(event)
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """Write what is left; no more steps will come."""
        opened, self.opened = self.opened, False
        try:
            if opened:
                self._close()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if not self.failed:
            warnings.warn(
                f"logging of {self.run_name!r} with {self._name()} stopped "
                f"({files.reason(error)}): the training goes on without it",
                stacklevel=3,
            )
        self.failed = True

    def _name(self) -> str:
        return next(name for name, kind in SINKS.items() if isinstance(self, kind))

    def _open(self, event: Event) -> None:
        raise NotImplementedError

    def _log(self, event: Event) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError


class TensorBoardSink(Sink):
    """Event files in `folder/run_name`: `tensorboard --logdir runs`, or a repo's Metrics tab."""

    module = "torch.utils.tensorboard"

    def _open(self, event: Event) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(
            self.folder / self.run_name,
            purge_step=event.step,  # steps that a crash undid are shown once
            max_queue=1000,
            flush_secs=10,
        )
        text = json.dumps(asdict(self.config), indent=2)
        self.writer.add_text("config", f"```json\n{text}\n```", event.step)

    def _log(self, event: Event) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        # one record for the step: sixteen calls of add_scalar cost twice as much
        values = [Summary.Value(tag=tag, simple_value=x) for tag, x in numbers(event).items()]
        self.writer.file_writer.add_summary(Summary(value=values), event.step)
        for tag, picture in pictures(event).items():
            pixels = np.asarray(picture.convert("RGB"))
            self.writer.add_image(tag, pixels, event.step, dataformats="HWC")

    def _close(self) -> None:
        self.writer.close()


class TrackioSink(Sink):
    """A run of the project "ddpm-hub" in trackio's own folder (TRACKIO_DIR): `trackio show`."""

    module = "trackio"

    def _open(self, event: Event) -> None:
        import trackio

        class LocalRun(trackio.Run):
            """Not `trackio.init`: that prints, follows TRACKIO_SPACE_ID, and ends other runs."""

            def _get_username(self) -> None:
                """Not asked for: with a token on the machine it is a request to the Hub."""

        known = trackio.sqlite_storage.SQLiteStorage.get_latest_run_record_by_name
        record = known(PROJECT, self.run_name) if event.step > 1 else None
        self.run = LocalRun(
            url=None,
            project=PROJECT,
            client=None,
            name=self.run_name,
            run_id=record["id"] if record else None,
            config=asdict(self.config),
        )

    def _log(self, event: Event) -> None:
        import trackio

        images = {tag: trackio.Image(picture) for tag, picture in pictures(event).items()}
        self.run.log(numbers(event) | images, step=event.step)

    def _close(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it says that one should wait
            self.run.finish()


SINKS: dict[str, type[Sink]] = {"tensorboard": TensorBoardSink, "trackio": TrackioSink}


def numbers(event: Event) -> dict[str, float]:
    """The finite numbers of a step by their names; "loss_by_t/0.3": t in 0.3 T .. 0.4 T."""
    found = {name: getattr(event, name) for name in SCALARS}
    count = len(event.loss_by_t)
    found |= {f"loss_by_t/{i / count:.1f}": loss for i, loss in enumerate(event.loss_by_t)}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def pictures(event: Event) -> dict[str, Image.Image]:
    """The grids of samples that came with a step, if any did."""
    found = {name: getattr(event, name) for name in PICTURES}
    return {name: grid(images) for name, images in found.items() if images is not None}
