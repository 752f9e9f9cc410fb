"""The browser demo: `build()` makes the page, `launch_options()` says how to serve it.

The only package that imports gradio. tabs/ has the components and wiring, widgets/ the custom
components, models.py the models, engine.py and runs.py the runs, jobs.py and its neighbours the
trainings, lane.py and machine.py where all that computes,
opened.py and publish.py what comes from the Hub and goes there, limits.py what a visitor may ask
for. gate.py, visitors.py and logs.py stand at the border: what comes in, whose turn it is, what is
printed.
"""

from __future__ import annotations

import gradio as gr
from starlette.middleware import Middleware

from ddpm_hub.app import gate, jobs, models, runs, visitors
from ddpm_hub.app.tabs import account, forward, header, history, hub, lab, learn, sample, train
from ddpm_hub.app.theme import css, head, theme


def build(example: bool = True) -> gr.Blocks:
    """The demo as Blocks. `example` draws the run that greets a visitor, in the background."""
    gate.own_folder()  # before components ask where uploads lie
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
                history.build(form)
                drawing = [form[name] for name in header.MODEL_PARTS]
            with gr.Tab("Learn", id="learn"):
                learn.build(tabs, form)
            with gr.Tab("Train", id="train") as tab:
                token = account.box()  # stands in the Hub tab
                trained = train.build(demo, tab, tabs, drawing, token)
            with gr.Tab("Forward", id="forward"):
                forward.build(parts, tabs)
            with gr.Tab("Lab", id="lab") as tab:
                lab.build(demo, tab, drawing[0])
            with gr.Tab("Hub", id="hub") as tab:
                hub.build(tab, tabs, drawing, trained, token)
        header.wire(demo, drawing)
    visitors.attend(demo)
    if example:
        runs.draw_example()
    return demo


def launch_options() -> dict:
    """Arguments of `demo.launch`: looks, limits, and nothing that leaves this machine."""
    return {
        "theme": theme(),
        "css": css(),
        "head": head(),
        "app_kwargs": {"middleware": [Middleware(gate.Gate)]},
        "max_file_size": "5mb",
        "state_session_capacity": 300,  # each takes half a megabyte: all that the page is built of
        "enable_monitoring": False,
        "show_error": False,  # an exception's text is for the log
        "share": False,
        "ssr_mode": False,
        "run_history": False,  # it would fill the visitor's localStorage with frames
        "footer_links": ["api"],
    }
