"""Lines of this library's own source, as they stand in the installed files.

In the room: finding a function's lines, leaving out some, and colouring them for a page. Nothing is
copied: what is shown is what runs. Not in the room: which lines a lesson shows (lessons.py).
"""

from __future__ import annotations

import html
import inspect
import io
import keyword
import tokenize
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import ddpm_hub
from ddpm_hub.errors import ConfigError

ROOT = Path(ddpm_hub.__file__).parents[1]
KINDS = {tokenize.COMMENT: "comment", tokenize.STRING: "string", tokenize.NUMBER: "digits"}


class Excerpt(NamedTuple):
    """Lines of one function: `lines` are (number in the file, text), with gaps where some miss."""

    file: str  # such as ddpm_hub/diffusion.py
    name: str  # such as GaussianProcess.q_sample
    lines: list[tuple[int, str]]


def excerpt(function: Callable, *parts: tuple[str, str] | str) -> Excerpt:
    """The lines of `function`, or only some parts of them.

    parts: (how the first line begins, how the last begins), without indentation and in the order of
    the file; of a single line that beginning alone. Raises ConfigError if there is no such line.
    """
    texts, start = inspect.getsourcelines(function)
    lines = [(start + i, text.rstrip("\n")) for i, text in enumerate(texts)]
    file = Path(inspect.getsourcefile(function)).relative_to(ROOT).as_posix()
    if parts:
        pairs = [(part, part) if isinstance(part, str) else part for part in parts]
        lines = [line for first, last in pairs for line in _between(lines, first, last)]
    return Excerpt(file, function.__qualname__, lines)


def _between(lines: list[tuple[int, str]], first: str, last: str) -> list[tuple[int, str]]:
    begin = _index(lines, first, 0)
    return lines[begin : _index(lines, last, begin) + 1]


def _index(lines: list[tuple[int, str]], beginning: str, start: int) -> int:
    for i in range(start, len(lines)):
        if lines[i][1].lstrip().startswith(beginning):
            return i
    raise ConfigError(f"no line begins with {beginning!r}: the source was changed, not its excerpt")


def pieces(lines: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """The lines in runs without a gap."""
    run: list[tuple[int, str]] = []
    for line in lines:
        if run and line[0] != run[-1][0] + 1:
            yield run
            run = []
        run.append(line)
    if run:
        yield run


def coloured(text: str) -> str:
    """Lines of Python as HTML: words of the language, strings, numbers and comments in spans."""
    begins = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    out, done = [], 0
    for kind, (row, column), (last, stop) in _tokens(text):
        start, end = begins[row - 1] + column, begins[last - 1] + stop
        out.append(html.escape(text[done:start], quote=False))
        token = html.escape(text[start:end], quote=False).split("\n")
        # a span for each line: whoever numbers the lines cuts this at their ends
        out.append("\n".join(f'<span class="wk-{kind}">{part}</span>' for part in token))
        done = end
    return "".join(out) + html.escape(text[done:], quote=False)


def _tokens(text: str) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
    """(kind, start, end) of what has a colour.

    Lines from the middle of a function may leave a bracket open: the tokens before are right.
    """
    with suppress(tokenize.TokenError, IndentationError):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            word = token.type == tokenize.NAME and keyword.iskeyword(token.string)
            kind = "keyword" if word else KINDS.get(token.type)
            if kind:
                yield kind, token.start, token.end
