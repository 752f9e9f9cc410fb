"""The gate: what reaches Gradio at all, before anything is read into memory or onto the disk.

In the room: ASGI middleware that counts bytes, closes paths that this demo does not use, notes who
listens, and keeps the folder of uploads bounded. Not in the room: whose turn it is (visitors.py),
what an upload must be (uploads.py), what one run may cost (limits.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from gradio.utils import get_upload_folder

from ddpm_hub.app.visitors import LISTENERS, PAGES, Listeners, address_of

MAX_BODY = 10_000_000  # of a request that is no upload: a picture as text, with room
MAX_UPLOAD = 64_000_000  # of one request: 500 pictures of 128 kB, or 13 of the largest
# Of one address in WINDOW seconds: a class where each brings a set.
MAX_UPLOADS_HERE, WINDOW = 1_000_000_000, 600.0
MAX_FOLDER = 2_000_000_000  # of all uploads together: the oldest go
MAX_AGE = 3600.0  # seconds that an upload stays: it was read when it came
MAX_STREAMS = 256  # open at once for one address: two tabs for each of a class, twice over
AT_ONCE = 8  # short calls of one address that are worked on together: of 40 threads
MAX_WAITING = 200  # and those that wait for that

# Gradio serves these, and the demo uses none: other people's servers, recordings, links that are
# kept on the disk, editing the app in the browser, its statistics.
CLOSED = re.compile(
    r"/gradio_api/(proxy=|process_recording|deep_link|vibe-|stream/|dev/|run-history|runs\b)"
    r"|/monitoring"
)
UPLOAD = "/gradio_api/upload"
CALLS = re.compile(r"/gradio_api/(component_server|run/|api/|call/|queue/join)")
LISTENING = re.compile(r"/gradio_api/(queue/data|call/[^/]+/(?P<event>[0-9a-f]+))/?")
HEARTBEAT = re.compile(r"/gradio_api/heartbeat/(?P<session>[^/]+)/?")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Refused(Exception):
    """A request that goes no further: the HTTP status, and a sentence for who sent it."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Gate:
    """Middleware around Gradio's app; see above."""

    def __init__(self, app: Callable) -> None:
        self.app = app
        self.sent: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)
        self.streams: Counter[str] = Counter()
        self.calls: defaultdict[str, _Door] = defaultdict(_Door)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = False

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._pass(scope, receive, noted)
        except Refused as refused:
            if not began:
                await _answer(send, refused)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, here = scope["path"], address_of(scope)
        if CLOSED.match(path):
            raise Refused(404, "this demo has no such page")
        if scope["method"] in ("POST", "PUT", "PATCH"):
            await self._take(scope, receive, send, here)
        elif who := _listener(scope):
            with self._stream(here, *who):
                await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    # ---- what comes in ----
    async def _take(self, scope: Scope, receive: Receive, send: Send, here: str) -> None:
        upload = scope["path"].rstrip("/") == UPLOAD
        limit = MAX_UPLOAD if upload else MAX_BODY
        size = _length(scope)
        if size > limit:
            raise Refused(413, _too_large(size, limit, upload))
        counted = _Counted(receive, limit, upload)
        if upload:
            self._check_allowance(here, size)
            try:
                await self.app(scope, counted, send)
            finally:
                self.sent[here].append((time.monotonic(), counted.size))
                await asyncio.to_thread(tidy)
        elif CALLS.match(scope["path"]):
            try:
                async with self.calls[here].open():
                    await self.app(scope, counted, send)
            finally:
                if self.calls[here].idle:
                    del self.calls[here]
        else:
            await self.app(scope, counted, send)

    def _check_allowance(self, here: str, size: int) -> None:
        """Refused if this address sent too much lately; forgets what was long ago."""
        past = time.monotonic() - WINDOW
        for who in list(self.sent):
            while self.sent[who] and self.sent[who][0][0] < past:
                self.sent[who].popleft()
            if not self.sent[who]:
                del self.sent[who]
        sent = sum(size for _, size in self.sent[here])
        if sent + size > MAX_UPLOADS_HERE:
            raise Refused(
                429,
                f"{(sent + size) / 1e6:,.0f} MB in {WINDOW / 60:.0f} minutes are more than the "
                f"{MAX_UPLOADS_HERE / 1e6:,.0f} MB that one address may send: wait a little",
            )

    # ---- what stays open ----
    @contextmanager
    def _stream(self, here: str, listeners: Listeners, who: str):
        if self.streams[here] >= MAX_STREAMS:
            raise Refused(
                429, f"{MAX_STREAMS} streams from here are open, no more: close some pages"
            )
        self.streams[here] += 1
        listeners[who] += 1
        try:
            yield
        finally:
            listeners.leave(who)
            self.streams[here] -= 1
            if not self.streams[here]:
                del self.streams[here]


class _Door:
    """AT_ONCE of one address are within, others wait their turn; nobody waits for strangers."""

    def __init__(self) -> None:
        self.places, self.here = asyncio.Semaphore(AT_ONCE), 0

    @property
    def idle(self) -> bool:
        """Nobody is within, and nobody waits."""
        return self.here == 0

    def open(self) -> _Door:
        """To be entered by `async with`; Refused if too many wait."""
        if self.here >= AT_ONCE + MAX_WAITING:
            raise Refused(
                429, f"{self.here} requests from here wait already: ask again in a moment"
            )
        return self

    async def __aenter__(self) -> None:
        self.here += 1
        try:
            await self.places.acquire()
        except BaseException:
            self.here -= 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self.here -= 1
        self.places.release()


class _Counted:
    """`receive`, until more has come than may: a length that was announced is only a claim."""

    def __init__(self, receive: Receive, limit: int, upload: bool) -> None:
        self.receive, self.limit, self.upload, self.size = receive, limit, upload, 0

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self.receive()
        self.size += len(message.get("body", b""))
        if self.size > self.limit:
            raise Refused(413, _too_large(self.size, self.limit, self.upload))
        return message


def _too_large(size: int, limit: int, upload: bool) -> str:
    cure = "send fewer files at once, or smaller ones" if upload else "send less"
    return f"{size / 1e6:,.1f} MB are more than the {limit / 1e6:,.0f} MB of one request: {cure}"


def _length(scope: Scope) -> int:
    said = dict(scope["headers"]).get(b"content-length", b"0")
    return int(said) if said.isdigit() and len(said) < 19 else 0


def _listener(scope: Scope) -> tuple[Listeners, str] | None:
    """Which list a stream belongs to, and under which name; None if it is none."""
    if found := HEARTBEAT.fullmatch(scope["path"]):
        return PAGES, found["session"]
    if not (found := LISTENING.fullmatch(scope["path"])):
        return None
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return LISTENERS, found["event"] or query.get("session_hash", [""])[0]


async def _answer(send: Send, refused: Refused) -> None:
    body = json.dumps({"detail": str(refused)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refused.status == 413:
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# ---- the folder of uploads ----------------------------------------------------------------------
@cache
def own_folder() -> Path:
    """Where uploads lie: GRADIO_TEMP_DIR, or else a new folder of this process alone.

    Gradio's own choice is one folder for all its apps on a machine, where we may remove nothing.
    """
    if "GRADIO_TEMP_DIR" not in os.environ:
        made = tempfile.TemporaryDirectory(prefix="ddpm_hub_uploads_")
        _folders.append(made)  # removed with the process
        os.environ["GRADIO_TEMP_DIR"] = made.name
    return Path(get_upload_folder())


_folders: list[tempfile.TemporaryDirectory] = []


def tidy() -> None:
    """Remove uploads, whole or broken off, that are too old or beyond MAX_FOLDER: the oldest."""
    files = []
    with suppress(OSError):
        for path in own_folder().rglob("*"):
            with suppress(OSError):
                facts = path.lstat()
                if path.is_file():
                    files.append((facts.st_mtime, facts.st_size, path))
    taken, past = 0, time.time() - MAX_AGE
    for changed, size, path in sorted(files, reverse=True):
        taken += size
        if taken > MAX_FOLDER or changed < past:
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()  # Gradio gives each file a folder; others are not empty
