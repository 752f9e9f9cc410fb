"""Recent runs: what the timeline is sent, and what can be asked for again or downloaded.

In the room: a run as messages for the timeline, throttled by time; the bounded store of runs; the
example that is drawn when the app starts. Not in the room: files made of a run (exports.py). No
torch, no gradio here.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing

from ddpm_hub import images
from ddpm_hub.app import engine, limits, models
from ddpm_hub.errors import DDPMHubError

MAX_BYTES = 128_000_000  # of all stored frames together
MAX_RUNS = 64
EXAMPLE = limits.Request("bundled", "ddim", 25, 0.0, 16, 7)


class Run:
    """One sampling run: its request, the frames so far, and how it stands.

    state: "waiting", "starting", "running", then "done", "stopped" or "error".
    """

    def __init__(self, request: limits.Request, id: str | None = None) -> None:
        self.request = request
        self.id = id or secrets.token_hex(12)  # unguessable: it is the key to the pictures
        self.frames: list[dict] = []
        self.message: str | None = None
        self.size = 0
        self.phase = "waiting"  # written by whoever draws ...
        self.halted = False  # ... and this by whoever stops it: neither can undo the other

    @property
    def state(self) -> str:
        """The phase, or "stopped" if it was halted before its end."""
        return "stopped" if self.halted and self.phase not in ("done", "error") else self.phase

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.state in ("done", "stopped", "error")

    def stop(self) -> None:
        """End it after the step that is being computed, or before the first."""
        self.halted = True

    def play(self) -> Iterator[dict]:
        """Draw the run: each frame is kept here and given on."""
        try:
            with closing(engine.sample(self.request)) as frames:
                for frame in frames:
                    if self.over:  # stopped while the step was computed
                        return
                    self._keep(frame)
                    yield frame
        except DDPMHubError as error:
            self.phase, self.message = "error", str(error)
            raise
        finally:
            self.stop()  # also when whoever listened went away

    def _keep(self, frame: dict) -> None:
        self.frames.append(frame)
        self.size += len(frame["x0"]) + len(frame["x"])
        self.phase = "done" if frame["done"] else "running"

    def message_with(self, frames: list[dict]) -> dict:
        """A timeline message that carries these frames (see widgets/timeline.py)."""
        message = {
            "run": self.id,
            "state": self.state,
            "message": self.message,
            "frames": [{k: v for k, v in f.items() if k != "png"} for f in frames],
            "meta": self.meta(),
        }
        if self.state == "done":
            message["kept"] = [f["index"] for f in self.frames]
        return message

    def meta(self) -> dict:
        """What is the same for every frame of the run."""
        return {
            **self.request._asdict(),
            "total": self.frames[0]["total"] if self.frames else self.request.steps or 0,
            "columns": images.grid_columns(self.request.batch),
            "device": models.describe_device(),
        }


class Store:
    """The newest runs, by id; the oldest go when there are too many, or too many bytes."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_runs: int = MAX_RUNS) -> None:
        self.max_bytes, self.max_runs = max_bytes, max_runs
        self.runs: OrderedDict[str, Run] = OrderedDict()
        self.lock = threading.Lock()

    def add(self, run: Run) -> Run:
        """Keep the run, and forget the oldest finished ones beyond the limits, not the example."""
        with self.lock:
            self.runs[run.id] = run
            size, count = sum(r.size for r in self.runs.values()), len(self.runs)
            for old in [
                r for r in self.runs.values() if r.over and r.id not in (run.id, "example")
            ]:
                if size <= self.max_bytes and count <= self.max_runs:
                    break
                size, count = size - self.runs.pop(old.id).size, count - 1
        return run

    def get(self, id: object) -> Run | None:
        """The run of that id, or None: unknown, or forgotten."""
        return self.runs.get(id) if isinstance(id, str) else None


STORE = Store()


def stream(run: Run) -> Iterator[dict]:
    """A run as timeline messages: a status at once, then frames at most every 40 ms.

    Steps faster than that travel together, so every kept frame arrives. The first thing is a
    status, because Gradio cannot cancel a generator that has not yielded yet.
    """
    if run.over:
        return
    run.phase = "starting"
    yield run.message_with([])
    pending, last = [], -math.inf
    for frame in run.play():
        pending.append(frame)
        if frame["done"] or time.monotonic() - last >= engine.YIELD_SECONDS:
            yield run.message_with(pending)
            pending, last = [], time.monotonic()
    if run.state == "stopped":
        yield run.message_with(pending)
    STORE.add(run)  # again, now that its size is known


def frames(query: dict) -> dict | None:
    """Frames the browser lacks: {run, missing: [indexes]} or {run, have: how many from the start}.

    For an id that is unknown: None.
    """
    run = STORE.get(query.get("run")) if isinstance(query, dict) else None
    if run is None:
        return None
    missing, have = query.get("missing"), query.get("have")
    known = list(run.frames)
    if isinstance(missing, list):
        wanted = {m for m in missing[:1000] if isinstance(m, int)}
        return run.message_with([f for f in known if f["index"] in wanted])
    return run.message_with(known[have:] if isinstance(have, int) and have > 0 else known)


def draw_example() -> threading.Thread:
    """Draw the example run in the background, once for the process; gives the thread."""
    run = STORE.add(Run(EXAMPLE, "example"))

    def work() -> None:
        try:
            for _ in run.play():
                pass
        except DDPMHubError:
            pass  # the run carries its sentence, and the timeline shows it
        except Exception:
            run.phase, run.message = "error", "The example could not be drawn: see the log."
            raise

    thread = threading.Thread(target=work, name="example", daemon=True)
    thread.start()
    return thread
