"""Recent runs: what the timeline is sent, and what can be asked for again or downloaded.

In the room: a run that can be paused, stepped, gone on with and branched; a run as messages for
the timeline, throttled by time; the bounded store of runs; the example that is drawn when the app
starts. Not in the room: how frames are made (engine.py), files made of a run (exports.py). No
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
from ddpm_hub.app import engine, limits, models, states
from ddpm_hub.errors import ConfigError, DDPMHubError, shown
from ddpm_hub.samplers import default_eta

MAX_BYTES = 128_000_000  # of all stored frames and states together
MAX_RUNS = 64
EXAMPLE = limits.Request("bundled", "unipc", 25, None, 16, 7)
OVER = ("done", "stopped", "error")


class Run:
    """One sampling run: its plan, the frames so far, and how it stands.

    state: "waiting", "starting", "running", "paused", then "done", "stopped" or "error".
    plan: what else of `engine.Plan` there is to say. parent: id of the run it branches from.
    """

    def __init__(
        self, request: limits.Request, id: str | None = None, parent: str | None = None, **plan
    ) -> None:
        self.plan = engine.Plan(request, **plan)
        self.id = id or secrets.token_hex(12)  # unguessable: it is the key to the pictures
        self.parent = parent
        self.frames: list[dict] = []
        self.states = states.Kept()
        self.message: str | None = None
        self.wanted: int | None = None  # frames to draw before the next pause; None: all
        self.phase = "waiting"  # written by whoever draws ...
        self.halted = False  # ... and this by whoever stops it: neither can undo the other
        self.pencil = threading.Lock()  # who has it draws

    @property
    def request(self) -> limits.Request:
        """What was asked for."""
        return self.plan.request

    @property
    def size(self) -> int:
        """Bytes of its frames and states."""
        return sum(len(f["x0"]) + len(f["x"]) + len(f["eps"]) for f in self.frames) + (
            self.states.size
        )

    @property
    def state(self) -> str:
        """The phase, or "stopped" if it was halted before its end."""
        return "stopped" if self.halted and self.phase not in ("done", "error") else self.phase

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.state in OVER

    @property
    def idle(self) -> bool:
        """Nothing comes by itself: it is over, or paused."""
        return self.over or self.phase == "paused"

    def stop(self) -> None:
        """End it after the step that is being computed, or before the first."""
        self.halted = True

    def pause(self) -> None:
        """Pause it after the step that is being computed; its state stays here."""
        self.wanted = 0

    def go_on(self, frames: int | None = None) -> None:
        """Let so many frames be drawn, or all that are left: by whoever plays it next."""
        self.wanted = frames
        if self.phase == "paused":
            self.phase = "waiting"

    def play(self) -> Iterator[dict]:
        """Draw what is wanted: each frame is kept here and given on."""
        if self._satisfied():
            return
        plan = self.plan._replace(state=self.states.newest or self.plan.state)
        try:
            with closing(engine.draw(plan)) as drawn:
                for frame, state in drawn:
                    if self.over:  # stopped while the step was computed
                        return
                    self._keep(frame, state)
                    yield frame
                    if self.phase == "paused":
                        return
        except DDPMHubError as error:
            self.phase, self.message = "error", str(error)
            raise
        finally:
            if self.phase != "paused":
                self.stop()  # also when whoever listened went away

    def _keep(self, frame: dict, state) -> None:
        self.frames.append(frame)
        self.states.add(state)
        self.phase = "done" if frame["done"] else "running"
        if self.wanted is not None:
            self.wanted -= 1
            self._satisfied()

    def _satisfied(self) -> bool:
        """Whether no frame is wanted now; then it is paused, unless it is over."""
        if self.wanted is None or self.wanted > 0 or self.over:
            return False
        self.phase = "paused"
        return True

    def message_with(self, frames: list[dict]) -> dict:
        """A timeline message that carries these frames (see widgets/timeline.py)."""
        message = {
            "run": self.id,
            "state": self.state,
            "message": self.message,
            "frames": [{k: v for k, v in f.items() if k != "png"} for f in frames],
            "meta": self.meta(),
        }
        if self.parent is not None:
            message["of"] = self.parent
        if self.state == "done":
            message["kept"] = [f["index"] for f in self.frames]
        return message

    def meta(self) -> dict:
        """What is the same for every frame of the run, and goes into its files."""
        plan = self.plan
        meta = {
            **self.request._asdict(),
            "total": self.frames[0]["total"] if self.frames else self.request.steps or 0,
            "columns": images.grid_columns(self.request.batch),
            "device": models.describe_device(),
        }
        if plan.start is not None:
            meta["start"] = {"t": plan.start.t, "words": plan.start.words}
        if plan.turns:
            meta["turns"] = [list(turn) for turn in plan.turns]
            meta["noise_by"] = None if has_noise(self.request) else "ddim with eta 1"
        return meta


def has_noise(request: limits.Request) -> bool:
    """Whether another seed, from some step on, would change the picture."""
    own = None if request.sampler is None else default_eta(request.sampler)
    return states.has_noise(request.sampler or "ddim", own if request.eta is None else request.eta)


def branch(run: Run, index: object, seed: int) -> Run:
    """The run that is this one until after frame `index`, and from there on has other noise.

    It begins in the nearest state that was kept, so the same seed draws the same branch. A sampler
    without noise goes on as ddim with eta 1: see `states.turned`.
    """
    known = [frame["index"] for frame in run.frames]
    total = run.frames[0]["total"] if run.frames else 0
    if not run.idle:
        raise ConfigError("this run is still being drawn: pause or stop it, then branch")
    if type(index) is not int or index not in known or index >= total - 1:
        raise ConfigError(
            f"frame {shown(index)} is none that a branch can leave from: choose one in "
            f"{known[0] if known else 0} .. {total - 2}"
        )
    at = index + 1
    return Run(
        run.request,
        parent=run.id,
        start=run.plan.start,
        turns=(*run.plan.turns, engine.Turn(at, seed)),
        state=run.states.before(at) or run.plan.state,
    )


class Store:
    """The newest runs, by id; the oldest go when there are too many, or too many bytes."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_runs: int = MAX_RUNS) -> None:
        self.max_bytes, self.max_runs = max_bytes, max_runs
        self.runs: OrderedDict[str, Run] = OrderedDict()
        self.lock = threading.Lock()

    def add(self, run: Run) -> Run:
        """Keep the run as the newest, and forget the oldest beyond the limits, not the example.

        First those that are over or paused. Runs that wait or are drawn stay, unless they are
        twice as many as all may be: a queue is shorter, so nobody waits for the oldest of these.
        """
        with self.lock:
            self.runs[run.id] = run
            self.runs.move_to_end(run.id)
            others = [r for r in self.runs.values() if r.id not in (run.id, "example")]
            size, count = sum(r.size for r in self.runs.values()), len(self.runs)
            for old in [r for r in others if r.idle]:
                if size <= self.max_bytes and count <= self.max_runs:
                    break
                size, count = size - self.runs.pop(old.id).size, count - 1
            for old in [r for r in others if not r.idle][: max(0, count - 2 * self.max_runs)]:
                old.stop()
                del self.runs[old.id]
        return run

    def get(self, id: object) -> Run | None:
        """The run of that id, or None: unknown, or forgotten."""
        return self.runs.get(id) if isinstance(id, str) else None


STORE = Store()


def stream(run: Run) -> Iterator[dict]:
    """What is wanted of a run as timeline messages: a status at once, then its frames.

    Frames come at most every 40 ms; steps faster than that travel together, so every kept frame
    arrives. The first thing is a status, because Gradio cannot cancel a generator that has not
    yielded yet. Of a run that somebody draws already, or that is over, there are none.
    """
    if run.over or not run.pencil.acquire(blocking=False):
        return
    try:
        if run.phase == "waiting":
            run.phase = "running" if run.frames else "starting"
        yield run.message_with([])
        yield from _throttled(run)
    finally:
        run.pencil.release()
        STORE.add(run)  # again, now that its size is known


def _throttled(run: Run) -> Iterator[dict]:
    pending, last = [], -math.inf
    for frame in run.play():
        pending.append(frame)
        if frame["done"] or time.monotonic() - last >= engine.YIELD_SECONDS:
            yield run.message_with(pending)
            pending, last = [], time.monotonic()
    if run.state in ("stopped", "paused"):
        yield run.message_with(pending)


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
