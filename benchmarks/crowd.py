"""A crowd at the demo: how long 50 visitors wait, beside a training, and what 200 runs leave.

    .venv/bin/python benchmarks/crowd.py [--visitors 50] [--runs 200]

It starts the app in a process of its own, on loopback alone. First everybody comes in the same
moment, each from one of ten addresses, while a training runs: one run (/sample) for each, and a
light call (/schedule) every second until that is done. Reported: the light calls' median and 95th
percentile, and those of that first moment apart; the runs' waiting times, and how many were served.
Then runs one after the other, each of a new session, and the server's memory on the way; last the
folder of uploads.
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from crowd import Guest, endpoints, everybody, resident, sampling  # noqa: E402

EARLY = 20  # runs after which memory is looked at first


def start(folder: Path) -> tuple[subprocess.Popen, str]:
    """The app, up; its process and address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    told = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    told |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    told |= {"DDPM_HUB_RUNS": str(folder / "runs"), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=os.environ | told, stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            httpx.get(f"{url}/config", timeout=5)
            return process, url
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit("the app did not answer within two minutes")


async def visit(url: str, numbers: dict, n: int) -> tuple[list[float], object]:
    """One visitor: seconds of light calls, made all the while, and one run."""
    seconds: list[float] = []
    address = f"127.0.0.{20 + n % 10}"
    async with Guest(url, address) as guest, Guest(url, address) as light:
        light.session = f"{guest.session}l"
        run = asyncio.create_task(guest.run(numbers["sample"], sampling(10, n)))
        while not run.done():
            answer = await light.run(numbers["schedule"], ["cosine", 100])
            seconds.append(answer.last if answer.done else float("inf"))
            await asyncio.sleep(1)
        return seconds, await run


async def crowd(url: str, visitors: int) -> None:
    """Everybody at once, beside a training."""
    numbers = endpoints(url)
    async with Guest(url) as trainer:
        begun = await trainer.run(numbers["train_start"], ["bundled", "tiny", 20_000, 0])
        job = begun.end["output"]["data"][0]["job"]
        seen = await everybody(visit(url, numbers, n) for n in range(visitors))
        await trainer.run(numbers["train_stop"], [job])
    runs = sorted(run.last for _, run in seen if run.done)
    show("light calls", [one for seconds, _ in seen for one in seconds])
    show("of these in the first moment", [seconds[0] for seconds, _ in seen])
    print(f"runs served: {len(runs)} of {visitors}; ", end="")
    print(
        f"seconds to the end: first {runs[0]:.1f}, median {statistics.median(runs):.1f}, ", end=""
    )
    print(f"last {runs[-1]:.1f}")


def show(what: str, seconds: list[float]) -> None:
    """One line: how many, the median, the 95th percentile."""
    *_, late = statistics.quantiles(seconds, n=20)
    print(f"{what}: {len(seconds)}, median {statistics.median(seconds):.2f} s, ", end="")
    print(f"95th percentile {late:.2f} s")


async def memory(url: str, pid: int, runs: int) -> None:
    """Runs one after the other, each of a new visitor."""
    numbers, early = endpoints(url), 0
    for n in range(1, runs + 1):
        async with Guest(url, f"127.0.0.{20 + n % 10}") as guest:
            run = await guest.run(numbers["sample"], sampling(5, n, 4))
            if not run.done:
                raise SystemExit(f"run {n} failed: {run.end}")
        if n == EARLY:
            early = resident(pid)
        if n in (EARLY, runs):
            now = resident(pid)
            print(f"after {n} runs {now / 1e6:,.0f} MB, {now / early - 1:+.1%}")


def main() -> None:
    """Both, on a fresh app."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--runs", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process, url = start(folder)
        try:
            asyncio.run(crowd(url, asked.visitors))
            asyncio.run(memory(url, process.pid, asked.runs))
        finally:
            process.terminate()
            process.wait(30)
        left = sum(path.stat().st_size for path in folder.glob("uploads/**/*") if path.is_file())
        print(f"uploads left: {left:,} bytes")


if __name__ == "__main__":
    main()
