"""One server and one browser for all browser tests: `python app.py` as a visitor meets it.

A machine without a browser fails these tests (with CI=true and without); none is ever skipped.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@dataclass
class Server:
    """The running app: its address, where its trainings lie, and what it has printed so far."""

    url: str
    process: subprocess.Popen
    log_file: Path
    runs: Path

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_up(server: Server, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            pytest.fail(f"app.py ended with {server.process.returncode}:\n{server.log()[-3000:]}")
        try:
            with urllib.request.urlopen(server.url + "/config", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"app.py did not answer within {seconds:.0f} s:\n{server.log()[-3000:]}")


def start_server(folder: Path, program: str = "app.py", **changes: str) -> Server:
    """The app in a process of its own, which writes into `folder` alone; `stop_server` ends it.

    program: another one that launches it. changes: of its environment. It works offline unless
    they say HF_HUB_OFFLINE="0".
    """
    port = free_port()
    environment = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "DDPM_HUB_RUNS": str(folder / "runs"),
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        **changes,
    }
    log_file = folder / f"log-{port}-{time.monotonic_ns()}.txt"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, program], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    running = Server(f"http://127.0.0.1:{port}", process, log_file, folder / "runs")
    try:
        wait_until_up(running, 90)
    except BaseException:
        process.kill()
        raise
    return running


def stop_server(running: Server) -> None:
    running.process.terminate()
    try:
        running.process.wait(10)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait(10)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The app in a process of its own, on a free port, with a temporary folder of its own."""
    running = start_server(tmp_path_factory.mktemp("server"))
    yield running
    stop_server(running)


@pytest.fixture
def serve(tmp_path):
    """`serve()` starts another server on the test's own folder: to be killed, and started again.

    What it is given changes the server's environment.
    """
    running = []

    def start(**changes: str) -> Server:
        running.append(start_server(tmp_path, **changes))
        return running[-1]

    yield start
    for one in running:
        stop_server(one)


def browser_path(playwright) -> str:
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    own = playwright.chromium.executable_path  # where `playwright install chromium` puts its own
    if not Path(own).exists():
        pytest.fail("no Chromium on this machine: `make test` installs one, or apt-get chromium")
    return own


@pytest.fixture(scope="session")
def chromium():
    """One headless Chromium for the whole session."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path(playwright), headless=True, args=FLAGS
        )
        yield browser
        browser.close()


@dataclass
class Visitor:
    """A page of a fresh context, with everything the browser complained about."""

    page: object
    context: object
    problems: list[str] = field(default_factory=list)

    def unfold(self, accordion: str) -> None:
        """Open an accordion, and wait until what is typed in it stays.

        Gradio mounts what is in it now, and a frame later sets it to its first values: faster than
        a person types, but not than a test on a busy machine.
        """
        self.page.locator(f"{accordion} button").first.click()
        self.page.locator(f"{accordion} input, {accordion} textarea").first.wait_for()
        self.page.evaluate(
            "() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
        )


def open_visitor(server, chromium, width=1280, height=900, dark=False, query="", **options):
    """The app in a fresh context; options are Playwright's, such as reduced_motion="reduce"."""
    context = chromium.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        **options,
    )
    visitor = Visitor(context.new_page(), context)
    visitor.page.on("pageerror", lambda error: visitor.problems.append(str(error)))
    visitor.page.on("console", lambda message: note(visitor, message))
    visitor.page.goto(server.url + query, wait_until="domcontentloaded")
    return visitor


def note(visitor: Visitor, message) -> None:
    if message.type == "error":
        visitor.problems.append(f"{message.text} ({message.location.get('url', '')})")


@pytest.fixture
def visit_server(chromium):
    """`visit_server(server, ...)` is `visit` for another server, which may die under the page."""
    visitors = []

    def open_page(server, **options) -> Visitor:
        visitors.append(open_visitor(server, chromium, **options))
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.context.close()


@pytest.fixture(scope="session")
def opener(server, chromium):
    """`open_visitor` for module fixtures: they close the context and read the problems."""
    return partial(open_visitor, server, chromium)


@pytest.fixture
def visit(opener):
    """`visit(width=1280, height=900, dark=False, ...)` opens the app and gives a Visitor.

    At the end of the test every console error and uncaught exception fails it; a test that takes
    the network away clears `visitor.problems` of the errors it caused.
    """
    visitors = []

    def open_page(**options) -> Visitor:
        visitors.append(opener(**options))
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.context.close()
    assert [p for visitor in visitors for p in visitor.problems] == []


@pytest.fixture(scope="module")
def repos(tmp_path_factory):
    """A Hub on this machine with good and bad repos."""
    from hub_page import Repos
    from local_hub import LocalHub

    with LocalHub() as hub:
        yield Repos(hub, tmp_path_factory.mktemp("repos"))


@pytest.fixture(scope="module")
def hub_server(repos, tmp_path_factory):
    """The app as it meets that Hub, with the token of `owner` in its environment."""
    folder = tmp_path_factory.mktemp("hub-server")
    (folder / "tmp").mkdir()
    running = start_server(
        folder,
        HF_ENDPOINT=repos.hub.url,
        HF_TOKEN=repos.owner,
        HF_HUB_OFFLINE="0",
        TMPDIR=str(folder / "tmp"),
    )
    yield running
    stop_server(running)


@pytest.fixture
def hub_tab(hub_server, visit_server):
    """`hub_tab(...)` opens the Hub tab of that app."""
    from hub_page import Page

    return lambda **options: Page(visit_server(hub_server, reduced_motion="reduce", **options))


@pytest.fixture
def widget(chromium):
    """`widget(component, width=900, ...)` runs one widget's JavaScript without the app.

    More is WidgetPage's, and Playwright's as `context={...}`. What the browser complains about
    fails the test.
    """
    from widget_page import WidgetPage

    made = []

    def open_widget(component, width=900, height=900, context=None, **options):
        size = {"width": width, "height": height}
        page = chromium.new_context(viewport=size, **(context or {})).new_page()
        made.append(WidgetPage(page, component, **options))
        return made[-1]

    yield open_widget
    for one in made:
        one.page.context.close()
    assert [problem for one in made for problem in one.problems] == []


@pytest.fixture
def small_presets(monkeypatch):
    """A network of a few thousand weights stands in for the presets', and grids cost little."""
    import torch

    from ddpm_hub import GaussianDiffusion, Unet
    from ddpm_hub.app import limits, models
    from ddpm_hub.randomness import SeededGlobals

    def fresh(preset, seed):
        with SeededGlobals(torch.device("cpu"), "weights", seed):
            network = Unet(dim=8, dim_mults=(1, 2), channels=1)
        return GaussianDiffusion(network, image_size=28, timesteps=40)

    row = limits.train_row
    monkeypatch.setattr(limits, "train_row", lambda name: replace(row(name), sample_steps=2))
    monkeypatch.setattr(models, "fresh", fresh)
