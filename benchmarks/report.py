"""What the benchmarks have in common: their options, and rows as a table or as JSON."""

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import torch


def parser_of(doc, rounds, batch):
    """A command line with the options that all have; `doc` is the benchmark's docstring."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch has it")
    parser.add_argument("--json", action="store_true", help="one object per row")
    return parser


def finish():
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def synchronised(run):
    """`run`, which then waits for the GPU."""

    def whole():
        run()
        finish()

    return whole


def apart(function, *arguments):
    """`function(*arguments)`, which says what it measured, in a fresh process.

    For one measurement decides how malloc treats the next: after some large networks it asks the
    system for nothing any more, and a program that starts anew does not meet it like that.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        return pool.submit(function, *arguments).result()


def report(measure, options, cells):
    """Print what `measure(options)` yields, as it comes: JSON objects, or rows of a table.

    cells: {heading: a function of the row that gives the cell}.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    if not options.json:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, ", end="")
        print(f"batch {options.batch}, {options.rounds} rounds\n")
    show(measure(options), cells, options.json)


def show(rows, cells, as_json):
    """Print `rows` as they come: JSON objects, or the `cells` of a table."""
    if not as_json:
        print("| " + " | ".join(cells) + " |")
        print("|---" * len(cells) + "|")
    for row in rows:
        told = (cell(row) for cell in cells.values())
        print(json.dumps(row) if as_json else "| " + " | ".join(told) + " |", flush=True)


def ms(key, digits=1):
    """A cell: the row's seconds as milliseconds."""
    return lambda row: f"{1e3 * row[key]:.{digits}f}"


def ratio(row):
    """A cell: the median ratio and its quartiles."""
    return "{:.2f} ({:.2f}-{:.2f})".format(row["ratio"], *row["quartiles"])


def beside(peer):
    """Cells of a row that says which work, and how long a peer and we take for it."""
    return {
        "work": lambda row: row["work"],
        f"{peer} ms": ms("reference_s", 0),
        "ours ms": ms("ours_s", 0),
        "ratio (quartiles)": ratio,
    }
