"""UNet2D beside diffusers' UNet2DModel, with the same weights: a forward pass, a training step.

    make bench                             or  .venv/bin/python benchmarks/unet2d.py [--json]

The network is that of google/ddpm-cifar10-32, its weights drawn. diffusers runs as a program of it
starts: eager, float32, torch.optim.Adam. Ours runs in float32, and as it does by default:
`accelerated()` for drawing, bf16 autocast and fused Adam for training. Interleaved as in unet.py.
"""

import copy
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from diffusers import UNet2DModel  # noqa: E402 (the repository's folders are not installed)
from families import CIFAR10  # noqa: E402
from report import beside, parser_of, report  # noqa: E402
from unet import compare  # noqa: E402

from ddpm_hub import UNet2D, runtime  # noqa: E402
from ddpm_hub.nets.packed import packed  # noqa: E402


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


if __name__ == "__main__":
    report(measure, parser_of(__doc__, rounds=9, batch=4).parse_args(), beside("diffusers"))
