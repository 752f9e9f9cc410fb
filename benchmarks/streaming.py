"""What it costs to watch: a run streamed to somebody, beside `diffusion.sample` of the same run.

    make bench                             or  .venv/bin/python benchmarks/streaming.py [--json]

Two listeners: the messages that the Sample tab is sent, written as JSON in this process; and a
gradio_client in another process at the app's endpoint /sample, which sends every frame by itself.
Interleaved: each round times one run of each and one of plain `sample`, in changing order.
Reported is the median over rounds of the ratio of times, with its quartiles. The frames are
checked, too: all of them, in order, none twice.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from ddpm_hub import app  # noqa: E402 (the repository's folders are not installed)
from ddpm_hub.app import limits, models, runs  # noqa: E402

LISTENER = """
import json, sys, time
from gradio_client import Client
client = Client(sys.argv[1], verbose=False)
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    job = client.submit(**json.loads(line), api_name="/sample")
    first = None
    indexes = []
    for frame in job:
        first = first or time.perf_counter() - start
        indexes.append(frame["index"])
    print(json.dumps({"indexes": indexes, "first": first}), flush=True)
"""


class Listener:
    """A gradio_client in a process of its own, as somebody elsewhere has one."""

    def __init__(self, url):
        command = [sys.executable, "-c", LISTENER, url]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.process.stdout.readline()
        self.first = []  # seconds from asking to the first frame

    def draw(self, request):
        """One run at /sample; the indexes of its frames."""
        names = ("model", "sampler", "steps", "batch", "seed")
        asked = {name: getattr(request, name) for name in names}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.first.append(answer["first"])
        return answer["indexes"]


def messages(request):
    """One run as the Sample tab gets it; the indexes of its frames."""
    indexes = []
    for message in runs.stream(runs.Run(request)):
        json.dumps(message)
        indexes += [frame["index"] for frame in message["frames"]]
    return indexes


def plain(request):
    """The same run with nobody watching."""
    models.load(request.model).sample(
        request.batch,
        sampler=request.sampler,
        steps=request.steps,
        seed=request.seed,
        progress=False,
    )
    return list(range(request.steps))


def compare(listen, request, rounds, clock):
    """Median seconds of plain and of streamed, median and quartiles of streamed / plain."""
    times, ratios = ([], []), []
    for i in range(rounds + 1):
        for which in (0, 1) if i % 2 else (1, 0):
            start = clock()
            indexes = (plain, listen)[which](request)
            times[which].append(clock() - start)
            if indexes != list(range(request.steps)):
                raise SystemExit(f"{request.steps} frames were drawn, and these came: {indexes}")
        ratios.append(times[1][-1] / times[0][-1])
    low, middle, high = statistics.quantiles(ratios[1:], n=4)  # the first round warms up
    return {
        "plain_s": statistics.median(times[0][1:]),
        "streamed_s": statistics.median(times[1][1:]),
        "ratio": middle,
        "quartiles": [low, high],
        "rounds": rounds,
    }


def measure(options, listener):
    """One row for each listener and batch."""
    clock = time.process_time if options.cpu_time else time.perf_counter
    for batch in options.batches:
        request = limits.request("bundled", "unipc", options.steps, None, batch, 7)
        for name, listen in (("the tab's messages", messages), ("HTTP, /sample", listener.draw)):
            row = compare(listen, request, options.rounds, clock)
            yield {"listener": name, "batch": batch, "steps": options.steps, **row}
        call = statistics.median(seconds_of_calls(request))
        first = statistics.median(listener.first[-options.rounds :])
        yield {"listener": "first frame, HTTP", "batch": batch, "first_s": first, "call_s": call}


def seconds_of_calls(request):
    """Of each network call of a plain run but the first."""
    stream = models.load(request.model).sample_stream(
        request.batch, sampler=request.sampler, steps=request.steps, seed=request.seed
    )
    next(stream)
    start = time.perf_counter()
    for _ in stream:
        yield time.perf_counter() - start
        start = time.perf_counter()


def options_of(argv=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--threads", type=int, default=0, help="0: as the app has it")
    parser.add_argument("--cpu-time", action="store_true", help="on a busy machine, with 1 thread")
    parser.add_argument("--json", action="store_true", help="one object per row")
    return parser.parse_args(argv)


def show(row):
    """A row of the table; of the first frame a sentence."""
    if "first_s" in row:
        first, call = (1e3 * row[name] for name in ("first_s", "call_s"))
        print(f"\nbatch {row['batch']}: the first frame is there after {first:.0f} ms, ", end="")
        print(f"of which {call:.0f} are its network call\n")
        return
    low, high = row["quartiles"]
    print(
        f"| {row['listener']} | {row['batch']} x {row['steps']} | {row['plain_s']:.2f} | "
        f"{row['streamed_s']:.2f} | {row['ratio']:.3f} ({low:.3f}-{high:.3f}) |",
        flush=True,
    )


def main():
    """Print a table, or one JSON object per row."""
    options = options_of()
    demo = app.build(example=False)
    if options.threads:
        torch.set_num_threads(options.threads)
    _, url, _ = demo.launch(**app.launch_options() | {"quiet": True}, prevent_thread_lock=True)
    listener = Listener(url)
    if not options.json:
        clock = "seconds of CPU" if options.cpu_time else "seconds"
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, ", end="")
        print(f"{models.describe_device()}, medians of {options.rounds} rounds, {clock}\n")
        print("| listener | images x steps | plain | streamed | ratio (quartiles) |")
        print("|---|---|---|---|---|")
    try:
        for row in measure(options, listener):
            print(json.dumps(row), flush=True) if options.json else show(row)
    finally:
        listener.process.kill()
        demo.close()


if __name__ == "__main__":
    main()
