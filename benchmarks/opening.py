"""Before anything is drawn: importing the library, and opening a checkpoint, beside diffusers.

    make bench                             or  .venv/bin/python benchmarks/opening.py [--json]

Importing is timed in processes of their own, from starting Python to its end, torch included. The
checkpoint is the paper's CIFAR-10 network (143 MB) as a pipeline of diffusers in a local folder:
both sides open that very folder, from the disk's cache, and read every weight once, since
diffusers maps the file and reads it where it is first used; ours copies it, so that whatever
happens to the file afterwards does not happen to the model.
"""

import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from diffusers import DDPMPipeline  # noqa: E402 (the repository's folders are not installed)
from diffusers.utils import logging  # noqa: E402
from families import CIFAR10  # noqa: E402
from report import beside, parser_of, report  # noqa: E402
from unet import compare  # noqa: E402

from ddpm_hub import GaussianDiffusion, UNet2D  # noqa: E402

IMPORTS = {
    "import ddpm_hub, import diffusers": ("import ddpm_hub", "import diffusers"),
    "import the model's class": (
        "from ddpm_hub import GaussianDiffusion",
        "from diffusers import DDPMPipeline",
    ),
}


def python(program):
    """A function of nothing that runs this program in a fresh interpreter."""
    return lambda: subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def ready(net):
    """Touch every weight."""
    for weight in net.parameters():
        weight.sum()


def measure(options):
    """Rows, as they are found."""
    for work, programs in IMPORTS.items():
        runs = [python(program) for program in programs]
        yield {"work": work} | compare(runs, options.rounds, time.perf_counter)
    with tempfile.TemporaryDirectory() as folder:
        process = GaussianDiffusion(UNet2D(**CIFAR10), image_size=32, beta_schedule="linear")
        process.save_diffusers(folder)
        runs = (
            lambda: ready(GaussianDiffusion.from_pretrained(folder).model),
            lambda: ready(DDPMPipeline.from_pretrained(folder).unet),
        )
        yield {"work": "open 143 MB"} | compare(runs, options.rounds, time.perf_counter)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    report(measure, parser_of(__doc__, rounds=7, batch=0).parse_args(), beside("diffusers"))
