"""Many visitors of a running app at once, without browsers: plain HTTP, as Gradio's clients speak.

In the room: joining the queue, listening, direct calls, and the memory of a server. Not in the
room: tests (tests/app/), figures (benchmarks/crowd.py).
"""

import asyncio
import json
import re
import secrets
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx

API = "/gradio_api"


def waited_for(work: Coroutine) -> Any:
    """`asyncio.run` in a thread of its own: in other tests Playwright's loop runs in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class Endpoint(NamedTuple):
    """The number by which a page asks for it, and how many arguments it takes."""

    id: int
    inputs: int


@dataclass
class Run:
    """What somebody saw of one call: seconds until the first and the last answer, and the end."""

    first: float = 0.0
    last: float = 0.0
    answers: list = field(default_factory=list)
    end: dict = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return bool(self.end.get("success"))


class Guest:
    """One session at one address of this machine; `async with` closes its connections."""

    def __init__(self, url: str, address: str = "127.0.0.1", session: str | None = None) -> None:
        self.session = session or secrets.token_hex(6)
        # no certificates: reading them takes 50 ms, in which a crowd's clocks would all stand still
        transport = httpx.AsyncHTTPTransport(verify=False, local_address=address)
        self.http = httpx.AsyncClient(base_url=url, transport=transport, timeout=120)

    async def __aenter__(self) -> "Guest":
        return self

    async def __aexit__(self, *_) -> None:
        await self.http.aclose()

    async def join(self, endpoint: Endpoint, data: list) -> httpx.Response:
        """A place in the queue, or a refusal: nobody listens yet. What `data` lacks is null."""
        data = [*data, *[None] * (endpoint.inputs - len(data))]
        body = {"fn_index": endpoint.id, "data": data, "session_hash": self.session}
        return await self.http.post(f"{API}/queue/join", json=body)

    async def run(self, endpoint: Endpoint, data: list) -> Run:
        """Join, and listen to the end."""
        began, seen = time.monotonic(), Run()
        answer = await self.join(endpoint, data)
        if answer.status_code != 200:
            return Run(end={"success": False, "status": answer.status_code} | answer.json())
        event = answer.json()["event_id"]
        async for message in self.listen():
            if message.get("event_id") != event:
                continue
            if message["msg"] in ("process_generating", "process_completed"):
                seen.first = seen.first or time.monotonic() - began
                seen.answers.append(message["output"])
            if message["msg"] == "process_completed":
                seen.last, seen.end = time.monotonic() - began, message
                break
        return seen

    async def listen(self):
        """The session's messages, as long as there are any."""
        query = {"session_hash": self.session}
        async with self.http.stream("GET", f"{API}/queue/data", params=query) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])


def endpoints(url: str) -> dict[str, Endpoint]:
    """Each endpoint and handler by its name, as the page is told."""
    found = httpx.get(f"{url}/config").json()["dependencies"]
    return {d["api_name"]: Endpoint(d["id"], len(d["inputs"])) for d in found if d["api_name"]}


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def sampling(steps: int = 10, seed: int = 1, batch: int = 1) -> list:
    """The first arguments of /sample."""
    return ["bundled", "ddim", steps, 0.0, batch, seed]


async def everybody(tasks):
    """All at once; what they gave."""
    return await asyncio.gather(*tasks)
