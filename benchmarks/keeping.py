"""What `memory.keep_memory` is worth: the same work with malloc as it is, and told to keep memory.

    make bench                             or  .venv/bin/python benchmarks/keeping.py [--json]

Each measurement in a process of its own, in turns, since malloc cannot be told to forget what it
was told. Beside the times: the pages that the system gave for one call, each cleared first, and
what the process held in the end.
"""

import resource
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402 (the repository's folders are not installed)
from report import apart, parser_of, ratio, report  # noqa: E402

from ddpm_hub import GaussianDiffusion, TrainConfig, Unet  # noqa: E402
from ddpm_hub.memory import keep_memory  # noqa: E402
from ddpm_hub.training import loop  # noqa: E402

CALLS = 7  # in a measurement, after two that warm up


def drawing(batch, runtime):
    """A function of nothing that makes three steps with the bundled model."""
    process = GaussianDiffusion.from_pretrained("bundled").accelerated(runtime)
    return lambda: process.sample(batch, sampler="unipc", steps=3, seed=0, progress=False)


def training(batch, precision, **network):
    """A function of nothing that makes a training step on colour images of 32x32."""
    config = TrainConfig(
        train_batch_size=batch,
        train_num_steps=10**9,
        save_and_sample_every=10**9,
        results_folder=None,
        mixed_precision=precision,
    )
    pixels = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8)
    process = GaussianDiffusion(Unet(**network), image_size=32)
    events = loop.Training(process, pixels, config).events()
    return lambda: next(events)


SMALL, LARGE = {"dim": 32, "dim_mults": (1, 2, 4)}, {"dim": 64, "dim_mults": (1, 2, 4, 8)}
WORK = {
    "3 steps of the bundled model, float32": lambda batch: drawing(batch, "eager"),
    "the same, packed": lambda batch: drawing(batch, "packed"),
    "training step, dim 32, default": lambda batch: training(batch, "auto", **SMALL),
    "training step, dim 32, float32": lambda batch: training(batch, "no", **SMALL),
    "training step, dim 64, default": lambda batch: training(batch, "auto", **LARGE),
    "training step, dim 64, float32": lambda batch: training(batch, "no", **LARGE),
}


def one(work, batch, kept):
    """(median seconds of a call, pages that it was given, bytes held in the end)."""
    if kept and not keep_memory():
        raise SystemExit("malloc is not glibc's here, or the environment says how it is to be")
    run = WORK[work](batch)
    times, pages = [], []
    for _ in range(2 + CALLS):
        before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
        pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return statistics.median(times[2:]), statistics.median(pages[2:]), held


def measure(options):
    """One row for each kind of work."""
    for work in WORK:
        found = {False: [], True: []}
        for i in range(options.rounds):
            for kept in (False, True) if i % 2 else (True, False):
                found[kept].append(apart(one, work, options.batch, kept))
        pairs = zip(found[False], found[True], strict=True)
        low, middle, high = statistics.quantiles([a[0] / b[0] for a, b in pairs], n=4)
        middles = {
            kept: [statistics.median(column) for column in zip(*rows, strict=True)]
            for kept, rows in found.items()
        }
        yield {
            "work": work,
            "batch": options.batch,
            "as_it_is": middles[False],
            "kept": middles[True],
            "ratio": middle,
            "quartiles": [low, high],
            "rounds": options.rounds,
        }


def cell(key):
    """Milliseconds, pages and megabytes."""

    def text(row):
        seconds, pages, held = row[key]
        return f"{1e3 * seconds:.0f} ms, {pages:,.0f} pages, {held / 2**20:.0f} MB"

    return text


CELLS = {
    "work": lambda row: row["work"],
    "as it is": cell("as_it_is"),
    "kept": cell("kept"),
    "ratio (quartiles)": ratio,
}


if __name__ == "__main__":
    report(measure, parser_of(__doc__, rounds=5, batch=16).parse_args(), CELLS)
