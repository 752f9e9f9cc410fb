"""UNet2D beside diffusers' UNet2DModel, with the same weights: a forward pass, a training step.

    make bench                             or  .venv/bin/python benchmarks/unet2d.py [--json]
    make bench-gpu   or  .venv/bin/python benchmarks/unet2d.py --device cuda --batch 128

The network is that of google/ddpm-cifar10-32, its weights drawn. diffusers runs as a program of it
starts: eager, float32, torch.optim.Adam. Ours runs in float32, and as it does by default:
`accelerated()` for drawing, bf16 autocast and fused Adam for training; on a GPU also through
torch.compile. Interleaved and apart as in unet.py.
"""

import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from diffusers import UNet2DModel  # noqa: E402 (the repository's folders are not installed)
from families import CIFAR10  # noqa: E402
from floors import FASTEST  # noqa: E402
from report import apart, beside, parser_of, report  # noqa: E402
from unet import compare  # noqa: E402

from ddpm_hub import UNet2D, runtime  # noqa: E402
from ddpm_hub.fast import WAYS  # noqa: E402


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


def steps(theirs, ours, x, times, half=None, compile=False, amp=False):
    """(ours, theirs): a training step, theirs in float32, or with `amp` in autocast too."""
    half = runtime.has_bf16(x.device) if half is None else half
    if x.is_cuda:  # as a training of ours has it there
        runtime.channels_last(ours)
    ours = runtime.compile(ours) if compile else ours
    return Step(ours, x, times, half, fused=True), Step(theirs, x, times, amp)


def drawing(theirs, ours, x, times):
    """(ours, theirs): a forward pass, ours by the copy for this kind of device."""
    quick, small = WAYS[FASTEST[x.device.type]].make(ours), x.bfloat16()
    return lambda: quick(small, times), lambda: theirs(x, times)


# {work: a function of networks and batch that gives (ours, theirs)}
WORK = {
    "forward, float32": lambda theirs, ours, *x: (lambda: ours(*x), lambda: theirs(*x)),
    "forward, accelerated (bf16)": drawing,
    "training step, float32": lambda *given: steps(*given, half=False),
    "training step, default (bf16)": steps,
}
COMPILED = {
    "training step, both bf16": lambda *given: steps(*given, amp=True),
    "training step, compiled": lambda *given: steps(*given, compile=True),
    "training step, compiled, both bf16": lambda *given: steps(*given, compile=True, amp=True),
}


def twins():
    """(theirs, ours) with the same weights."""
    torch.manual_seed(0)
    theirs, ours = UNet2DModel(**CIFAR10).eval(), UNet2D(**CIFAR10).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def row(options, work):
    """Of one kind of work."""
    theirs, ours = (net.to(options.device) for net in twins())
    x = torch.randn(options.batch, 3, 32, 32, device=options.device)
    times = torch.linspace(0, 999, options.batch, device=options.device).long()
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        worst = (ours(x, times) - theirs(x, times).sample).abs().max().item()
    if worst > 1e-4:
        raise SystemExit(f"the networks differ by {worst:.2g}: nothing is timed")
    runs = (WORK | COMPILED)[work](theirs, ours, x, times)
    return {"work": work, "batch": options.batch} | compare(runs, options.rounds, time.perf_counter)


def measure(options):
    """Rows, as they are found, each in a process of its own."""
    works = WORK | COMPILED if options.device == "cuda" else WORK
    return (apart(row, options, work) for work in works if options.only in work)


if __name__ == "__main__":
    parser = parser_of(__doc__, rounds=9, batch=4)
    parser.add_argument("--device", default="cpu", choices=FASTEST)
    parser.add_argument("--only", default="", help="rows with this in their name")
    report(measure, parser.parse_args(), beside("diffusers"))
