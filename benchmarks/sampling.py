"""A whole run: 16 images of the bundled model, ours beside the reference's, to equal quality.

    make bench                             or  .venv/bin/python benchmarks/sampling.py [--json]

The reference draws as it does by default: all 1000 ancestral steps, in float32. Ours draws as one
would who wants pictures of that quality soon: `diffusion.accelerated()` and unipc in 20 calls,
whose Frechet distance in docs/results.md is the smaller of the two (0.96 against 1.20). Same
weights, one process; each round times one run of theirs between two of ours. Beside it our own
float32, and what each call costs on both sides: so one sees which part is fewer calls, and which
faster ones.
"""

import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from peers import reference  # noqa: E402 (the repository's folders are not installed)
from report import parser_of, report  # noqa: E402

from ddpm_hub import GaussianDiffusion  # noqa: E402

SAMPLER, STEPS = "unipc", 20


def twins():
    """Our bundled model, and the reference's program with its weights."""
    ours = GaussianDiffusion.from_pretrained("bundled")
    module, known = reference(), ours.model.config
    names = ("dim", "dim_mults", "channels", "attn_heads", "attn_dim_head")
    arguments = {n: tuple(v) if isinstance(v := known[n], list) else v for n in names}
    net = module.Unet(**arguments)
    net.load_state_dict(ours.model.state_dict(), strict=True)
    theirs = module.GaussianDiffusion(
        net, image_size=28, timesteps=1000, beta_schedule="cosine", objective="pred_v"
    )
    return ours, theirs.eval()


def seconds(run):
    """Of one run."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def measure(options):
    """One row for each of our ways."""
    ours, theirs = twins()
    fast, batch = ours.accelerated(), options.batch
    ways = {f"accelerated ({fast.runtime.runtime})": fast, "float32 (eager)": ours}

    def draw(process):
        process.sample(batch, sampler=SAMPLER, steps=STEPS, seed=0, progress=False)

    for process in ways.values():
        draw(process)
    took, reference_s = {name: [] for name in ways}, []
    for _ in range(options.rounds):
        for name, process in ways.items():
            took[name].append(seconds(lambda p=process: draw(p)))
        reference_s.append(seconds(lambda: theirs.sample(batch_size=batch)))
        for name, process in ways.items():
            took[name].append(seconds(lambda p=process: draw(p)))
    theirs_s = statistics.median(reference_s)
    for name, times in took.items():
        own = statistics.median(times)
        yield {
            "ours": f"{SAMPLER} {STEPS}, {name}",
            "images": batch,
            "ours_s": own,
            "range_s": [min(times), max(times)],
            "reference_s": theirs_s,
            "ratio": theirs_s / own,
            "ratio_of_a_call": theirs_s / 1000 / (own / STEPS),
            "rounds": options.rounds,
        }


def own_seconds(row):
    """A cell: the median, and how far the runs went apart."""
    return "{:.2f} ({:.2f}-{:.2f})".format(row["ours_s"], *row["range_s"])


CELLS = {
    "ours": lambda row: row["ours"],
    "reference s": lambda row: f"{row['reference_s']:.1f}",
    "ours s (range)": own_seconds,
    "ratio": lambda row: f"{row['ratio']:.0f}",
    "of that, a call": lambda row: f"{row['ratio_of_a_call']:.2f}",
}


if __name__ == "__main__":
    report(measure, parser_of(__doc__, rounds=1, batch=16).parse_args(), CELLS)
