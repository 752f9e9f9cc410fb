"""Images into batches: ours beside the reference's Dataset and DataLoader, on one folder of JPEGs.

    make bench                             or  .venv/bin/python benchmarks/loading.py [--json]

What training.py leaves out or hides behind the network. The reference decodes every picture in
every epoch, in as many processes as there are processors, which it starts anew each time, as its
Trainer does; ours decodes once, by threads, and then takes batches from memory. So there are two
rows a folder: the first epoch, reading included, and every later one. Both end in floats of the
size that is trained on. Needs the real torchvision, as training.py does.
"""

import os
import tempfile
import time
import warnings
from pathlib import Path

from report import beside, parser_of, report
from training import reference
from unet import compare

from ddpm_hub.data import load_data
from ddpm_hub.data.feed import CPU, feed_for
from ddpm_hub.images import to_pil

COUNT = 2000
FOLDERS = {"32x32": (32, 32), "256x256, scaled to 64x64": (256, 64)}  # side of files, and wanted


def write_jpegs(folder, side):
    """The first bundled garments as colour JPEGs, quality 95."""
    images = load_data("bundled", (28, 28), 3, progress=False).images
    for i, image in enumerate(to_pil(images[:COUNT].float() / 255)):
        image.resize((side, side)).save(folder / f"{i:05d}.jpg", quality=95)


def loader(module, folder, side, batch):
    """The reference's DataLoader, as its Trainer makes it."""
    return module.DataLoader(
        module.Dataset(str(folder), side),
        batch_size=batch,
        shuffle=True,
        pin_memory=True,
        num_workers=os.cpu_count(),
    )


def epoch(feed, batch):
    """Every image once, in batches."""
    for start in range(0, COUNT, batch):
        feed.take(start, batch)


def opened(folder, side):
    """Our feed of a folder, pictures decoded."""
    return feed_for(load_data(folder, (side, side), 3, progress=False), 0, False, CPU)


def measure(options):
    """Two rows for each folder."""
    module = reference(options.peers)
    for name, (side, wanted) in FOLDERS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_jpegs(folder, side)
            theirs = loader(module, folder, wanted, options.batch)
            feed = opened(folder, wanted)

            def first(folder=folder, wanted=wanted):
                epoch(opened(folder, wanted), options.batch)

            def later(feed=feed):
                epoch(feed, options.batch)

            def peer(theirs=theirs):
                for _ in theirs:
                    pass

            for which, ours in (("first", first), ("later", later)):
                row = {"work": f"{which} epoch of {COUNT:,} JPEGs, {name}"}
                yield row | compare((ours, peer), options.rounds, time.perf_counter)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # torch's, that it cannot pin memory without a GPU
    parser = parser_of(__doc__, rounds=7, batch=16)
    parser.add_argument("--peers", type=Path, default=Path("build/bench"))
    report(measure, parser.parse_args(), beside("reference"))
