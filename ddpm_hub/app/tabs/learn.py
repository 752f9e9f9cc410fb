"""The Learn tab: a walk through diffusion in seven lessons, each of which sets up another tab.

In the room: the wiring. The lessons are app/lessons.py's, the page is widgets/walk. No torch.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components import Component

from ddpm_hub.app import models
from ddpm_hub.app.lessons import LESSONS
from ddpm_hub.app.tabs.common import QUIET, sentences
from ddpm_hub.app.widgets.walk import walk
from ddpm_hub.errors import check_choice

INTRO = """
Seven short lessons on how noise becomes a picture, after
[Ho et al. 2020](https://arxiv.org/abs/2006.11239). Each has its equation, the lines of this library
that compute it, as they run here, and a button that lets you see it happen in another tab.
"""
FORM = ("sampler", "steps", "batch", "seed", "fresh", "start")  # what a lesson sets in Sample
PRESS = "() => { document.dispatchEvent(new Event('ddpm:lesson')); }"
KNOWN = {lesson.key: lesson for lesson in LESSONS}


def build(tabs: gr.Tabs, form: dict[str, Component]) -> None:
    """Fill the surrounding gr.Tab, one of `tabs`. `form`: what `sample.build` gave."""
    gr.Markdown(INTRO, elem_classes="lab-intro")
    page = walk(LESSONS)

    def apply(model: str, event: gr.EventData) -> dict[Component, Any]:
        said = event._data if isinstance(event._data, dict) else {}
        with sentences():
            tab, values = setup(said.get("lesson"), model)
        return {tabs: gr.Tabs(selected=tab)} | {form[name]: v for name, v in values.items()}

    changed = [tabs, *(form[name] for name in FORM)]
    page.apply(apply, form["model"], changed, **QUIET).success(None, js=PRESS)


def setup(key: object, model: str) -> tuple[str, dict[str, Any]]:
    """The tab that a lesson opens, and its values of FORM: fewer steps where the model has fewer.

    Raises ConfigError for a key of no lesson: the page's visitors may send anything.
    """
    lesson = KNOWN[check_choice("lesson", key, KNOWN)]
    if lesson.sample is None:
        return lesson.tab, {}
    steps = min(lesson.sample["steps"], models.model_card(model)["timesteps"])
    return lesson.tab, lesson.sample | {"steps": steps, "fresh": False, "start": None}
