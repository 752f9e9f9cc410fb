"""The head of the page: what this is, and for all tabs the model in use and where it runs.

In the room: the sign, the model's chip and what changes when another model is taken, the line that
says where it runs. Not in the room: the models (app/models.py), the machine (app/machine.py). No
torch.
"""

from __future__ import annotations

import html

import gradio as gr
from gradio.components import Component

from ddpm_hub.app import limits, machine, models
from ddpm_hub.app.tabs.common import LIGHT, QUIET
from ddpm_hub.app.widgets.device import device
from ddpm_hub.errors import DDPMHubError

MODEL_PARTS = ("model", "chip", "back", "steps")
STEPS = 25  # to begin with: what unipc, the form's sampler, needs (docs/results.md)

HEAD = """
<div class="ddpm-head">
  <svg viewBox="0 0 116 36" aria-hidden="true" shape-rendering="crispEdges">%s</svg>
  <div>
    <h1>ddpm_hub</h1>
    <p>A diffusion model turns noise into pictures, and shows what it believes at every step.
      <button type="button" class="ddpm-link">Learn how, in seven lessons</button></p>
  </div>
</div>
"""
LINK = """
element.querySelector(".ddpm-link").addEventListener("click", () => {
  const tab = document.querySelector('[role=tab][data-tab-id="learn"]');
  tab.click();
  tab.focus();
});
"""


def build() -> dict[str, Component]:
    """The head, and what all tabs share: the model and its chip, the way back, a run's start."""
    gr.HTML(HEAD % _mark(), js_on_load=LINK, apply_default_css=False)
    with gr.Row(equal_height=True, elem_classes="ddpm-model-row"):
        parts: dict[str, Component] = {
            "model": gr.State("bundled"),
            "start": gr.State(None),  # key of a handoff.Start, for the next run in Sample
            "chip": gr.HTML(elem_id="model-chip"),
            "back": gr.Button(
                "Back to the bundled model", size="sm", visible=False, elem_id="model-back"
            ),
        }
        device(_device_line)
    return parts


def _device_line(_query: object = None) -> str:
    return machine.line()


def wire(demo: gr.Blocks, parts: list[Component]) -> None:
    """`parts`: all of MODEL_PARTS."""
    demo.load(use_model, None, parts, **LIGHT)
    # in the queue: Gradio tells a State's `change` only of what went through it
    parts[MODEL_PARTS.index("back")].click(use_model, None, parts, **QUIET)


def use_model(model: str = "bundled", title: str = ""):
    """What MODEL_PARTS become for a model: its name, its chip, a way back, the steps it offers."""
    try:
        model = models.exact_name(model)
        card = models.model_card(model)
    except DDPMHubError as error:
        return model, _box(f"<b>{html.escape(str(error))}</b>"), gr.skip(), gr.skip()
    steps = sorted({s for s in limits.STEPS if s < card["timesteps"]} | {card["timesteps"]})
    return (
        model,
        chip(card, title or _NAMES.get(card["source"]) or models.title_of(model)),
        gr.update(visible=model != "bundled"),
        gr.update(choices=steps, value=STEPS if STEPS in steps else steps[-1]),
    )


_NAMES = {"bundled": "Bundled model", "training": "A training run", "private": "A private model"}


def chip(card: dict, name: str) -> str:
    """The model in one small box; every text is escaped: names may come from strangers."""
    height, width = card["image_size"]
    facts = {
        "parameters": f"{card['parameters'] / 1e6:.2f} M",
        "images": f"{width} x {height} " + ("grey" if card["channels"] == 1 else "colour"),
        "T": str(card["timesteps"]),
        "objective": card["objective"],
        "schedule": card["schedule"],
    }
    rows = "".join(
        f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd></div>"
        for k, v in facts.items()
    )
    return _box(f"<b>{html.escape(name)}</b><dl>{rows}</dl>")


def _box(inner: str) -> str:
    return f'<div class="ddpm-chip">{inner}</div>'


def _mark() -> str:
    """The sign of the project: three tiles, noise, half of it, a disc."""
    cells = []
    for tile, clean in enumerate((0.0, 0.55, 1.0)):
        for row in range(9):
            for column in range(9):
                disc = (column - 4) ** 2 + (row - 4) ** 2 < 14
                noise = (column * 73 + row * 151 + column * row * 37) % 101 / 101
                opacity = clean * disc + (1 - clean) * noise
                colour = "x0" if disc and clean else "xt"
                cells.append(
                    f'<rect x="{tile * 40 + column * 4}" y="{row * 4}" width="4" height="4" '
                    f'fill="var(--ddpm-{colour})" opacity="{opacity:.2f}"/>'
                )
    return "".join(cells)
