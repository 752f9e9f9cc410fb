"""What the Hub tab says of a repo, as HTML in which every word of a stranger stays a word.

In the room: facts, config and model card of a repo, and lines on how a load or a push stands. All
text is escaped, and nothing is fetched: a card's pictures and links are shown as they are written.
Not in the room: components (tabs/hub.py), what a repo holds (app/opened.py).
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

from ddpm_hub.app.opened import Opened
from ddpm_hub.errors import shown

CARD_CHARACTERS = 20_000
CONFIG_ROWS = 80
IDLE = {
    "Open": "see what a repository is: its size, its config and its card. Nothing is loaded yet.",
    "Load": "read its weights, from safetensors alone. No code of a repository is ever run.",
    "Draw with it": "it becomes the model of Sample, and of the Lab.",
}
LAYOUTS = {"ddpm_hub": "ddpm_hub layout", "diffusers": "diffusers layout"}
HEADING = re.compile(r"#{1,6}\s+(.*)")
FENCE = re.compile(r"\s*(```|~~~)")


def idle() -> str:
    """What stands there before anything is opened."""
    steps = "".join(f"<li><b>{step}</b> {text}</li>" for step, text in IDLE.items())
    return f'<div class="ddpm-widget hub-facts"><ol class="hub-note">{steps}</ol></div>'


def facts(opened: Opened) -> str:
    """Name, badges and figures of a repo, and its config as a table."""
    known = opened.facts
    height, width = known["image_size"]
    colours = {1: "grey", 3: "colour"}.get(known["channels"], f"of {known['channels']} channels")
    rows = {
        "parameters": f"{known['parameters'] / 1e6:.2f} M",
        "weights": f"{opened.weight_bytes / 1e6:.1f} MB",
        "images": f"{width} x {height} {colours}",
        "T": f"{known['timesteps']:,}",
        "objective": known["objective"],
        "schedule": known["schedule"],
        "network": known["network"],
        "commit": opened.commit[:12],
    }
    badges = [LAYOUTS[opened.kind], "safetensors only"]
    badges += ["not public: your token"] if opened.private else []
    return (
        f'<div class="ddpm-widget hub-facts"><div class="wd-top"><b>{_text(opened.repo_id)}</b>'
        + "".join(f'<span class="wd-badge">{_text(badge)}</span>' for badge in badges)
        + f"</div>{_samples(opened.samples)}"
        + f"<dl>{''.join(_fact(k, v) for k, v in rows.items())}</dl>"
        + f"<details><summary>config.json</summary>{_table(opened.config)}</details></div>"
    )


def card(text: str) -> str:
    """A README.md as text: its front matter, then its lines, headings bold, programs as such."""
    text = "".join(c for c in text.replace("\r\n", "\n") if c.isprintable() or c in "\n\t")
    cut = len(text) > CARD_CHARACTERS
    text = text[:CARD_CHARACTERS]
    front, body = _front_matter(text)
    head = f'<pre class="hub-front">{_text(front)}</pre>' if front else ""
    more = '<p class="hub-note">The rest of this card is cut.</p>' if cut else ""
    body = "\n".join(_lines(body)) if body.strip() else "This repository has no card."
    return (
        '<div class="ddpm-widget hub-card" tabindex="0" role="region" aria-label="Model card">'
        f'{head}<div class="hub-readme">{body}</div>{more}</div>'
    )


def progress(text: str, done: float | None = None) -> str:
    """How something stands: a sentence, and a bar of the share that is done, if it is known."""
    value = "" if done is None else f' value="{min(max(done, 0.0), 1.0):.3f}"'
    return _status(f"<p>{_text(text)}</p><progress{value}></progress>", "busy")


def said(text: str, link: str = "", kind: str = "good") -> str:
    """How something ended: a sentence, and a page to go to."""
    where = (
        f'<br><a href="{_text(link)}" target="_blank" rel="noopener">{_text(link)}</a>'
        if link
        else ""
    )
    return _status(f"<p>{_text(text)}{where}</p>", kind)


def _status(inside: str, kind: str) -> str:
    return f'<div class="hub-status" data-kind="{kind}" role="status">{inside}</div>'


def _text(value: object) -> str:
    return html.escape(str(value))


def _samples(uri: str) -> str:
    return f'<img src="{_text(uri)}" alt="samples, as its author shows them">' if uri else ""


def _fact(name: str, value: object) -> str:
    value = value if isinstance(value, str) else shown(value)
    return f"<div><dt>{_text(name)}</dt><dd>{_text(value[:60])}</dd></div>"


def _table(config: dict[str, Any]) -> str:
    rows = list(_rows(config))
    cells = "".join(
        f"<tr><th>{_text(k)}</th><td>{_text(v)}</td></tr>" for k, v in rows[:CONFIG_ROWS]
    )
    left = len(rows) - CONFIG_ROWS
    more = f"<tr><th></th><td>and {left} more</td></tr>" if left > 0 else ""
    return f"<table>{cells}{more}</table>"


def _rows(config: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """(section.key, value as JSON) of a config, two levels deep."""
    for key, value in config.items():
        name = f"{before}{str(key)[:60]}"
        if isinstance(value, dict) and not before:
            yield from _rows(value, f"{name}.")
        else:
            text = json.dumps(value, default=shown)
            yield name, text if len(text) <= 200 else text[:197] + "..."


def _front_matter(text: str) -> tuple[str, str]:
    if text.startswith("---\n"):
        front, end, body = text[4:].partition("\n---\n")
        if end:
            return front, body
    return "", text


def _lines(body: str) -> Iterator[str]:
    program = False
    for line in body.strip("\n").split("\n"):
        if FENCE.match(line):
            program = not program
        elif program:
            yield f"<code>{_text(line)}</code>"
        elif heading := HEADING.fullmatch(line):
            yield f"<b>{_text(heading[1])}</b>"
        else:
            yield _text(line)
