"""UNet2D beside diffusers' UNet2DModel, with the same weights: a forward pass, a training step.

    make bench                             or  .venv/bin/python benchmarks/unet2d.py [--json]

The network is that of google/ddpm-cifar10-32, its weights drawn. diffusers runs as a program of it
starts: eager, float32, torch.optim.Adam. Ours runs in float32, and as it does by default:
`accelerated()` for drawing, bf16 autocast and fused Adam for training. Interleaved as in unet.py.
"""

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from diffusers import UNet2DModel  # noqa: E402 (the repository's folders are not installed)
from unet import compare  # noqa: E402

from ddpm_hub import UNet2D, runtime  # noqa: E402
from ddpm_hub.nets.packed import packed  # noqa: E402

CIFAR10 = {
    "sample_size": 32,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "norm_eps": 1e-6,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "attention_head_dim": None,
}


class Step:
    """Training steps of one network on one batch: predict the noise, square, go down."""

    def __init__(self, net, x, times, half=False, **adam):
        self.net, self.x, self.times, self.half = net.train(), x, times, half
        self.noise = torch.randn_like(x)
        self.optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, **adam)

    def __call__(self):
        self.optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad(), torch.autocast(self.x.device.type, torch.bfloat16, self.half):
            said = self.net(self.x, self.times)
            said = said if isinstance(said, torch.Tensor) else said.sample
            loss = torch.nn.functional.mse_loss(said.float(), self.noise)
        loss.backward()
        self.optimizer.step()


def forwards(theirs, ours, x, times):
    """{way: (ours, theirs)} of a forward pass."""
    plain, small = packed(ours), x.bfloat16()
    reference = lambda: theirs(x, times)  # noqa: E731
    return {
        "forward, float32": (lambda: ours(x, times), reference),
        "forward, accelerated (packed bf16)": (lambda: plain(small, times), reference),
    }


def steps(theirs, ours, x, times):
    """{way: (ours, theirs)} of a training step."""
    reference = Step(theirs, x, times)
    half = runtime.has_bf16(x.device)
    return {
        "training step, float32": (Step(copy.deepcopy(ours), x, times, fused=True), reference),
        "training step, default (bf16)": (Step(ours, x, times, half, fused=True), reference),
    }


def measure(options):
    """Rows, as they are found."""
    torch.manual_seed(0)
    theirs = UNet2DModel(**CIFAR10).eval()
    ours = UNet2D(**CIFAR10).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(options.batch, 3, 32, 32)
    times = torch.linspace(0, 999, options.batch).long()
    with torch.no_grad():
        worst = (ours(x, times) - theirs(x, times).sample).abs().max().item()
    if worst > 1e-4:
        raise SystemExit(f"the networks differ by {worst:.2g}: nothing is timed")
    for work in (forwards, steps):
        for way, runs in work(theirs, ours, x, times).items():
            yield {"work": way, "batch": options.batch} | compare(
                runs, options.rounds, time.perf_counter
            )


def main():
    """Print a table, or one JSON object per row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch has it")
    parser.add_argument("--json", action="store_true", help="one object per row")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if not options.json:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, ", end="")
        print(f"batch {options.batch}, medians of {options.rounds} rounds\n")
        print("| work | diffusers ms | ours ms | ratio (quartiles) |\n|---|---|---|---|")
    for row in measure(options):
        if options.json:
            print(json.dumps(row), flush=True)
            continue
        low, high = row["quartiles"]
        print(
            f"| {row['work']} | {1e3 * row['reference_s']:.0f} | {1e3 * row['ours_s']:.0f} | "
            f"{row['ratio']:.2f} ({low:.2f}-{high:.2f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
