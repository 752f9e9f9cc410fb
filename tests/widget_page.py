"""One widget in a browser without the app: its JavaScript gets what gr.HTML gives to it.

In the room: an empty page with the house's style sheets, and `element, trigger, props, server,
upload, watch` as Gradio 6.31 makes them: a message from the server wakes the watchers of what it
changed, by its JSON and once for all; what the widget itself writes into `props` wakes none.
Not in the room: Gradio's own page, queue and events (tests/app/test_*_tab.py have them).
"""

import json
from collections.abc import Callable
from typing import Any

from ddpm_hub.app.theme import css

ADDRESS = "http://localhost/widget"  # an origin: storage, and what needs a secure page, work
PATIENCE = 10_000  # ms: what takes longer is a fault
PAGE = """<!doctype html><html lang="en"><head><title>widget</title><style>{css}</style></head>
<body class="{mode}"><div class="gradio-container"><div id="{id}"><div class="at"></div></div></div>
</body></html>"""
RUN = """({ script, props, servers, uploads }) => {
  const watchers = [];
  const proxy = new Proxy(structuredClone(props), {
    set(target, key, value) {
      if (target[key] !== value) widget.written.push(key);
      target[key] = value;
      return true;
    },
  });
  window.widget = {
    triggered: [], written: [], props: proxy,
    update(changes) {
      const same = (key) => JSON.stringify(proxy[key]) === JSON.stringify(changes[key]);
      const changed = Object.keys(changes).filter((key) => !same(key));
      const written = widget.written.length;
      for (const key of changed) proxy[key] = changes[key];
      widget.written.length = written; // these were the server's
      const heard = ({ keys }) => keys.some((key) => changed.includes(key));
      for (const { callback } of watchers.filter(heard)) callback();
    },
  };
  const trigger = (type, data = {}) => widget.triggered.push(structuredClone({ type, data }));
  const watch = (keys, callback) => watchers.push({ keys: [keys].flat(), callback });
  const call = (name) => async (...args) => {
    const { result, error } = await window.answer(name, args);
    if (error !== undefined) throw new Error(error);
    return result;
  };
  const server = Object.fromEntries(servers.map((name) => [name, call(name)]));
  const upload = uploads ? async (file) => call("upload")(file.name, file.size)
    : async () => { throw new Error("upload is not available in this context"); };
  const names = ["element", "trigger", "props", "server", "upload", "watch"];
  const element = document.querySelector(".at");
  Function(...names, script)(element, trigger, proxy, server, upload, watch);
}"""


class WidgetPage:
    """A gr.HTML of ours in a page of its own; `page` is Playwright's.

    component: as the tab makes it, such as `curve(elem_id="c")`; its value is the first message.
    servers: what `server.name(...)` of the script calls, as Python functions of JSON values; one
        called `upload` gets (name, bytes) of a file. An exception rejects the script's promise.
    Calls are kept in `calls` as (name, arguments); complaints of the browser in `problems`.
    """

    def __init__(self, page, component, *, dark: bool = False, **servers: Callable) -> None:
        self.page, self.servers = page, servers
        self.calls: list[tuple[str, list]] = []
        self.problems: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._hear)
        page.expose_function("answer", self._answer)
        name = component.elem_id or "widget"
        body = PAGE.format(css=css(), mode="dark" if dark else "light", id=name)
        page.route(ADDRESS, lambda route: route.fulfill(body=body, content_type="text/html"))
        page.goto(ADDRESS)
        self.root = page.locator(f"#{name} .at")
        page.evaluate(
            RUN,
            {
                "script": component.js_on_load,
                "props": {**component.props, "value": component.value},
                "servers": [name for name in servers if name != "upload"],
                "uploads": "upload" in servers,
            },
        )

    def send(self, value: Any = None, **props: Any) -> None:
        """What an event listener in Python returned: a new value, and new props."""
        changes = {**props} if value is None else {"value": value, **props}
        self.page.evaluate("(changes) => widget.update(changes)", json.loads(json.dumps(changes)))

    def value(self) -> Any:
        """What Python would get as the component's value."""
        return self.page.evaluate("widget.props.value")

    def triggered(self, kind: str | None = None) -> list[dict]:
        """The data of all events of that kind, oldest first; without a kind {type, data} of all."""
        events = self.page.evaluate("widget.triggered")
        return events if kind is None else [e["data"] for e in events if e["type"] == kind]

    def find(self, selector: str):
        """Playwright's locator of that part."""
        return self.root.locator(selector)

    def data(self, selector: str) -> dict[str, str]:
        """The data-* attributes of that part."""
        return self.find(selector).evaluate("(node) => ({ ...node.dataset })")

    def texts(self, selector: str) -> list[str]:
        return self.find(selector).all_inner_texts()

    def press(self, *keys: str) -> None:
        """Keys, one after the other, on what has the focus."""
        for key in keys:
            self.page.keyboard.press(key)

    def focused(self) -> str:
        """The class of what has the focus."""
        return self.page.evaluate("document.activeElement.className")

    def _hear(self, message) -> None:
        if message.type == "error" and "favicon" not in message.location.get("url", ""):
            self.problems.append(message.text)

    def _answer(self, name: str, arguments: list) -> dict:
        self.calls.append((name, arguments))
        try:
            return {"result": self.servers[name](*arguments)}
        except Exception as error:
            return {"error": str(error)}
