"""Recent runs: what the timeline is sent, and what can be asked for again or downloaded.

In the room: a run as messages for the timeline, throttled by time; the bounded store of runs; the
example that is drawn when the app starts; files made from a run. No torch, no gradio here.
"""

from __future__ import annotations

import base64
import io
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing

from PIL import Image

from ddpm_hub import images
from ddpm_hub.app import engine, limits
from ddpm_hub.errors import DDPMHubError
from ddpm_hub.version import __version__

MAX_BYTES = 128_000_000  # of all stored frames together
MAX_RUNS = 64
FILM_FRAMES = 60  # of a downloaded film: bounds the seconds it costs
FILM_FPS = 12
PICTURE_SIDE = 512  # a 28-pixel PNG is no keepsake: whole-number enlargement up to here
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
            "device": engine.describe_device(),
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


# ---- files --------------------------------------------------------------------------------------
MIME = {"png": "image/png", "webp": "image/webp", "gif": "image/gif"}


def export(query: dict) -> dict:
    """A file of a run: {run, format: png | webp | gif} -> {name, mime, data} or {error}.

    PNG: the last picture (of a stopped run, what the network last believed), with the settings
    in its metadata. WebP and GIF: x0 beside x_t through at most 60 frames.
    """
    run = STORE.get(query.get("run")) if isinstance(query, dict) else None
    format = query.get("format") if run else None
    if run is None or not run.frames:
        return {"error": "This run is no longer kept on the server: run it again."}
    if format not in MIME:
        return {"error": "The formats are png, webp and gif."}
    data = picture(run) if format == "png" else film(run, format)
    name = f"ddpm-{run.request.sampler}-{run.meta()['total']}-seed{run.request.seed}.{format}"
    return {"name": name, "mime": MIME[format], "data": base64.b64encode(data).decode("ascii")}


def picture(run: Run) -> bytes:
    """The run's result as PNG; `images.read_metadata` gives back what made it."""
    last = run.frames[-1]
    image = _decode(last["x"] if last["done"] else last["x0"])
    shown = images.enlarge(image, PICTURE_SIDE)
    metadata = {
        **run.meta(),
        "model": public_name(run.request.model),
        "ddpm_hub_version": __version__,
        "shows": "x" if last["done"] else "x0",
        "step": last["index"] + 1,
        "enlarged": shown.width // image.width,
    }
    return images.save_png(shown, metadata)


def public_name(model: str) -> str:
    """Without the id of a training or the key of a private model: pictures are passed on."""
    kind = model.partition(":")[0]
    return {"job": "a training run", "opened": "a private model"}.get(kind, model)


def title_of(model: str) -> str:
    """The same as people write it: a repository with the first letters of its commit."""
    name, at, commit = public_name(model).partition("@")
    return f"{name} @ {commit[:7]}" if at else name


def film(run: Run, format: str) -> bytes:
    """The run as an endless animation, x0 on the left and x_t on the right."""
    known = list(run.frames)
    stride = max(1, math.ceil((len(known) - 1) / (FILM_FRAMES - 1)))
    chosen = [*known[:-1:stride], known[-1]]
    return images.animate([_side_by_side(frame) for frame in chosen], format, FILM_FPS)


def _side_by_side(frame: dict) -> Image.Image:
    x0, x = (images.enlarge(_decode(frame[name])) for name in ("x0", "x"))
    gap = x0.width // 16
    sheet = Image.new(x0.mode, (2 * x0.width + gap, x0.height), "white")
    sheet.paste(x0, (0, 0))
    sheet.paste(x, (x0.width + gap, 0))
    return sheet


def _decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))
