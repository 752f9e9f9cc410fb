"""Images into batches: ours beside the reference's Dataset and DataLoader, on one folder of JPEGs.

    make bench                             or  .venv/bin/python benchmarks/loading.py [--json]

What training.py leaves out or hides behind the network. The reference decodes every picture in
every epoch, in as many processes as there are processors, which it starts anew each time, as its
Trainer does; ours decodes once, in this process, and then takes batches from memory. So there are
two rows a folder: the first epoch, reading included, and every later one. Both end in floats of
the size that is trained on. Needs the real torchvision, as training.py does.
"""

import os
import tempfile
import time
import warnings
from collections import deque
from functools import partial
from pathlib import Path

from report import beside, parser_of, report
from training import ROOT, reference, write_jpegs
from unet import compare

from ddpm_hub.data import load_data
from ddpm_hub.data.feed import CPU, feed_for

COUNT = 2000
FOLDERS = {"32x32": (32, 32), "256x256, scaled to 64x64": (256, 64)}  # side of files, and wanted


def loader(module, folder, side, batch):
    """The reference's DataLoader, as its Trainer makes it."""
    return module.DataLoader(
        module.Dataset(str(folder), side),
        batch_size=batch,
        shuffle=True,
        pin_memory=True,
        num_workers=os.cpu_count(),
    )


def opened(folder, side):
    """Our feed of a folder, pictures decoded."""
    return feed_for(load_data(folder, (side, side), 3, progress=False), 0, False, CPU)


def later(feed, batch):
    """Every image once, in batches."""
    for start in range(0, COUNT, batch):
        feed.take(start, batch)


def first(folder, side, batch):
    """The same, and reading them before."""
    later(opened(folder, side), batch)


def measure(options):
    """Two rows for each folder."""
    module = reference(options.peers)
    for name, (side, wanted) in FOLDERS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_jpegs(folder, COUNT, side)
            peer = partial(deque, loader(module, folder, wanted, options.batch), 0)  # to its end
            ours = {
                "first": partial(first, folder, wanted, options.batch),
                "later": partial(later, opened(folder, wanted), options.batch),
            }
            for which, run in ours.items():
                row = {"work": f"{which} epoch of {COUNT:,} JPEGs, {name}"}
                yield row | compare((run, peer), options.rounds, time.perf_counter)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # torch's, that it cannot pin memory without a GPU
    parser = parser_of(__doc__, rounds=7, batch=16)
    parser.add_argument("--peers", type=Path, default=ROOT / "build" / "bench")
    report(measure, parser.parse_args(), beside("reference"))
