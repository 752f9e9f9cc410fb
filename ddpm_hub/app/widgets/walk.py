"""The walk of the Learn tab as a Gradio component: one lesson at a time, all in the page at once.

In the room: the component, and the HTML of its lessons. The behaviour is walk.js, the look
walk.css. Not in the room: what the lessons say (app/lessons.py), and what their buttons set up
(tabs/learn.py).

gr.Walkthrough is not used: its steps are tabs that keys cannot walk, and on a phone nameless dots.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ddpm_hub.app.excerpts import Excerpt, coloured, pieces
from ddpm_hub.app.lessons import Lesson

SCRIPT = Path(__file__).with_suffix(".js")


def walk(lessons: Sequence[Lesson], elem_id: str = "learn-walk") -> gr.HTML:
    """The lessons, with a way from each to the next.

    Its event `apply` carries `lesson`, the key of the lesson whose button was pressed. Once the
    page has what the listener returned, the event "ddpm:lesson" on the document makes the walk
    press and fill in what the lesson says (`Lesson.press`).
    """
    return gr.HTML(
        page(lessons),
        js_on_load=SCRIPT.read_text(encoding="utf-8"),
        setup={lesson.key: _setup(lesson) for lesson in lessons},
        elem_id=elem_id,
        apply_default_css=False,
    )


def _setup(lesson: Lesson) -> dict[str, Any]:
    """What walk.js does in the other tab; `clear`: pressed first, if there is anything to clear."""
    return {
        "tab": lesson.tab,
        "clear": "#reset" if lesson.sample else None,
        "press": lesson.press,
    }


def page(lessons: Sequence[Lesson]) -> str:
    """All lessons as HTML, all but the first hidden."""
    steps = "".join(
        f'<li><button type="button" data-go="{i}"><span class="wk-number">{i + 1}</span>'
        f'<span class="wk-name">{lesson.title}</span></button></li>'
        for i, lesson in enumerate(lessons)
    )
    articles = "".join(_lesson(lessons, i) for i in range(len(lessons)))
    return (
        f'<section class="ddpm-walk" aria-label="Diffusion in {len(lessons)} lessons">'
        f'<nav class="wk-steps" aria-label="Lessons"><ol>{steps}</ol></nav>'
        f'<div class="wk-lessons">{articles}</div></section>'
    )


def _lesson(lessons: Sequence[Lesson], i: int) -> str:
    lesson = lessons[i]
    return f"""<article class="wk-lesson" aria-labelledby="learn-{lesson.key}" data-lesson="{i}"
      {"hidden" if i else ""}>
  <div class="wk-words">
    <h2 id="learn-{lesson.key}" tabindex="-1"><small>Lesson {i + 1} of {len(lessons)}</small>
      {lesson.title}</h2>
    <p>{lesson.text}</p>
    <div class="wk-try">
      <button type="button" class="wk-apply" data-apply="{lesson.key}"
        aria-describedby="learn-{lesson.key}-hint">{html.escape(lesson.button)}</button>
      <p id="learn-{lesson.key}-hint">{html.escape(lesson.hint)}</p>
    </div>
  </div>
  {_equations(lesson)}
  <div class="wk-codes">{"".join(map(_code, lesson.code))}</div>
  {_turn(lessons, i)}
</article>"""


def _turn(lessons: Sequence[Lesson], i: int) -> str:
    """The ways to the lesson before and after."""
    back = f'<button type="button" data-go="{i - 1}">Back</button>' if i else ""
    if i + 1 == len(lessons):
        return f'<div class="wk-turn">{back}</div>'
    title = lessons[i + 1].title
    return (
        f'<div class="wk-turn">{back}'
        f'<button type="button" data-go="{i + 1}">Next: {title}</button></div>'
    )


def _equations(lesson: Lesson) -> str:
    rows = "".join(
        f'<div class="wk-equation"><div class="wk-scroll">{mathml}</div>'
        f'<span class="wk-where">{where}</span></div>'
        for where, mathml in lesson.equations
    )
    signs = "".join(
        f"<div><dt>{mathml}</dt><dd>{meaning}</dd></div>" for mathml, meaning in lesson.signs
    )
    return f'<div class="wk-card">{rows}<dl class="wk-signs">{signs}</dl></div>'


def _code(part: Excerpt) -> str:
    first, last = part.lines[0][0], part.lines[-1][0]
    name = f"{part.file}, lines {first} to {last}"
    return (
        f'<figure class="wk-code"><figcaption><b>{html.escape(part.name)}</b> '
        f"<span>{html.escape(name)}</span></figcaption>"
        f'<pre tabindex="0" role="region" aria-label="Code: {html.escape(part.name)}"><code>'
        f"{_numbered(part)}</code></pre></figure>"
    )


def _numbered(part: Excerpt) -> str:
    """The lines with their numbers in the file as data, so that copying takes the code alone."""
    return '<span class="wk-gap"></span>'.join(map(_run, pieces(part.lines)))


def _run(lines: list[tuple[int, str]]) -> str:
    source = textwrap.dedent("\n".join(text for _, text in lines))
    pairs = zip(lines, coloured(source).split("\n"), strict=True)
    return "".join(f'<span class="wk-line" data-n="{n}">{text}\n</span>' for (n, _), text in pairs)
