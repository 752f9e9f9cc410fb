"""Sample quality against network calls, for several samplers: a table in Markdown.

    python tools/quality_table.py --samplers ddpm ddim --steps 5 10 20 50 --n 1000 --cache DIR \
        --precision bf16 --threads 1 --out table.md

Each cell is the distance of N samples from the 12,000 bundled training images (--reference FOLDER:
from all 60,000 of the original files, see make_assets.py), by the features `garments`. What the
cache holds is not drawn again, so the command can be stopped and given again, and the table is
written anew after each cell. `--dry-run` only says in which folder the samples of a cell would
lie. A cell of more steps than --max-calls is left out, unless its samples lie there already.
"""

import argparse
from pathlib import Path

import torch
from make_assets import read_idx
from tqdm import tqdm

from ddpm_hub import GaussianDiffusion
from ddpm_hub.data import bundled
from ddpm_hub.evaluate import (
    FEATURES,
    Drawing,
    Quality,
    finish,
    is_averaged,
    quality_of,
    quality_stream,
)
from ddpm_hub.evaluate.drawing import COPY, folder
from ddpm_hub.evaluate.work import EMA

SKIPPED = "-"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--samplers", nargs="+", default=["ddpm", "ddim"])
    parser.add_argument("--steps", nargs="+", type=int, default=[5, 10, 20, 50])
    parser.add_argument("--spacing", help="for all cells; the sampler's own if left out")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--runtime", default="eager", help="another asks for --precision no")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--reference", type=Path, help="folder with the four idx.gz files")
    parser.add_argument("--max-calls", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="where to write the table, too")
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_args()


def drawing_of(args: argparse.Namespace, sampler: str, steps: int) -> Drawing:
    """The samples of one cell."""
    options = {} if args.spacing is None else {"spacing": args.spacing}
    how = (args.batch_size, args.precision, args.runtime)
    return Drawing(args.n, sampler, steps, args.seed, *how, options)


def chunks(args: argparse.Namespace, folder: Path) -> tuple[int, int]:
    """How many chunks of a cell lie in its folder, and how many it takes."""
    return len(list(folder.glob("chunk-*.npy"))), -(-args.n // args.batch_size)


def is_left_out(args: argparse.Namespace, steps: int, folder: Path) -> bool:
    """Whether a cell costs too much, and is not there already."""
    have, count = chunks(args, folder)
    return steps > args.max_calls and have < count


def measured(args, diffusion, drawing, reference, network) -> Quality:
    """One cell, with a bar."""
    words = f"{drawing.sampler} {drawing.steps}"
    with tqdm(desc=words, unit="call", leave=False) as bar:

        def watch(progress) -> None:
            bar.total, bar.n = progress.total, progress.done
            bar.set_postfix_str(progress.stage)

        work = quality_stream(
            diffusion,
            drawing,
            reference,
            network,
            reference_name="Fashion-MNIST's training images",
            ema=is_averaged(args.model),
            cache=args.cache,
        )
        return finish(work, watch)


def table(args: argparse.Namespace, cells: dict, floor: float, count: int, name: str) -> str:
    """All that is known so far, as Markdown."""
    left_out = [f"{s} {n}" for (s, n), cell in cells.items() if cell == SKIPPED]
    note = f"; left out, over {args.max_calls} calls: {', '.join(left_out)}" if left_out else ""
    rows = [
        f"| {sampler} | "
        + " | ".join(shown(cells.get((sampler, n), "")) for n in args.steps)
        + " |"
        for sampler in args.samplers
    ]
    head = " | ".join(str(n) for n in args.steps)
    return "\n".join(
        [
            f"| network calls | {head} |",
            "|---" * (len(args.steps) + 1) + "|",
            *rows,
            "",
            f"{name}; {args.n:,} samples of {args.model!r} each, seed {args.seed}, batches of "
            f"{args.batch_size}, {precision(args)}, spacing {args.spacing or 'by default'}, EMA "
            f"{EMA[is_averaged(args.model)]}; against {count:,} training images, from which "
            f"1,000 test images are at {floor:.2f}{note}.",
            "",
        ]
    )


def precision(args: argparse.Namespace) -> str:
    """What the network computed in, in words."""
    return args.precision if args.runtime == "eager" else COPY.format(args.runtime)


def shown(cell: Quality | str) -> str:
    """A cell's text."""
    return cell if isinstance(cell, str) else f"{cell.value:.2f}"


def main() -> None:
    """Cell by cell, cheap ones first."""
    args = arguments()
    torch.set_num_threads(args.threads)
    diffusion = GaussianDiffusion.from_pretrained(args.model)
    plan = [(sampler, steps) for steps in sorted(args.steps) for sampler in args.samplers]
    folders = {cell: folder(diffusion, drawing_of(args, *cell), args.cache) for cell in plan}
    if args.dry_run:
        for (sampler, steps), where in folders.items():
            print(f"{sampler} {steps}: {where}, {{}} of {{}}".format(*chunks(args, where)))
        return
    reference = bundled()
    if args.reference is not None:
        reference = torch.from_numpy(read_idx(args.reference, "train")[0].copy())[:, None]
    network = FEATURES["garments"]()
    floor = quality_of(bundled("test"), reference, network, cache=args.cache)
    cells = {}
    for sampler, steps in plan:
        drawing = drawing_of(args, sampler, steps)
        if is_left_out(args, steps, folders[sampler, steps]):
            cells[sampler, steps] = SKIPPED
        else:
            cell = measured(args, diffusion, drawing, reference, network)
            cells[sampler, steps] = cell
            print(cell.sentence(), flush=True)
        if args.out is not None:
            args.out.write_text(table(args, cells, floor, len(reference), network.metric))
    print(table(args, cells, floor, len(reference), network.metric))


if __name__ == "__main__":
    main()
