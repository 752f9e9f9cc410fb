"""Draining a training in front of a person: a progress bar, and an end that loses nothing.

The one place of `training/` that looks at a terminal; `Trainer` and the command line share it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable

from tqdm.auto import tqdm

from ddpm_hub.training.interrupts import stopping
from ddpm_hub.training.loop import Event


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a training after a whole step, and it was saved."""

    def __init__(self, signal: str, last: Event | None):
        super().__init__(f"{signal}: training was stopped and saved")
        self.signal, self.last = signal, last


def follow(
    events: Generator[Event, None, None],
    total: int,
    *,
    done: int = 0,
    progress: bool = True,
    sinks: Iterable[Callable[[Event], None]] = (),
) -> Event | None:
    """Drain `events` to their end, each also into every sink; the last of them, None if none came.

    total, done: steps of the whole run, and of it before this call. Ctrl-C and SIGTERM let the
    step be finished, save, and raise Interrupted; a second one does not wait.
    """
    last, bar = None, tqdm(total=total, initial=done, disable=not progress, unit="step")

    def say(signal: str) -> None:
        if progress:
            bar.write(f"{signal}: finishing the step, then saving", file=sys.stderr)

    with bar, stopping(say) as stop:
        for last in events:
            show(bar, last)
            for sink in sinks:
                sink(last)
            if stop.asked:
                break
        events.close()  # saves, if it was not at its end
        if stop.asked:
            raise Interrupted(stop.asked, last)
    return last


def show(bar: tqdm, event: Event) -> None:
    """One step on the bar, with the numbers that matter beside it."""
    words = {"loss": f"{event.smoothed_loss:.4f}", "img/s": f"{event.images_per_second:.0f}"}
    if event.skipped:
        words["skipped"] = str(event.skipped)
    bar.set_postfix(words, refresh=False)
    bar.update()
