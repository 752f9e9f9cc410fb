"""Training: images/s of our `train` beside the reference's Trainer, on one folder of JPEGs.

    .venv/bin/pip install --no-deps --target build/bench accelerate==1.15.0 torchvision==0.28.0
    .venv/bin/python benchmarks/training.py [--json]
    .venv/bin/python benchmarks/training.py --device cuda --batch 32

Its Trainer, with the real torchvision (the one of the torch in use) and the real accelerate, in
its default settings; ours in its own ("auto"), and in float32. On a GPU the course's network on
images of 128x128, theirs with `amp` and flash attention, ours in its defaults and compiled. Same
weights to begin with, same images, batch and threads, one process. Interleaved: each round does
some steps of each, in changing order, so that whatever else the machine does falls on all; reported
is the median over rounds of the ratio, with its quartiles. Left out on both sides is what is not a
step: samples (the reference draws 25 with 1000 network calls each every 1000 steps, ours with 50),
checkpoints, and starting: ours decodes the folder once, the reference in every epoch, in processes
of its own.

Then what a step of ours spends beside the network: taking a batch, the average of the weights,
the numbers of an event, and writing these to TensorBoard's files.
"""

import argparse
import contextlib
import copy
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from report import finish

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from ddpm_hub import GaussianDiffusion, TrainConfig, Unet, runtime  # noqa: E402
from ddpm_hub.data import load_data  # noqa: E402
from ddpm_hub.training import loop  # noqa: E402
from ddpm_hub.training.sinks import open_sinks  # noqa: E402

ENDLESS = 10**9
NETWORKS = {  # (arguments, size of the images), by kind of device
    "cpu": {
        "32x32x3, dim 32 (1, 2, 4)": ({"dim": 32, "dim_mults": (1, 2, 4)}, 32),
        "32x32x3, dim 64 (1, 2, 4, 8)": ({"dim": 64, "dim_mults": (1, 2, 4, 8)}, 32),
    },
    "cuda": {
        "128x128x3, dim 64 (1, 2, 4, 8)": (
            {"dim": 64, "dim_mults": (1, 2, 4, 8), "flash_attn": True},
            128,
        )
    },
}
MODES = {
    "cpu": {"defaults": {}, "float32": {"mixed_precision": "no"}},
    "cuda": {"defaults": {}, "compiled": {"compile": True}},
}
# what the compiled half of torchvision would declare; Trainer calls only what works on PIL images
OPERATORS = ("nms", "qnms")


def reference(peers):
    """denoising-diffusion-pytorch's main module, with the packages in the folder `peers`."""
    sys.path.append(str(peers))
    if torch.version.cuda is None:  # the registry's torchvision wants CUDA's libraries
        library = torch.library.Library("torchvision", "DEF")
        for name in OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        return importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch")
    except ImportError as error:
        raise SystemExit(f"{error}: install the peers as the head of this file says") from error


def write_jpegs(folder, count, side=32):
    """The bundled garments as `count` colour JPEGs of side x side, quality 95."""
    images = load_data("bundled", (32, 32), 3, progress=False).images
    from ddpm_hub.images import to_pil

    for i, image in enumerate(to_pil(images[:count].float() / 255)):
        image.resize((side, side)).save(folder / f"{i:05d}.jpg", quality=95)


class Theirs:
    """The reference's Trainer, some steps at a time."""

    def __init__(self, module, network, size, folder, results, options):
        torch.manual_seed(0)
        self.net = module.Unet(**network)
        self.weights = copy.deepcopy(self.net.state_dict())  # before accelerate moves it
        diffusion = module.GaussianDiffusion(self.net, image_size=size)
        with self.silence():
            self.trainer = module.Trainer(
                diffusion,
                str(folder),
                train_batch_size=options.batch,
                train_num_steps=0,
                amp=options.device == "cuda",
                save_and_sample_every=ENDLESS,
                results_folder=str(results),
                calculate_fid=False,
            )

    @contextlib.contextmanager
    def silence(self):
        """Its progress bar is drawn, as it always is, but nowhere."""
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            yield

    def run(self, steps):
        """So many steps more."""
        with self.silence():
            self.trainer.train_num_steps += steps
            self.trainer.train()
        finish()


class Ours:
    """Our training, some steps at a time."""

    def __init__(self, network, size, weights, images, options, **mode):
        net = Unet(**network)
        net.load_state_dict(weights)
        config = TrainConfig(
            train_batch_size=options.batch,
            train_num_steps=ENDLESS,
            save_and_sample_every=ENDLESS,
            results_folder=None,
            **mode,
        )
        diffusion = GaussianDiffusion(net, image_size=size).to(options.device)
        self.training = loop.Training(diffusion, images, config)
        self.events = self.training.events()

    def run(self, steps):
        """So many steps more; the last event."""
        for _ in range(steps):
            event = next(self.events)
        finish()
        return event


def seconds(contestant, steps, clock=time.perf_counter):
    """Of one step, by this clock."""
    begun = clock()
    contestant.run(steps)
    return (clock() - begun) / steps


def race(contestants, rounds, steps, clock):
    """{name: seconds per step in each round}; every round, another one goes first."""
    names = list(contestants)
    for name in names:
        contestants[name].run(2)
    took = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            took[name].append(seconds(contestants[name], steps, clock))
    return took


def speed(took, name, batch):
    """One row: medians, and of the ratios of rounds also the quartiles."""
    ratios = [a / b for a, b in zip(took["reference"], took[name], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "reference_images_per_s": batch / statistics.median(took["reference"]),
        "ours_images_per_s": batch / statistics.median(took[name]),
        "ratio": middle,
        "quartiles": [low, high],
        "rounds": len(ratios),
    }


class Watch:
    """Seconds spent inside functions that are replaced by watched ones."""

    def __init__(self, clock):
        self.clock, self.spent = clock, 0.0

    def on(self, owner, name):
        """Replace `owner.name`."""
        inside = getattr(owner, name)

        def watched(*args, **kwargs):
            begun = self.clock()
            try:
                return inside(*args, **kwargs)
            finally:
                self.spent += self.clock() - begun

        setattr(owner, name, watched)


def parts(ours, steps, clock):
    """{part: share of a step}, measured inside the loop; the log's apart, with all its threads."""
    state = ours.training.state
    watches = {name: Watch(clock) for name in ("feed", "ema", "events")}
    watches["feed"].on(ours.training.feed, "take")
    watches["ema"].on(state.ema, "update_parameters")
    for owner, name in ((loop, "by_time"), (state, "record"), (loop, "Event")):
        watches["events"].on(owner, name)
    before = {name: getattr(loop, name) for name in ("by_time", "Event")}
    try:
        step = seconds(ours, steps, clock)
        event = ours.run(1)
    finally:
        for name, value in before.items():
            setattr(loop, name, value)
    found = {name: watch.spent / (steps * step) for name, watch in watches.items()}
    return found | {"log": logging_seconds(event) / step, "step_ms": 1e3 * step}


def logging_seconds(event, count=200):
    """CPU seconds of logging one event to TensorBoard's files, its writing thread included."""
    with tempfile.TemporaryDirectory() as folder:
        [sink] = open_sinks("tensorboard", "run", TrainConfig(), folder)
        sink(event)
        begun = time.process_time()
        for i in range(count):
            sink(event._replace(step=event.step + i + 1))
        sink.close()
        return (time.process_time() - begun) / count


def measure(options, folder, results):
    """Rows, as they are found."""
    module = reference(options.peers)
    clock = time.process_time if options.cpu_time else time.perf_counter
    device = torch.device(options.device)
    modes = MODES[device.type]
    if not runtime.has_bf16(device):  # then the defaults are float32
        modes = {name: mode for name, mode in modes.items() if name != "float32"}
    for name, (network, size) in list(NETWORKS[device.type].items())[: options.networks]:
        begun = time.perf_counter()
        images = load_data(folder, (size, size), 3, progress=False)
        row = {"batch": options.batch, "images": len(images)}
        yield row | {"kind": "start", "reading_s": time.perf_counter() - begun}
        theirs = Theirs(module, network, size, folder, results, options)
        given = network, size, theirs.weights, images, options
        contestants = {name: Ours(*given, **mode) for name, mode in modes.items()}
        everyone = {"reference": theirs, **contestants}
        took = race(everyone, options.rounds, options.steps, clock)
        for mode, changes in modes.items():
            precision = runtime.precision(device, changes.get("mixed_precision", "auto"))
            yield row | {
                "kind": "speed",
                "network": name,
                "ours": f"{mode}: {precision}",
                **speed(took, mode, options.batch),
            }
        shares = parts(contestants["defaults"], options.rounds * options.steps, clock)
        yield row | {"kind": "parts", "network": name, **shares}


def options_of(argv=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="of each in a round")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=NETWORKS)
    parser.add_argument("--networks", type=int, default=2, help="how many of them at most")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--data", type=Path, help="a folder of JPEGs; else bundled images as such")
    parser.add_argument("--peers", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="on a busy machine, with 1 thread; the reference's decoding is not counted then",
    )
    parser.add_argument("--json", action="store_true", help="one object per row")
    return parser.parse_args(argv)


def sentence(row):
    """A row for a person."""
    if row["kind"] == "start":
        return f"{row['images']:,} JPEGs, decoded once by us in {row['reading_s']:.1f} s"
    if row["kind"] == "speed":
        low, high = row["quartiles"]
        return (
            f"{row['network']}: reference {row['reference_images_per_s']:.1f} images/s, ours "
            f"({row['ours']}) {row['ours_images_per_s']:.1f}: {row['ratio']:.2f} times "
            f"({low:.2f}-{high:.2f}, {row['rounds']} rounds)"
        )
    together = row["ema"] + row["events"] + row["log"]
    return (
        f"{row['network']}: of a step of {row['step_ms']:.0f} ms the batch takes "
        f"{row['feed']:.2%}; average {row['ema']:.2%}, events {row['events']:.2%}, log "
        f"{row['log']:.2%}: together {together:.2%}"
    )


def main():
    """Print a line per row, or one JSON object."""
    options = options_of()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder, results = options.data or Path(temporary) / "jpegs", Path(temporary) / "results"
        if options.data is None:
            folder.mkdir()
            write_jpegs(folder, options.images, 128 if options.device == "cuda" else 32)
        if not options.json:
            where = runtime.describe(torch.device(options.device))
            print(f"torch {torch.__version__}, {where}, batch {options.batch}")
        for row in measure(options, folder, results):
            print(json.dumps(row) if options.json else sentence(row), flush=True)


if __name__ == "__main__":
    main()
