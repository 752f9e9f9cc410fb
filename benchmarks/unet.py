"""Unet forward: ours beside the reference's, with the same weights, in one process.

    make bench                             or  .venv/bin/python benchmarks/unet.py [--json]
    make bench-gpu                         or  .venv/bin/python benchmarks/unet.py --device cuda

Interleaved: each round times one forward of ours and one of theirs, in changing order, so that
whatever else the machine does falls on both; each row in a process of its own. Reported is the
median over rounds of the ratio of times, with its quartiles; medians of ratios outlast a busy
neighbour better than ratios of medians. Both networks run without gradients and must agree before
anything is timed.
"""

import copy
import statistics
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from peers import reference  # noqa: E402 (the repository's folders are not installed)
from report import apart, finish, ms, parser_of, ratio, report  # noqa: E402

from ddpm_hub import Unet  # noqa: E402
from ddpm_hub.fast import WAYS  # noqa: E402

NETWORKS = {
    "28x28x1, dim 32 (1, 2, 4)": ({"dim": 32, "dim_mults": (1, 2, 4), "channels": 1}, 28),
    "32x32x3, dim 64 (1, 2, 4, 8)": ({"dim": 64, "dim_mults": (1, 2, 4, 8), "channels": 3}, 32),
}
COURSE = {  # the course's, which takes a CPU half a minute
    "128x128x3, dim 64 (1, 2, 4, 8), flash": (
        {"dim": 64, "dim_mults": (1, 2, 4, 8), "channels": 3, "flash_attn": True},
        128,
    )
}
FAST, HALF = "bf16 autocast, channels_last", "bf16 autocast"
COPY = "{}, as accelerated() has it"
# (ours, theirs): alike, then our fast modes against what a program of the reference starts from
MODES = [("float32", "float32"), (FAST, FAST), (FAST, HALF), (FAST, "float32")]
COPIES = {  # what accelerated() may choose, by kind of device
    "cpu": {COPY.format("packed"): "packed"},
    "cuda": {COPY.format(way): way for way in ("half", "graphed", "compiled")},
}


def twins(arguments):
    """(ours, theirs) with the same weights."""
    torch.manual_seed(0)
    theirs = reference().Unet(**arguments).eval()
    ours = Unet(**arguments).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def forward(net, x, times, mode):
    """A function of nothing that runs `net` once in `mode`."""
    if way := COPIES.get(x.device.type, {}).get(mode):
        net, x = WAYS[way].make(net), x.bfloat16()
        return lambda: net(x, times)
    layout = torch.channels_last if mode == FAST else torch.contiguous_format
    # a copy, since the same network may be timed in the other layout right beside it
    net, x = copy.deepcopy(net).to(memory_format=layout), x.to(memory_format=layout)

    def run():
        with torch.autocast(x.device.type, torch.bfloat16, enabled=mode != "float32"):
            net(x, times)

    return run


def seconds(run, clock):
    """Seconds of one run by this clock."""
    start = clock()
    run()
    finish()
    return clock() - start


@torch.no_grad()
def compare(runs, rounds, clock):
    """Median seconds of ours and theirs, and median and quartiles of theirs / ours."""
    for run in runs * 2:
        run()
    times, ratios = ([], []), []
    for i in range(rounds):
        for which in (0, 1) if i % 2 else (1, 0):
            times[which].append(seconds(runs[which], clock))
        ratios.append(times[1][-1] / times[0][-1])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "ours_s": statistics.median(times[0]),
        "reference_s": statistics.median(times[1]),
        "ratio": middle,
        "quartiles": [low, high],
        "rounds": rounds,
    }


def agree(networks, x, times):
    """Fail unless both networks say the same; float32."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        a, b = (net(x, times) for net in networks)
    worst = (a - b).abs().max().item()
    if worst > 1e-4 * max(1.0, b.abs().max().item()):
        raise SystemExit(f"the networks differ by {worst:.2g}: nothing is timed")


@torch.no_grad()
def row(options, name, modes):
    """Of one network and pair of modes."""
    clock = time.process_time if options.cpu_time else time.perf_counter
    times = torch.linspace(0, 999, options.batch, device=options.device).long()
    arguments, size = (NETWORKS | COURSE)[name]
    x = torch.randn(options.batch, arguments["channels"], size, size, device=options.device)
    # the reference's flash attention takes no float32 on a GPU
    agree([net.to(options.device) for net in twins(arguments | {"flash_attn": False})], x, times)
    networks = [net.to(options.device) for net in twins(arguments)]
    runs = [forward(net, x, times, mode) for net, mode in zip(networks, modes, strict=True)]
    told = {"network": name, "batch": options.batch, "ours": modes[0], "reference": modes[1]}
    return told | compare(runs, options.rounds, clock)


def measure(options):
    """Rows, as they are found."""
    copies = COPIES.get(torch.device(options.device).type, {})
    pairs = MODES + [(ours, theirs) for ours in copies for theirs in (FAST, "float32")]
    names = COURSE | NETWORKS if options.device == "cuda" else NETWORKS
    for name in names:
        for modes in pairs:
            if name in COURSE and modes[1] == "float32":
                continue  # as above: its flash attention takes none
            if options.only in f"{name}: {modes[0]} / {modes[1]}":
                yield apart(row, options, name, modes)


CELLS = {
    "network": lambda row: row["network"],
    "ours in": lambda row: row["ours"],
    "reference in": lambda row: row["reference"],
    "reference ms": ms("reference_s"),
    "ours ms": ms("ours_s"),
    "ratio (quartiles)": ratio,
}


def main():
    """Print a table, or one JSON object per row."""
    parser = parser_of(__doc__, rounds=15, batch=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="rows with this in NETWORK: OURS / THEIRS")
    parser.add_argument("--cpu-time", action="store_true", help="on a busy machine, with 1 thread")
    report(measure, parser.parse_args(), CELLS)


if __name__ == "__main__":
    main()
