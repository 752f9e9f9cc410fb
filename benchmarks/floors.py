"""The floor: how fast a network could be on this machine, from its arithmetic and measured rates.

    make bench                             or  .venv/bin/python benchmarks/floors.py
    make bench-gpu                         or  .venv/bin/python benchmarks/floors.py --device cuda

FLOPs are counted by torch over one forward pass; the rates are those of the largest matrix product
and of copying a large array, measured here, by all threads, best of several. No way to run the
network can be faster than FLOPs / rate; what real layers reach is in the last columns. A second
table says the same of a training step in our defaults: forward, backward, Adam and the average; on
a GPU also of one through torch.compile.
"""

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from families import CIFAR10  # noqa: E402 (the repository's folders are not installed)
from report import ms, show, synchronised  # noqa: E402

from ddpm_hub import GaussianDiffusion, TrainConfig, Unet, UNet2D, runtime  # noqa: E402
from ddpm_hub.fast import WAYS  # noqa: E402
from ddpm_hub.training import loop  # noqa: E402

SIZES, ROUNDS = {"cpu": 2048, "cuda": 8192}, 8
FASTEST = {"cpu": "packed", "cuda": "graphed"}
COURSE = {"dim": 64, "dim_mults": (1, 2, 4, 8)}


def best(run, rounds=ROUNDS):
    """Seconds of the fastest call of several."""
    run = synchronised(run)
    run()
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return min(times)


def matrix_rate(dtype, device):
    """FLOP per second of a matrix product."""
    size = SIZES[device]
    a = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / best(lambda: a @ a)


def bandwidth(device):
    """Bytes read and written per second by copying 256 MB."""
    a = torch.zeros(64 * 2**20, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / best(lambda: b.copy_(a))


def networks(device):
    """{name: (network, batch, side)}"""
    many = 32 if device == "cuda" else 1  # a GPU wants as many as somebody would train with
    return {
        "bundled, 28x28x1": (GaussianDiffusion.from_pretrained("bundled").model, 16 * many, 28),
        "dim 64 (1, 2, 4, 8), 32x32x3": (Unet(**COURSE), 16 * many, 32),
        "the course's, 128x128x3": (Unet(**COURSE), many, 128),
        "the paper's for CIFAR-10, 32x32x3": (UNet2D(**CIFAR10), 4 * many, 32),
    }


@torch.no_grad()
def drawing(net, batch, side, rates, device):
    """FLOPs of one image, and seconds: floors, and what our two ways take."""
    net = copy.deepcopy(net).eval().to(device)
    x = torch.randn(batch, net.channels, side, side, device=device)
    t = torch.full((batch,), 500, device=device)
    with FlopCounterMode(display=False) as counter:
        net(x, t)
    flops = counter.get_total_flops() / batch
    quick, small = WAYS[FASTEST[device]].make(net), x.bfloat16()
    return {
        "flop": flops,
        "floor_float32_s": flops / rates[0],
        "floor_bf16_s": flops / rates[1],
        "eager_s": best(lambda: net(x, t), 5) / batch,
        "ours_s": best(lambda: quick(small, t), 5) / batch,
    }


def compiled(*given):
    """The same through torch.compile."""
    return training(*given, compile=True)


def training(net, batch, side, rates, device, compile=False):
    """FLOPs of one image in a training step, and seconds: the floor, and ours."""
    config = TrainConfig(
        train_batch_size=batch,
        train_num_steps=10**9,
        save_and_sample_every=10**9,
        results_folder=None,
        mixed_precision="auto",
        compile=compile,
    )
    pixels = torch.randint(0, 256, (128, net.channels, side, side), dtype=torch.uint8)
    process = GaussianDiffusion(copy.deepcopy(net).eval(), image_size=side).to(device)
    # in eval mode layers multiply in the order in which they are written
    with FlopCounterMode(display=False) as counter:
        process(pixels[:1].to(device).float() / 255).backward()
    flops = counter.get_total_flops()
    events = loop.Training(process, pixels, config).events()
    next(events)
    return {
        "flop": flops,
        "floor_bf16_s": flops / rates[1],
        "ours_s": best(lambda: next(events), 5) / batch,
    }


def rows(work, rates, device):
    """One for each network."""
    for name, given in networks(device).items():
        yield {"work": work.__name__, "network": name, **work(*given, rates, device)}


START = {"network": lambda row: row["network"], "GFLOP": lambda row: f"{row['flop'] / 1e9:.2f}"}
END = {"share": lambda row: f"{row['floor_bf16_s'] / row['ours_s']:.0%}"}
TABLES = {
    drawing: START
    | {
        "floor float32 ms": ms("floor_float32_s", 2),
        "floor bf16 ms": ms("floor_bf16_s", 2),
        "eager float32 ms": ms("eager_s", 2),
        "fast copy, bf16 ms": ms("ours_s", 2),
    }
    | END,
    training: START
    | {"floor bf16 ms": ms("floor_bf16_s", 2), "ours, bf16 autocast ms": ms("ours_s", 2)}
    | END,
    compiled: START
    | {"floor bf16 ms": ms("floor_bf16_s", 2), "ours, compiled ms": ms("ours_s", 2)}
    | END,
}


def main():
    """Print the rates, then the tables; or JSON objects."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=0, help="0: as torch has it")
    parser.add_argument("--device", default="cpu", choices=SIZES)
    parser.add_argument("--json", action="store_true", help="one object per row")
    options = parser.parse_args()
    device = options.device
    if options.threads:
        torch.set_num_threads(options.threads)
    rates = [matrix_rate(dtype, device) for dtype in (torch.float32, torch.bfloat16)]
    if options.json:
        names = ("float32_flop_per_s", "bf16_flop_per_s", "copied_bytes_per_s")
        print(json.dumps(dict(zip(names, (*rates, bandwidth(device)), strict=True))))
    else:
        where = runtime.describe(torch.device(device))
        print(f"torch {torch.__version__}, {where}: ", end="")
        print(f"float32 {rates[0] / 1e9:.0f}, bf16 {rates[1] / 1e9:.0f} GFLOP/s; ", end="")
        print(f"copying {bandwidth(device) / 1e9:.1f} GB/s")
    for work, cells in TABLES.items():
        if work is compiled and device == "cpu":
            continue
        if not options.json:
            print()
        show(rows(work, rates, device), cells, options.json)


if __name__ == "__main__":
    main()
