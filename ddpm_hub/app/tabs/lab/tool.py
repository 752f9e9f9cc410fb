"""What every tool of the Lab has: a seed, Run and Stop, and how they are wired.

In the room: shared components, and the border where requests are checked and errors become one
sentence. Not in the room: what a tool computes (app/experiments/). No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.components import Component

from ddpm_hub.app import limits, visitors
from ddpm_hub.app.experiments.desk import DESK, Experiment
from ddpm_hub.app.tabs.common import GPU, LIGHT, QUIET, sentences
from ddpm_hub.errors import DDPMHubError


def intro(text: str) -> None:
    """One or two sentences on what one sees here, and the paper's section."""
    gr.Markdown(text, elem_classes="lab-intro")


def seed_box(name: str, value: int = 7) -> gr.Number:
    """The seed, always visible, and a button for another one."""
    with gr.Row(elem_classes="lab-seed"):
        seed = gr.Number(
            value, label="Seed", precision=0, min_width=110, scale=2, elem_id=f"{name}-seed"
        )
        fresh = gr.Button("New seed", size="sm", min_width=90, scale=1, elem_id=f"{name}-new-seed")
    fresh.click(limits.new_seed, None, seed, **LIGHT)
    return seed


def buttons(name: str) -> tuple[gr.Button, gr.Button]:
    """Run and Stop."""
    with gr.Row(elem_classes="ddpm-buttons"):
        run = gr.Button("Run", variant="primary", elem_id=f"{name}-run", min_width=90)
        stop = gr.Button("Stop", interactive=False, elem_id=f"{name}-stop", min_width=90)
    return run, stop


def wire(
    start: Callable[..., Experiment],
    inputs: list[Component],
    run_stop: tuple[gr.Button, gr.Button],
    panes: gr.HTML,
) -> None:
    """Run plays `start(*values of inputs)` on the GPU's lane into `panes`; Stop ends it.

    `start` checks the values, raises DDPMHubError for what cannot be, and computes nothing yet.
    """
    run, stop = run_stop
    ticket = gr.State("")

    def prepare(*values: Any):
        with sentences():
            visitors.check_room()
            experiment = DESK.add(start(*values))
        waiting = experiment.board.message("waiting", "Waiting for the machine")
        return experiment.ticket, waiting, *_ready(experiment.ticket)

    # In the queue, unlike what is light: only there a refusal reaches the visitor as a sentence.
    asked = run.click(prepare, inputs, [ticket, panes, run, stop], concurrency_limit=16, **QUIET)
    drawn = asked.success(_draw, ticket, panes, **QUIET, **GPU)
    drawn.then(_ready, ticket, [run, stop], **LIGHT)
    stop.click(_stop, ticket, [panes, run, stop], **LIGHT)


def _draw(ticket: str) -> Iterator[dict]:
    experiment = DESK.get(ticket)
    if experiment is None:
        return
    try:
        yield from experiment.messages()
    except DDPMHubError as error:
        yield experiment.refused(error)
        raise gr.Error(str(error), print_exception=False) from None


def _stop(ticket: str):
    experiment = DESK.get(ticket)
    if experiment is None:
        return gr.skip(), *_ready(ticket)
    return experiment.stop(), *_ready(ticket)


def _ready(ticket: str):
    """Run and Stop as the visitor's newest experiment has them."""
    experiment = DESK.get(ticket)
    idle = experiment is None or experiment.over or experiment.halted
    return gr.update(interactive=idle), gr.update(interactive=not idle)
