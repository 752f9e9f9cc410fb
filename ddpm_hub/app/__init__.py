"""The browser demo: `build()` makes the page, `launch_options()` says how to serve it.

The only package that imports gradio. tabs/ has the components and wiring, widgets/ the custom
components, engine.py and runs.py the models and runs, jobs.py and its neighbours the trainings,
opened.py and publish.py what comes from the Hub and goes there, limits.py what a visitor may ask
for.
"""

from __future__ import annotations

import gradio as gr

from ddpm_hub.app import engine, jobs, runs
from ddpm_hub.app.tabs import forward, hub, lab, sample, train
from ddpm_hub.app.theme import css, theme

HEAD = """
<div class="ddpm-head">
  <svg viewBox="0 0 116 36" aria-hidden="true" shape-rendering="crispEdges">%s</svg>
  <div>
    <h1>ddpm_hub</h1>
    <p>A diffusion model turns noise into pictures, and shows what it believes at every step.</p>
  </div>
</div>
"""


def build(example: bool = True) -> gr.Blocks:
    """The demo as Blocks. `example` draws the run that greets a visitor, in the background."""
    engine.prepare()
    jobs.desk()  # reads what earlier apps left, so that an interrupted training is offered
    with gr.Blocks(
        title="ddpm_hub: watch a diffusion model draw",
        analytics_enabled=False,
        delete_cache=(600, 3600),
    ) as demo:
        gr.HTML(HEAD % _mark(), apply_default_css=False)
        with gr.Tabs() as tabs:
            with gr.Tab("Sample", id="sample"):
                drawing = sample.build(demo)
            with gr.Tab("Train", id="train") as tab:
                trained = train.build(demo, tab, tabs, drawing)
            with gr.Tab("Forward", id="forward"):
                forward.build()
            with gr.Tab("Lab", id="lab") as tab:
                lab.build(demo, tab, drawing[0])
            with gr.Tab("Hub", id="hub") as tab:
                hub.build(tab, tabs, drawing, trained)
    demo.queue(max_size=32)
    if example:
        runs.draw_example()
    return demo


def launch_options() -> dict:
    """Arguments of `demo.launch`: looks, an upload limit, and nothing that leaves this machine."""
    return {
        "theme": theme(),
        "css": css(),
        "max_file_size": "5mb",
        "share": False,
        "ssr_mode": False,
        "run_history": False,  # it would fill the visitor's localStorage with frames
        "footer_links": ["api"],
    }


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
