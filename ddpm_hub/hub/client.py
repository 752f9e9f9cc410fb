"""The Hub's client at work in a process of its own, which can be ended whatever it waits for.

Left alone the client waits for ever where a server falls silent, and for minutes where one fails.
Here is how such a process is started, watched, and ended, and how what went wrong becomes a
sentence. What it does there is in `tasks.py`.

The two processes speak in lines of JSON. The first line to the child is its task, so that a token
is on no command line and in no environment; when that pipe closes, the parent is gone, and the
child goes, too. The child's lines are its signs of life, and at last its answer.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import IO, Any, NoReturn

from huggingface_hub import constants, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError

from ddpm_hub.errors import HubError

SILENCE = 40.0  # seconds without an answer or SIGN bytes, after which the child is ended
SIGN = 2**14  # bytes: a server that drips fewer than these in SILENCE is as good as silent
LONGEST = 6 * 3600.0  # seconds for all of a call, however well the bytes flow
ANSWER = 35.0  # seconds that the child waits for one answer: it then says which was missing
CHUNK = 2**16  # bytes: the client's own 10 MB would take over SILENCE on a slow line
CHILD = "import sys; sys.path[:] = sys.argv[1].split('\\n'); from {0} import {1}; {1}()"
SECRET = re.compile(r"hf_\w+|(?<=Signature=)[^&\s'\"]+|(?<=Bearer )\S+")
BUSY = {408, 425, 429}  # and all from 500: another try may do

KINDS = {
    "GatedRepoError": "gated",
    "DisabledRepoError": "disabled",
    "RepositoryNotFoundError": "missing",
    "RevisionNotFoundError": "revision",
    "LocalEntryNotFoundError": "unreachable",
    "OfflineModeIsEnabled": "offline",
    "TimeoutException": "unreachable",
    "TransportError": "unreachable",
}
WHY = {
    "gated": "it is gated",
    "missing": "it does not exist, or is private",
    "offline": "offline mode is on",
}
CURES = {
    401: "log in with hf auth login, or set HF_TOKEN",
    402: "its owner's plan does not cover this: see https://huggingface.co/pricing",
    403: "use a token with the right to write there (hf auth login), or a repo of your own",
    "gated": "ask for access at {url}, then log in with hf auth login",
    "missing": "check the name, or log in with a token that may read it (hf auth login)",
    "revision": "give a branch, a tag or a commit that it has",
    "offline": "unset HF_HUB_OFFLINE, or open what was downloaded before",
    "public": "make it private in its settings, or push with private=False",
}


class Failure(Exception):
    """Why the Hub, or its client, did not do what it was asked; not yet a sentence.

    `kind` is one of KINDS' values, or "other"; `status` the HTTP status, if there was one.
    """

    def __init__(self, kind: str, why: str = "", status: int | None = None):
        super().__init__(why)
        self.kind, self.why, self.status = kind, why, status

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an exception of the client, the network or the disk tells of."""
        if isinstance(error, cls):
            return error
        names = [kind.__name__ for kind in type(error).__mro__]
        kind = next((KINDS[name] for name in names if name in KINDS), "other")
        if kind == "unreachable" and isinstance(error.__cause__, HfHubHTTPError):
            error = error.__cause__
        status = getattr(getattr(error, "response", None), "status_code", None)
        if kind == "other" and status is not None and (status in BUSY or status >= 500):
            kind = "unreachable"
        why = getattr(error, "server_message", None) or str(error) or type(error).__name__
        why = SECRET.sub("***", why.strip().splitlines()[0][:300])
        return cls(
            kind, f"{why}, HTTP {status}" if kind == "unreachable" and status else why, status
        )

    @property
    def passing(self) -> bool:
        """Whether another try may do."""
        return self.kind == "unreachable"

    def sentence(self, failed: str, url: str, more: str = "") -> HubError:
        """The error to raise: what `failed`, why, and the cure; `url` is the repo's page."""
        why = WHY.get(self.kind) or self.why
        cure = CURES.get(self.kind) or CURES.get(self.status) or "check the name and the network"
        return HubError(f"{failed} ({why}): {cure.format(url=url)}{more}")


def endpoint() -> str:
    """Where the Hub is, for this process and the child alike."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def check_token(token: str | bool | None) -> str | bool:
    """The token to send, or False for none; HubError if it is none that could be sent.

    None is the token that this machine is logged in with, if there is one; True requires it.
    """
    if token is None:
        return False if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token() or False
    if token is True:
        token = get_token() or ""
        if not token:
            raise HubError("token=True, but this machine has none: log in with hf auth login")
    if token is not False and not (isinstance(token, str) and re.fullmatch(r"[!-~]+", token)):
        raise HubError(
            "token is empty, or no string of plain characters: give one of "
            "https://huggingface.co/settings/tokens, or token=False to send none"
        )
    return token


def call(
    task: Callable[..., Any],
    told: dict[str, Any],
    token: str | bool,
    moved: Callable[[int], Any] | None = None,
) -> Any:
    """What `task(token=token, **told)`, a function of some module, returns in a child process.

    `moved` is told how many bytes were moved so far. Raises Failure.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            child = _start(errors)
        except OSError as error:
            raise Failure("other", f"the Hub's client could not be started: {error}") from error
        try:
            name = f"{task.__module__}:{task.__name__}"
            order = json.dumps({"task": name, "told": told | {"token": token}})
            _tell(child.stdin, order)
            return _listen(child, moved or (lambda count: None), errors)
        finally:
            _end(child)


def serve() -> NoReturn:
    """In the child: do the task that stdin tells of."""
    order = json.loads(sys.stdin.buffer.raw.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, name = order["task"].split(":")
    answer = _Signs()
    try:
        task = getattr(__import__(module, fromlist=[name]), name)
        answer.say(done=task(**order["told"]))
    except Exception as error:
        failure = Failure.of(error)
        answer.say(failed=[failure.kind, failure.why, failure.status])
    os._exit(0)  # threads of the client may still wait for something


def _start(errors: IO[bytes]) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_TOKEN")}
    environment |= {
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",  # what is to be sent is in the task
        "HF_HUB_DISABLE_PROGRESS_BARS": "0",  # they tell how far it is
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2",  # 3 minutes without
        "HF_XET_CLIENT_RETRY_BASE_DELAY": "500ms",  # waits that double: up to 10 s without
        "HF_XET_CHUNK_CACHE_SIZE_BYTES": "0",  # a damaged chunk must not come again from there
    }
    return subprocess.Popen(
        [sys.executable, "-c", CHILD.format(__name__, serve.__name__), "\n".join(sys.path)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,  # Ctrl-C is for the parent, which then ends the child, or goes on
    )


def _tell(pipe: IO[bytes], order: str) -> None:
    try:
        pipe.write(f"{order}\n".encode())
        pipe.flush()
    except OSError:  # it ended at once: what it leaves on stderr says why
        return


def _listen(child: subprocess.Popen, moved: Callable[[int], Any], errors: IO[bytes]) -> Any:
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read, args=(child.stdout, lines), daemon=True).start()
    last = time.monotonic() + LONGEST
    while True:
        left = last - time.monotonic()
        try:
            line = lines.get(timeout=max(0.0, min(SILENCE, left)))
        except queue.Empty:
            limit = f"nothing came for {SILENCE:g} seconds"
            if left < SILENCE:
                limit = f"it was not done after {LONGEST / 60:g} minutes"
            raise Failure("unreachable", limit) from None
        said = _parsed(line)
        if not line:
            errors.seek(0)
            why = errors.read()[-200:].decode(errors="replace").strip()
            raise Failure("other", f"the Hub's client ended: {SECRET.sub('***', why)}")
        if "failed" in said:
            raise Failure(*said["failed"])
        if "done" in said:
            return said["done"]
        moved(said.get("moved", 0))


def _read(pipe: IO[bytes], lines: queue.Queue[bytes]) -> None:
    with pipe:
        for line in pipe:
            lines.put(line)
    lines.put(b"")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:  # something that a library printed
        return {}
    return said if isinstance(said, dict) else {}


def _end(child: subprocess.Popen) -> None:
    child.kill()
    child.wait()
    child.stdin.close()  # its stdout is the reader's


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


class _Signs:
    """What the child tells its parent: that answers come, that bytes move, how it ended."""

    def __init__(self) -> None:
        from huggingface_hub.utils import tqdm

        self.moved: dict[int, float] = {}  # by bar: Xet has one for the line, one for the file
        self.told, self.lock = 0.0, threading.Lock()
        advance = tqdm.update

        def update(bar: Any, n: float = 1) -> Any:
            self._count(id(bar), n or 0)
            return advance(bar, n)

        tqdm.update = update  # the client tells only its bars what it sends
        constants.DOWNLOAD_CHUNK_SIZE = CHUNK
        session = get_session()
        session.timeout = ANSWER
        session.event_hooks["response"].append(lambda response: self.say(answered=True))

    def say(self, **line: Any) -> None:
        with self.lock:
            os.write(1, f"\n{json.dumps(line)}\n".encode())

    def _count(self, bar: int, n: float) -> None:
        self.moved[bar] = self.moved.get(bar, 0) + n
        total = sum(self.moved.values())
        if total - self.told >= SIGN:
            self.told = total
            self.say(moved=int(max(self.moved.values())))
