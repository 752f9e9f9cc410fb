"""Measure the bundled model's bits/dim, and draw the paper's Figure 5 of it.

    python tools/plot_rate_distortion.py [--images 256] [--threads 1] [--output docs]

All T timesteps of each image: 256 of them take a CPU core most of an hour. Each batch that is done
renews OUTPUT/rate_distortion.json and .png; --redraw only makes the picture from the figures.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from rate_distortion_picture import draw
from tqdm import tqdm

from ddpm_hub import GaussianDiffusion
from ddpm_hub.data import bundled
from ddpm_hub.likelihood import Likelihood, fixed_variance_terms, likelihood_stream

DIGITS = 5


def main() -> None:
    """Measure and draw, or only draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument(
        "--images", type=int, default=256, help="of the bundled test set, 1 .. 1000"
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=Path("docs"))
    parser.add_argument("--redraw", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.redraw:
        figures = json.loads((args.output / "rate_distortion.json").read_text())
        draw(figures).save(args.output / "rate_distortion.png", optimize=True)
    else:
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Drain the stream, with figures and picture after each batch."""
    diffusion = GaussianDiffusion.from_pretrained(args.model)
    images = bundled("test")[: args.images]
    rng, started = torch.Generator().manual_seed(0), time.monotonic()
    stream = likelihood_stream(diffusion, images, rng, batch_size=args.batch_size)
    for progress in tqdm(
        stream, total=-(-len(images) // args.batch_size) * diffusion.num_timesteps
    ):
        if progress.t == 0:
            figures = summary(diffusion, progress.result, args.model)
            figures["seconds"] = round(time.monotonic() - started)
            write(args.output, figures)
    shown = {k: v for k, v in figures.items() if not isinstance(v, list)}
    print(json.dumps(shown, indent=1))


def summary(diffusion: GaussianDiffusion, result: Likelihood, model: str) -> dict:
    """The figures of a result whose images so far are done, for both fixed variances."""
    done = result.per_image[result.per_image.isfinite()]
    curve = result.rate_distortion()
    totals = {}
    for kind in ("fixed_small", "fixed_large"):
        terms = fixed_variance_terms(diffusion, result.mse_x0, kind).sum()
        totals[kind] = rounded(result.LT + terms + result.L0)
    return {
        "model": model,
        "images": len(done),
        "variance_type": diffusion.variance_type,
        "total": rounded(result.total),
        "standard_error": rounded(done.std(correction=0) / len(done) ** 0.5),
        "totals": totals,
        "LT": float(f"{result.LT:.3g}"),
        "L0": rounded(result.L0),
        "rate": rounded(curve.rate[-2]),
        "distortion": rounded(curve.distortion[-2]),
        "t": curve.t.tolist(),
        "rates": rounded(curve.rate),
        "distortions": rounded(curve.distortion),
    }


def rounded(values: torch.Tensor) -> float | list[float]:
    """Plain numbers, without the digits that are chance."""
    return torch.round(values.double(), decimals=DIGITS).tolist()


def write(folder: Path, figures: dict) -> None:
    """The figures as JSON, one entry a line, and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in figures.items())
    (folder / "rate_distortion.json").write_text("{\n" + lines + "\n}\n")
    draw(figures).save(folder / "rate_distortion.png", optimize=True)


if __name__ == "__main__":
    main()
