"""The browser demo: `build()` makes the page, `launch_options()` says how to serve it.

The only package that imports gradio. tabs/ has the components and wiring, widgets/ the custom
components, models.py the models, engine.py and runs.py the runs, jobs.py and its neighbours the
trainings,
opened.py and publish.py what comes from the Hub and goes there, limits.py what a visitor may ask
for.
"""

from __future__ import annotations

import gradio as gr

from ddpm_hub.app import jobs, models, runs
from ddpm_hub.app.tabs import forward, header, hub, lab, sample, train
from ddpm_hub.app.theme import css, theme


def build(example: bool = True) -> gr.Blocks:
    """The demo as Blocks. `example` draws the run that greets a visitor, in the background."""
    models.prepare()
    jobs.desk()  # reads what earlier apps left, so that an interrupted training is offered
    with gr.Blocks(
        title="ddpm_hub: watch a diffusion model draw",
        analytics_enabled=False,
        delete_cache=(600, 3600),
    ) as demo:
        parts = header.build()
        with gr.Tabs() as tabs:
            with gr.Tab("Sample", id="sample"):
                form = sample.build(parts)
                drawing = [form[name] for name in header.MODEL_PARTS]
            with gr.Tab("Train", id="train") as tab:
                trained = train.build(demo, tab, tabs, drawing)
            with gr.Tab("Forward", id="forward"):
                forward.build()
            with gr.Tab("Lab", id="lab") as tab:
                lab.build(demo, tab, drawing[0])
            with gr.Tab("Hub", id="hub") as tab:
                hub.build(tab, tabs, drawing, trained)
        header.wire(demo, drawing)
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
