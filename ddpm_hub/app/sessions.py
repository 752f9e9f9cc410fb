"""What the server keeps for each page that is open: without Gradio's copy of the whole page.

In the room: sessions that begin at once. Not in the room: who may have how many (visitors.py).
"""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
from gradio.state_holder import SessionState, StateHolder


class Sessions(StateHolder):
    """Gradio's sessions, which begin in a tenth of a millisecond and not in sixty.

    Gradio describes every component of the page for each new session, half a megabyte, on the
    loop that all requests share: fifty visitors at once made each other wait for nine seconds. It
    needs the description for deep links alone, which this demo does not have (gate.py).
    """

    def __init__(self, demo: gr.Blocks) -> None:
        super().__init__()
        self.set_blocks(demo)
        self.bare = SimpleNamespace(default_config=demo.default_config, blocks=())

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = SessionState(self.bare)
        return super().__getitem__(session_id)
