"""Ctrl-C and SIGTERM: a step's changes happen whole or not at all, and a drain can end politely.

In the room: signals. What is saved when a training ends is loop.py's business.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def undivided() -> Iterator[None]:
    """Hold signals back until the block is done: between optimiser and counter nothing breaks in.

    Python runs signal handlers in the main thread alone; elsewhere there is nothing to hold.
    """
    held: list[int] = []
    before = handlers()
    for number in before:
        signal.signal(number, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in held:
            signal.raise_signal(number)


def handlers() -> dict[int, Any]:
    """The handlers that may be replaced now: none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in SIGNALS}
    return {n: h for n, h in found.items() if h is not None}  # None: not installed by Python


class Stop:
    """Whether somebody asked for an end, and how: "SIGINT" or "SIGTERM"."""

    asked: str | None = None


@contextmanager
def stopping(say: Callable[[str], None]) -> Iterator[Stop]:
    """The first signal only sets `stop.asked`, so that a step can be finished; the second raises.

    say: told the name of the signal, once. Does nothing outside the main thread.
    """
    stop, before = Stop(), handlers()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = signal.Signals(number).name
        say(stop.asked)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
