"""The app, but every handler and every server function of a widget fails with secrets in its words.

Started by tests/app/test_attacks.py in place of app.py: what does a failure tell, and to whom?
"""

import inspect
import logging
import os
import sys

sys.path[:0] = [os.getcwd()]

from ddpm_hub.app import build, launch_options, logs  # noqa: E402

logs.install()
TOKEN = os.environ["PLANTED"]
WORDS = (
    f"token {TOKEN}, header Authorization: Bearer {TOKEN[3:]}X, "
    f"https://cdn.example/file?Expires=1&Signature={TOKEN[3:]}Y&Key-Pair-Id=2"
)


def fail(*_):
    print("printed:", WORDS)
    print("Bearer", TOKEN[3:] + "Z", file=sys.stderr)
    logging.getLogger("uvicorn.error").error("logged: %s", WORDS)
    raise RuntimeError(WORDS)


demo = build(example=False)
for function in demo.fns.values():
    if function.fn is not None:
        function.fn = fail
        function.inputs_as_dict = False
for block in demo.blocks.values():
    for name, method in list(vars(block).items()):
        if inspect.isfunction(method) and getattr(method, "_is_server_fn", False):
            setattr(block, name, lambda *_: fail())
            getattr(block, name)._is_server_fn = True
demo.launch(**launch_options())
