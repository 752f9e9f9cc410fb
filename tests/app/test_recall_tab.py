"""Links, pictures and the history in the app itself: a run comes back, or says why not."""

import numpy as np
import pytest
from hub_page import small

from ddpm_hub import images

PATIENCE = 60_000  # ms: the machine may be busy with other tests
LINK = "?seed=11&sampler=dpmpp_2m_sde&steps=7&eta=0.35&n=2&spacing=trailing"


class Tab:
    """The Sample tab and its history, in a visitor's words."""

    def __init__(self, visitor) -> None:
        self.visitor, self.page = visitor, visitor.page
        self.page.set_default_timeout(PATIENCE)
        self.page.locator("#history .ddpm-history").wait_for()

    def drawn(self, runs: int) -> None:
        """So many runs are in the strip, and the newest is done."""
        self.page.locator("#history .hs-run").nth(runs - 1).wait_for()
        self.page.locator("#timeline .tl-badge[data-state=done]").wait_for()

    def said(self, text: str = "") -> str:
        said = self.page.locator("#history .hs-said").filter(has_text=text)
        said.wait_for()
        return said.inner_text()

    def download(self) -> bytes:
        with self.page.expect_download() as promise:
            self.page.locator("#timeline .tl-save [data-format=png]").click()
        return promise.value.path().read_bytes()

    def form(self) -> dict:
        values = {n: self.page.locator(f"#{n} input[type=number]") for n in ("seed", "eta")}
        form = {n: float(box.input_value()) if box.count() else None for n, box in values.items()}
        for name in ("sampler", "steps", "batch"):
            form[name] = self.page.locator(f"#{name} label.selected").inner_text().strip()
        return form | {"fresh": self.page.locator("#fresh input").is_checked()}

    def give(self, picture: bytes) -> None:
        file = {"name": "mine.png", "mimeType": "image/png", "buffer": picture}
        self.page.locator("#history input[type=file]").set_input_files(file)


@pytest.fixture
def open_tab(visit):
    return lambda **options: Tab(visit(reduced_motion="reduce", **options))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(images.open_image(png), int)


FORM = {"seed": 11, "eta": 0.35, "sampler": "dpmpp_2m_sde", "steps": "7", "batch": "2"}


def test_a_link_draws_its_run_and_the_run_outlives_the_page(open_tab):
    tab = open_tab(query=LINK)
    tab.drawn(1)
    assert tab.form() == FORM | {"fresh": False}
    picture = tab.download()
    wanted = {"seed": 11, "sampler": "dpmpp_2m_sde", "steps": 7, "eta": 0.35, "batch": 2}
    assert wanted.items() <= images.read_metadata(picture).items()
    tab.page.locator(".hs-copy").click()
    assert tab.page.locator(".hs-link input").input_value().endswith("/" + LINK)

    tab.page.goto(tab.page.url.split("?")[0])
    tab.page.locator("#timeline .tl-badge[data-state=example]").wait_for()
    assert tab.form()["steps"] == "25"
    tab.page.locator("#history .hs-run").click()
    assert "as it was drawn" in tab.said("settings are back")
    tab.page.locator("#timeline .tl-badge[data-state=done]").wait_for()
    assert tab.form() == FORM | {"fresh": False}
    assert tab.download() == picture
    assert tab.page.locator("#history .hs-run").count() == 1
    tab.page.locator("#run").click()  # the form alone draws the same
    tab.page.locator("#timeline .tl-badge[data-state=running]").wait_for()
    tab.drawn(1)
    assert np.array_equal(pixels(tab.download()), pixels(picture))


def test_a_picture_brings_its_run_back_to_another_visitor(open_tab):
    tab = open_tab(query="?seed=4&steps=5&n=1&sampler=ddpm&variance=fixed_large")
    tab.drawn(1)
    picture = tab.download()
    other = open_tab(width=390, height=844)
    other.page.locator("#timeline .tl-badge[data-state=example]").wait_for()
    other.give(images.encode(images.Image.new("L", (9, 9)), "png"))
    assert other.said("This picture carries no settings of ours").endswith("out).")
    other.give(picture)
    other.drawn(1)
    assert other.download() == picture
    assert other.page.evaluate("document.documentElement.scrollWidth") <= 390
    strip, form = (other.page.locator(name).bounding_box() for name in ("#history", "#sampler"))
    assert strip["y"] > form["y"]


def test_a_bad_link_is_one_sentence_and_the_form_stays(open_tab):
    tab = open_tab(query="?seed=3&steps=5000&sampler=ddim&repo=", width=390, height=844)
    assert tab.said("steps 5000 is more than the 1000")
    box = tab.page.locator("#history .hs-said").bounding_box()
    assert 0 <= box["y"] < 844  # in sight, though the form is longer than the screen
    begun = {"seed": 7, "eta": None, "sampler": "unipc", "steps": "25", "batch": "4", "fresh": True}
    assert tab.form() == begun
    assert tab.page.locator("#run").is_enabled()
    assert tab.page.locator("#timeline .ddpm-tl").get_attribute("data-run") in (None, "example")


def test_a_link_opens_a_public_repository_and_never_with_the_owners_token(
    hub_server, visit_server, repos
):
    repos.hub.clear()
    query = "?repo=alice/small&rev=main&seed=3&sampler=ddim&steps=5&eta=0&n=4"
    tab = Tab(visit_server(hub_server, reduced_motion="reduce", query=query))
    tab.drawn(1)
    commit = repos.commits["alice/small"][-1]
    picture = tab.download()
    about = images.read_metadata(picture)
    assert about["model"] == f"alice/small@{commit}"
    drawn = small(2).sample(4, sampler="ddim", steps=5, eta=0.0, seed=3, progress=False)
    assert np.array_equal(
        pixels(picture)[:: about["enlarged"], :: about["enlarged"]],
        np.asarray(images.grid(drawn), int),
    )
    tab.page.locator(".hs-copy").click()
    link = tab.page.locator(".hs-link input").input_value()
    assert f"?repo=alice/small&rev={commit}&seed=3" in link

    for repo in ("owner/secret", "alice/secret"):
        other = visit_server(hub_server, reduced_motion="reduce", query=f"?repo={repo}&seed=3")
        said = Tab(other).said("could not be opened")
        assert "does not exist, or is private" in said
        assert other.problems == []
    asked_as = {request["auth"] for request in repos.hub.log}
    assert asked_as <= {False, "other"}  # nobody, or with what the Hub hands out for one file
    assert tab.visitor.problems == []
