"""A program that draws samples for `test_evaluate_drawing.py`, alone or with others.

    python tests/draw_program.py CACHE N

Prints one line of JSON: its rank, how often it called the network, and a hash of all samples.
"""

import hashlib
import json
import sys

from support import random_diffusion

from ddpm_hub.distributed import join
from ddpm_hub.evaluate import Drawing, draw_stream, finish

STEPS = 3


def drawing(n):
    """Twos of pictures, so that few make many chunks."""
    return Drawing(n, "ddpm", STEPS, batch_size=2)


def digest(images):
    """A hash of the pixels."""
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()


def main():
    """Draw, and tell."""
    diffusion = random_diffusion()
    team = join(diffusion.device)
    calls = []
    work = draw_stream(diffusion, drawing(int(sys.argv[2])), cache=sys.argv[1], team=team)
    images = finish(work, calls.append).images
    told = {"rank": team.rank, "calls": len(calls), "digest": digest(images)}
    sys.stdout.write(json.dumps(told) + "\n")  # in one piece: others write there, too


if __name__ == "__main__":
    main()
