"""The whole way in one test: photos, a minute of training, a repository, the same pixels elsewhere.

One visitor uploads 60 pictures, trains on them, draws, publishes with a token of their own; another
app, started afresh, opens the model by its id and draws the same; and the downloaded picture alone
brings the run back. The Hub is one on this machine, asked by the real client.
"""

import io

import numpy as np
import pytest
from hub_page import PATIENCE, Page
from PIL import Image

from ddpm_hub import images
from ddpm_hub.data import fashion_mnist

PHOTOS = 60
REPO = "alice/wardrobe"


@pytest.fixture(scope="module")
def photos():
    """Real pictures of garments, as a camera would give them: JPEGs, coloured, not square."""
    taken = []
    for i, garment in enumerate(fashion_mnist("test").images[:PHOTOS, 0].numpy()):
        picture = Image.new("RGB", (120, 90), (30 + i, 40, 60))
        picture.paste(Image.fromarray(garment).resize((84, 84)), (18, 3))
        stream = io.BytesIO()
        picture.save(stream, "jpeg", quality=92)
        taken.append(
            {"name": f"IMG_{i:04}.jpg", "mimeType": "image/jpeg", "buffer": stream.getvalue()}
        )
    return taken


@pytest.fixture
def elsewhere(repos, serve):
    """`elsewhere()` is another app, which has never seen the model: an empty disk, and no token."""
    return lambda: serve(HF_ENDPOINT=repos.hub.url, HF_HUB_OFFLINE="0")


def draw(page, seed: int | None = None) -> bytes:
    """Press Run in the Sample tab; the picture at the end, as it is downloaded."""
    if seed is not None:
        page.locator("#fresh input").uncheck()
        page.locator("#seed input").fill(str(seed))
        page.locator("#steps label").get_by_text("10", exact=True).click()
    before = page.locator("#timeline .ddpm-tl").get_attribute("data-run")
    page.locator("#run").click()
    return taken_home(page, before)


def taken_home(page, before: str) -> bytes:
    """The picture of the run that came after `before`, when it is done."""
    page.wait_for_function(
        "r => document.querySelector('#timeline .ddpm-tl').dataset.run !== r", arg=before
    )
    page.locator("#timeline .tl-badge[data-state=done]").wait_for()
    with page.expect_download() as promise:
        page.locator("#timeline .tl-save [data-format=png]").click()
    return promise.value.path().read_bytes()


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def train_for_a_minute(page, photos) -> None:
    page.get_by_role("tab", name="Train", exact=True).click()
    page.locator("#train-data label").get_by_text("Your images").click()
    page.locator("#train-files input[type=file]").set_input_files(photos)
    page.locator("#train-card").filter(has_text=f"{PHOTOS} images").wait_for()
    page.locator("#train-minutes input").fill("1")
    page.locator("#train-start").click()
    page.locator(".cv-status").filter(has_text=f"{PHOTOS} of your images").wait_for()
    page.wait_for_timeout(55_000)
    page.locator("#train-stop").click()
    page.locator(".cv-badge[data-state=stopped], .cv-badge[data-state=done]").first.wait_for()


def publish(tab: Page, repos) -> None:
    tab.go("Train")
    tab.page.locator("#train-publish").click()
    tab.page.locator("#push-button").wait_for(timeout=PATIENCE)
    tab.fill("push-repo", REPO)
    tab.give_token(repos.alice)
    tab.page.locator("#push-button").click()
    tab.page.locator("#push-status [data-kind=good] a").wait_for()


def test_from_sixty_photos_to_the_same_picture_in_another_app(
    hub_tab, visit_server, repos, photos, elsewhere
):
    tab = hub_tab()
    train_for_a_minute(tab.page, photos)
    tab.page.locator("#train-try").click()
    tab.page.locator("#model-chip").filter(has_text="of your images").wait_for()
    here = draw(tab.page, seed=12)
    publish(tab, repos)
    assert tab.visitor.problems == []

    app = elsewhere()
    other = Page(visit_server(app, reduced_motion="reduce"))
    other.open(REPO)
    assert REPO in other.load()
    there = draw(other.page, seed=12)
    assert np.array_equal(pixels(here), pixels(there))
    assert images.read_metadata(there)["model"].startswith(f"{REPO}@")
    assert np.ptp(pixels(there)) > 50  # a picture, and not one grey

    fresh = visit_server(app, reduced_motion="reduce")
    fresh.page.set_default_timeout(PATIENCE)
    fresh.page.locator("#timeline .tl-badge[data-state=example]").wait_for()
    before = fresh.page.locator("#timeline .ddpm-tl").get_attribute("data-run")
    fresh.page.locator("#history input[type=file]").set_input_files(
        {"name": "mine.png", "mimeType": "image/png", "buffer": there}
    )
    again = taken_home(fresh.page, before)
    assert np.array_equal(pixels(again), pixels(there))
    fresh.page.locator("#model-chip").filter(has_text=REPO).wait_for()
    assert fresh.problems == [] and other.visitor.problems == []
