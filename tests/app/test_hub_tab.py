"""The Hub tab in a real browser and over its endpoints: a model is opened, looked at, and used.

The Hub is one on this machine, asked by the real client. Its app has the token of the machine's
owner in its environment, as a Space has a secret. Over 300 lines, since all of it shares one Hub,
one server and one browser, which take seconds to start.
"""

import base64
import io
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from hub_page import CARD, GOLDEN, Page, small
from PIL import Image

import ddpm_hub
from ddpm_hub import images
from ddpm_hub.app import limits, models, opened
from ddpm_hub.app.tabs import hub_cards
from ddpm_hub.errors import HubError


@pytest.fixture(scope="module")
def client(hub_server):
    return Client(hub_server.url, verbose=False, oauth_token=None)


def pixels(data_uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data_uri.split(",")[1]))))


def drawn_by(client, model, **options):
    asked = {"sampler": "ddim", "steps": 5, "batch": 4, "seed": 3} | options
    return pixels(client.submit(model=model, **asked, api_name="/sample").result(60)["png"])


def by_the_library(diffusion, **options):
    asked = {"sampler": "ddim", "steps": 5, "batch_size": 4, "seed": 3, "progress": False} | options
    return np.asarray(images.grid(diffusion.sample(**asked)))


# ---- opening ------------------------------------------------------------------------------------
def test_a_revision_is_opened_looked_at_and_drawn_with_as_the_library_would(hub_tab, repos):
    first = repos.commits["alice/small"][0]
    tab = hub_tab()
    facts = tab.open("alice/small", first)
    for fact in ("ddpm_hub layout", "safetensors only", "16 x 16 colour", "40", first[:12]):
        assert fact in facts
    assert "alice/small" in tab.load() and tab.page.locator("#model-chip").is_visible()
    for name, value in (("sampler", "ddim"), ("steps", "5"), ("batch", "4")):
        tab.page.locator(f"#{name} label").get_by_text(value, exact=True).click()
    tab.page.locator("#fresh input").uncheck()
    tab.page.locator("#seed input").fill("3")
    tab.page.locator("#run").click()
    tab.page.locator(".ddpm-tl[data-index='4']").wait_for()
    tab.page.locator(".tl-badge[data-state=done]").wait_for()
    with tab.page.expect_download() as promise:
        tab.page.locator(".tl-save [data-format=png]").click()
    png = promise.value.path().read_bytes()
    about = images.read_metadata(png)
    assert about["model"] == f"alice/small@{first}"
    picture = np.asarray(Image.open(io.BytesIO(png)))
    enlarged = about["enlarged"]
    expected = by_the_library(small(1))
    assert np.array_equal(picture[::enlarged, ::enlarged], expected)
    assert not np.array_equal(expected, by_the_library(small(2)))
    assert tab.visitor.problems == []


def test_without_a_revision_the_newest_is_opened_and_a_pasted_address_will_do(hub_tab, repos):
    tab = hub_tab()
    facts = tab.open("https://huggingface.co/alice/small")
    assert repos.commits["alice/small"][-1][:12] in facts
    samples = tab.page.locator("#hub-facts img")
    assert samples.evaluate("image => image.naturalWidth") == 32
    assert samples.get_attribute("src").startswith("data:image/jpeg")


@pytest.mark.parametrize("named", ["alice/small", "alice/small@main"])
def test_an_endpoint_draws_with_a_repo_by_its_name(client, named):
    assert np.array_equal(drawn_by(client, named), by_the_library(small(2)))


def test_an_endpoint_draws_with_a_commit(client, repos):
    first = repos.commits["alice/small"][0]
    assert np.array_equal(drawn_by(client, f"alice/small@{first}"), by_the_library(small(1)))
    card = client.predict("alice/small", first, api_name="/load_model")
    assert (card["source"], card["image_size"], card["timesteps"]) == ("hub", [16, 16], 40)
    assert "ddpm_hub" in card["card"]


def test_a_diffusers_repo_is_opened_loaded_and_drawn_with(hub_tab, client):
    tab = hub_tab()
    assert "diffusers layout" in tab.open("alice/diffusers")
    assert "alice/diffusers" in tab.load()
    whole = ddpm_hub.GaussianDiffusion.from_pretrained(GOLDEN / "diffusers_pipeline")
    assert np.array_equal(drawn_by(client, "alice/diffusers"), by_the_library(whole))


def test_the_lab_follows_the_model_and_says_where_it_cannot(hub_tab):
    tab = hub_tab()
    tab.open("alice/small")
    tab.load()
    tab.go("Lab")
    tab.page.locator("#lab-model").get_by_text("alice/small").wait_for()
    tab.page.locator("#few-run").or_(tab.page.locator("#compare-run")).first.wait_for()
    tab.page.locator("#compare-steps label").get_by_text("10", exact=True).click()
    tab.page.locator("#compare-run").click()
    tab.page.locator("#compare-strips [data-state=done]").first.wait_for()
    tab.go("Interpolate")
    assert tab.page.locator("#mix-t input[type=range]").get_attribute("max") == "39"
    tab.go("Inpaint")
    assert (
        "bundled model"
        in tab.page.locator("#lab-inpaint .lab-bound, .lab-bound:visible").first.inner_text()
    )
    tab.go("Sample")  # where the example was drawn by the bundled model
    tab.page.locator("#timeline").get_by_text("Another model is in use now").wait_for()
    tab.page.locator("#model-back").click()
    tab.page.locator("#model-chip").get_by_text("Bundled model").wait_for()
    tab.go("Lab")
    tab.page.locator("#lab-model").wait_for(state="hidden")
    assert tab.visitor.problems == []


def test_suggestions_grow_by_what_the_hub_says(hub_tab):
    tab = hub_tab()
    for _ in range(20):
        tab.go("Sample")
        tab.go("Hub")
        tab.page.wait_for_timeout(300)
        if tab.page.locator("#hub-tries label").count() > 3:
            break
    names = tab.page.locator("#hub-tries label").all_inner_texts()
    assert names[0] == "google/ddpm-cifar10-32"
    assert any(name.startswith("alice/") for name in names)
    assert not any("secret" in name for name in names)
    tab.page.locator("#hub-tries label").get_by_text("alice/small", exact=True).click()
    tab.page.locator("#hub-facts .wd-top").get_by_text("alice/small").wait_for()


# ---- strangers ----------------------------------------------------------------------------------
@pytest.mark.parametrize("dark", [False, True])
def test_a_hostile_card_stays_text_and_fetches_nothing(hub_tab, hub_server, dark):
    tab = hub_tab(dark=dark)
    title = tab.page.title()
    tab.open("alice/hostile")
    shown = tab.page.locator("#hub-card").inner_text()
    for line in CARD.splitlines()[3:]:
        assert line.lstrip("# ") in shown
    tab.page.wait_for_timeout(500)
    assert tab.page.title() == title
    assert tab.page.locator("#hub-card :is(img, script, iframe, svg, a)").count() == 0
    assert tab.page.locator("#hub-facts img").count() == 0  # a picture of 36 million pixels
    assert {url.split("/")[2] for url in tab.asked if url.startswith("http")} == {
        hub_server.url.split("/")[2]
    }


def test_an_endless_card_is_cut():
    text = hub_cards.card("# long\n" + "<b>x</b> " * 1_000_000)
    assert len(text) < 10 * hub_cards.CARD_CHARACTERS
    assert "<b>x" not in text and "is cut" in text


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("alice/nothing", "does not exist, or is private"),
        ("alice/secret", "does not exist, or is private"),
        ("owner/secret", "does not exist, or is private"),
        ("alice/gated", "is gated"),
        ("alice/broken", "config"),
        ("alice/huge", "parameters"),
        ("alice/empty", "holds no safetensors"),
        ("alice/pickles", "pickles only"),
        ("alice/heavy", "40,000 MB, more than the 1,500"),
        ("alice/cut", "model.safetensors"),
        ("alice/data", "is a data set"),
        ("alice/small@nowhere", "no revision 'nowhere'"),
        ("alice/small@../x", "not a branch, tag or commit"),
        ("/etc", "owner/name"),
        ("~/x", "owner/name"),
        ("../..", "owner/name"),
        ("tests/app", "owner/name"),
        ("a/b?x", "owner/name"),
        ("a/b/c", "owner/name"),
        ("a" * 200 + "/b", "owner/name"),
        ("opened:" + "0" * 32, "no longer in memory"),
        ("job:../../etc", "no training here"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(client, repos, hub_server, model, sentence):
    with pytest.raises(AppError, match=re.escape(sentence)) as caught:
        client.predict(model, None, api_name="/load_model")
    assert "Traceback" not in str(caught.value) and "hf auth" not in str(caught.value)
    assert not repos.canary.exists()
    assert hub_server.process.poll() is None


@pytest.mark.parametrize(
    ("repo_id", "sentence"),
    [
        ("alice/nothing", "does not exist, or is private"),
        ("alice/pickles", "pickles only"),
        ("alice/heavy", "more than the 1,500"),
        ("tests/app", "no repository of the Hub"),
        ("<img src=x onerror=alert(1)>", "no repository of the Hub"),
        ("", "no repository of the Hub"),
    ],
)
def test_the_page_says_so_and_goes_on(hub_tab, repo_id, sentence):
    tab = hub_tab()
    assert sentence in tab.refused(repo_id)
    assert "alice/small" in tab.open("alice/small")
    assert tab.visitor.problems == []


def test_a_model_of_too_many_parameters_is_refused_before_it_is_fetched(client, repos):
    repos.hub.clear()
    with pytest.raises(AppError, match="parameters"):
        client.predict("alice/huge", None, api_name="/load_model")
    assert not [r for r in repos.hub.log if "model.safetensors" in r["line"]]


# ---- whose right --------------------------------------------------------------------------------
def test_a_private_model_is_its_visitor_s_alone(hub_tab, hub_server, client, repos):
    tab = hub_tab()
    assert "private" in tab.refused("alice/secret")
    tab.give_token(repos.alice)
    assert "not public: your token" in tab.open("alice/secret")
    assert "alice/secret" in tab.load()
    tab.page.locator("#batch label").get_by_text("1", exact=True).click()
    tab.page.locator("#run").click()
    tab.page.locator(".tl-badge[data-state=running], .tl-badge[data-state=done]").first.wait_for()
    with pytest.raises(AppError, match="does not exist, or is private"):
        client.predict("alice/secret", None, api_name="/load_model")
    folder = hub_server.runs.parent
    assert not list((folder / "hf").rglob("*secret*"))
    assert not list((folder / "tmp").glob("ddpm_hub_*"))
    tab.page.locator(".tl-badge[data-state=done]").wait_for()
    with tab.page.expect_download() as promise:
        tab.page.locator(".tl-save [data-format=png]").click()
    assert images.read_metadata(promise.value.path().read_bytes())["model"] == "a private model"
    assert tab.visitor.problems == []


def test_another_page_does_not_know_the_model_that_this_one_opened(hub_tab, repos):
    tab, other = hub_tab(), hub_tab()
    tab.give_token(repos.alice)
    tab.open("alice/secret")
    tab.load()
    assert "private" in other.refused("alice/secret")
    other.go("Sample")
    other.page.locator("#model-chip").get_by_text("Bundled model").wait_for()


@pytest.mark.parametrize("token", ["hf_expired0123456789", "two words", "ü"])
def test_a_bad_token_is_a_sentence_without_it(hub_tab, hub_server, token):
    tab = hub_tab()
    tab.give_token(token)
    said = tab.refused("alice/secret")
    assert "token" in said and token not in said
    assert token not in hub_server.log()


def test_the_owner_s_token_never_goes_to_the_hub(repos, client):
    repos.hub.clear()
    for model in ("owner/secret", "alice/small", "alice/gated"):
        with suppress(AppError):
            client.predict(model, None, api_name="/load_model")
    assert len(repos.hub.log) >= 4
    for request in repos.hub.log:
        # Xet's storage wants a key, which the Hub itself hands to whoever may download
        keyed = {False, "other"} if "/cas/" in request["line"] else {False}
        assert request["auth"] in keyed, request["line"]


def test_offline_the_tab_says_so(visit, server):
    tab = Page(visit())
    assert "offline" in tab.refused("google/ddpm-cifar10-32")


def test_offline_what_all_may_read_opens_from_the_cache_and_the_owner_s_own_does_not(
    hub_server, repos, client, serve, tmp_path
):
    client.predict("alice/small", None, api_name="/load_model")
    cache = tmp_path / "cache"
    shutil.copytree(hub_server.runs.parent / "hf" / "hub", cache, symlinks=True)
    repos.api(repos.owner).snapshot_download("owner/secret", cache_dir=cache)
    offline = serve(HF_HUB_CACHE=str(cache), HF_ENDPOINT=repos.hub.url)
    there = Client(offline.url, verbose=False)
    assert np.array_equal(drawn_by(there, "alice/small"), by_the_library(small(2)))
    with pytest.raises(AppError, match="offline"):
        there.predict("owner/secret", None, api_name="/load_model")


# ---- without a browser --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (" google/ddpm-cifar10-32 ", "google/ddpm-cifar10-32"),
        ("https://huggingface.co/google/ddpm-cifar10-32/", "google/ddpm-cifar10-32"),
        ("hf.co/a/b", "a/b"),
        ("https://huggingface.co/a/b/tree/main", "a/b"),
        ("https://huggingface.co/a/b?library=diffusers", "a/b"),
    ],
)
def test_names_are_taken_as_people_paste_them(typed, name):
    assert limits.repo_name(typed) == name


@pytest.mark.parametrize(
    "typed", ["a/b/c", "https://huggingface.co/datasets/a/b", "hf.co/spaces/a/b", "hf.co/../b/c"]
)
def test_what_is_no_models_page_is_refused(typed):
    with pytest.raises(HubError, match="is no repository of the Hub"):
        limits.repo_name(typed)


def test_public_models_that_were_opened_first_leave_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(opened, "KEPT_BYTES", 25)
    monkeypatch.setattr(opened, "_fetched", opened.OrderedDict())
    monkeypatch.setattr(opened, "Cache", lambda name: opened_cache(tmp_path, name))
    for name in ("a/first", "a/second", "a/third"):
        opened_cache(tmp_path, name).folder.mkdir(parents=True)
        opened._keep(found(name, 10))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "models--a--second",
        "models--a--third",
    ]


def opened_cache(root, name):
    from ddpm_hub.hub.cache import Cache

    return Cache(name, root)


def test_a_private_model_is_forgotten_with_its_visitor_and_no_other():
    name = "opened:" + "a" * 32
    models.adopt(name, small(1), "its card")
    assert models.model_card(name)["card"] == "its card"
    models.forget("bundled")
    models.forget(name)
    with pytest.raises(HubError, match="no longer in memory"):
        models.load(name)


def test_two_visitors_who_ask_for_one_model_have_it_read_once(monkeypatch):
    reads, hold = [], threading.Event()

    def read(model, revision):
        reads.append(model)
        hold.wait(10)
        return models.adopt(f"{model}@{revision}", small(1))

    monkeypatch.setattr(models, "_models", models.OrderedDict())
    monkeypatch.setattr(models, "_commits", {})
    monkeypatch.setattr(opened, "commit", lambda repo, revision: "0" * 40)
    monkeypatch.setattr(models, "_read", read)
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(models.load, "a/b", "main") for _ in range(2)]
        models.adopt("c/d", small(2))  # nobody else waits for that download
        assert models.load("c/d").image_size == (16, 16)
        hold.set()
        assert both[0].result() is both[1].result()
    assert reads == ["a/b"]


def found(name, size):
    return opened.Opened(name, "0" * 40, False, "ddpm_hub", {}, {}, "model.safetensors", size, "")
