"""Equations in a little TeX, made into MathML, which browsers draw and screen readers read.

In the room: as much TeX as the lessons need: letters, `_`, `^`, braces, \\frac, \\sqrt, accents,
growing brackets and the signs below. Not in the room: which equations there are (lessons.py), and
their looks (widgets/walk.css). An x with index 0 is the picture, with any other a state, and each
has the class of the colour that it has on every tab: wk-x0, wk-xt.
"""

from __future__ import annotations

import html
import re

TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+|\S")
LETTERS = {
    r"\alpha": "\u03b1",
    r"\beta": "\u03b2",
    r"\epsilon": "\u03b5",
    r"\eta": "\u03b7",
    r"\mu": "\u03bc",
    r"\sigma": "\u03c3",
    r"\theta": "\u03b8",
}
SIGNS = {
    "-": "\u2212",
    "|": "|",
    r"\|": "\u2016",
    r"\gets": "\u2190",
    r"\dots": "\u2026",
    r"\nabla": "\u2207",
}
ACCENTS = {r"\bar": "\u00af", r"\hat": "^", r"\tilde": "~"}
UNDER = {r"\sum": "<mo>\u2211</mo>", r"\E": '<mi mathvariant="normal">\U0001d53c</mi>'}
CLOSING = {"(": ")", "[": "]"}


def equation(tex: str, spoken: str) -> str:
    """An equation on a line of its own; `spoken` is how one reads it aloud, and its name."""
    return _math(tex, spoken, ' display="block"')


def sign(tex: str, spoken: str) -> str:
    """The same within a line of text."""
    return _math(tex, spoken, "")


def _math(tex: str, spoken: str, how: str) -> str:
    name = html.escape(spoken)
    tokens = TOKEN.findall(tex)[::-1]  # the next one is the last
    return f'<math{how} alttext="{name}" aria-label="{name}">{_row(tokens, None)}</math>'


def _row(tokens: list[str], end: str | None) -> str:
    """All up to the token `end`, which is taken, too."""
    out = []
    while tokens and tokens[-1] != end:
        out.append(_scripted(tokens))
    if end is not None:
        tokens.pop()
    return f"<mrow>{''.join(out)}</mrow>"


def _scripted(tokens: list[str]) -> str:
    """An atom with what hangs below and above it."""
    first = tokens[-1]
    base = _atom(tokens)
    scripts = {}
    while tokens and tokens[-1] in "_^":
        place = tokens.pop()
        scripts[place] = _atom(tokens)
    below, above = scripts.get("_"), scripts.get("^")
    if below and first in UNDER:
        base, below = f"<munder>{base}{below}</munder>", None
    if below:
        base = f"<msub{_colour(base, below)}>{base}{below}</msub>"
    return f"<msup>{base}{above}</msup>" if above else base


def _colour(base: str, index: str) -> str:
    if "<mi>x</mi>" not in base:
        return ""
    return ' class="wk-x0"' if index == "<mn>0</mn>" else ' class="wk-xt"'


def _atom(tokens: list[str]) -> str:
    token = tokens.pop()
    if token == "{":
        return _row(tokens, "}")
    if token in CLOSING:
        inside = _row(tokens, CLOSING[token])
        return f"<mrow><mo>{token}</mo>{inside}<mo>{CLOSING[token]}</mo></mrow>"
    if token == r"\frac":
        return f"<mfrac>{_atom(tokens)}{_atom(tokens)}</mfrac>"
    if token == r"\sqrt":
        return f"<msqrt>{_atom(tokens)}</msqrt>"
    if token in ACCENTS:
        accent = f'<mo stretchy="false">{ACCENTS[token]}</mo>'
        return f'<mover accent="true">{_atom(tokens)}{accent}</mover>'
    return _leaf(token)


def _leaf(token: str) -> str:
    if token in UNDER:
        return UNDER[token]
    if token.isdigit():
        return f"<mn>{token}</mn>"
    if token in LETTERS or token.isalpha():
        return f"<mi>{LETTERS.get(token, token)}</mi>"
    if len(token) > 2 and token not in SIGNS:  # the name of an operator, such as \KL
        return f'<mi mathvariant="normal">{token[1:]}</mi>'
    return f'<mo stretchy="false">{html.escape(SIGNS.get(token, token))}</mo>'
