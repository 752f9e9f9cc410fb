"""Endpoints for programs: `gr.api`, and what a docstring says of arguments and answer beside it.

In the room: reading a docstring's Args and Returns. Gradio takes types from the signature and the
first lines of the docstring, but leaves its arguments without a word in /gradio_api/info.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import gradio as gr
from gradio.context import get_blocks_context

ANSWER = {"type": "object", "additionalProperties": {}}


def endpoint(function: Callable, name: str, **lane) -> None:
    """Add `/name` to the surrounding gr.Blocks; `lane`: how it is queued.

    The function answers or yields dicts; its docstring has "Args:" and "Returns:".
    """
    made = gr.api(function, api_name=name, **lane)
    blocks = get_blocks_context().blocks
    arguments, returns = described(function)
    for id, (argument, words) in zip(made["inputs"], arguments.items(), strict=True):
        blocks[id].label = argument
        blocks[id]._api_info |= {"additional_description": words}
    for id in made["outputs"]:
        blocks[id]._api_info = ANSWER | {"description": returns}


def described(function: Callable) -> tuple[dict[str, str], str]:
    """{argument: what its docstring says}, and what it says of the answer, each in one line."""
    text = inspect.getdoc(function) or ""
    _, _, rest = text.partition("Args:\n")
    arguments, _, returns = rest.partition("Returns:\n")
    rows = re.split(r"^ {4}(?=\w)", arguments, flags=re.MULTILINE)[1:]
    pairs = (row.partition(": ") for row in rows)
    return {name: " ".join(words.split()) for name, _, words in pairs}, " ".join(returns.split())
