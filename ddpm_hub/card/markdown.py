"""Markdown from facts: tables, sections, and other people's words quoted so that they stay words.

Not in the room: what a card or a page says.
"""

from __future__ import annotations

import json

from ddpm_hub.errors import shown


def plain(value: object, longest: int = 80) -> str:
    """One line of printable characters, cut: no line ends, no invisible marks that turn text."""
    text = value if isinstance(value, str) else _json(value)
    text = "".join(c if c.isprintable() else " " for c in text[: 4 * longest])
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _json(value: object) -> str:
    try:
        return json.dumps(value, default=shown)
    except (ValueError, RecursionError):  # an int of 5,000 digits, a list in 5,000 lists
        return f"a {type(value).__name__} too long to print"


def code(value: object, longest: int = 80) -> str:
    """Somebody else's words as a code span: no letter of them is Markdown, HTML or a link."""
    text = plain(value, longest).replace("`", "'").replace("|", "/")
    return f"`{text or '?'}`"


def code_block(lines: list[str]) -> str:
    """A program in Python."""
    return "```python\n" + "\n".join(lines) + "\n```"


def section(title: str, text: str) -> str:
    """A heading and its text; nothing at all where there is no text."""
    return f"## {title}\n\n{text}" if text else ""


def table(rows: list[tuple[str, ...]], head: tuple[str, ...] = ("", "")) -> str:
    """Rows of finished cells under a head; nothing at all where there is no row."""
    if not rows:
        return ""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
