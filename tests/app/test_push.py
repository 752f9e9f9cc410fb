"""Publishing from the demo: the endpoint /push, and the Publish half of the Hub tab.

The Hub is one on this machine, asked by the real client. The app has the token of the machine's
owner in its environment, which must never be used for a visitor. Over 300 lines, since all of it
shares one Hub, one server and one browser.
"""

import json
import time
import urllib.request

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from hub_page import PATIENCE, small

from ddpm_hub.app import job, jobs, limits, models, publish, starts
from ddpm_hub.app.tabs import account
from ddpm_hub.errors import ConfigError, HubError

MODEL = {"config.json", "model.safetensors", "README.md", "samples.png", "training.json"}


@pytest.fixture(scope="module")
def anybody(hub_server):
    return Client(hub_server.url, verbose=False)


@pytest.fixture(scope="module")
def alice(hub_server, repos):
    """A client that hands its own token to the endpoints that ask for one."""
    return Client(hub_server.url, verbose=False, oauth_token=repos.alice)


@pytest.fixture(scope="module")
def trained(anybody):
    """The key of a training of 4 steps that is over."""
    key = anybody.predict(steps=4, seed=1, api_name="/train_start")["job"]
    wait_until(anybody, key, ("done",))
    return key


def wait_until(client, key, states, seconds=90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = client.predict(key, api_name="/train_status")
        if status["state"] in states:
            return status
        time.sleep(0.2)
    pytest.fail(f"the training is {status['state']}, not {states}")


def push(client, source="bundled", repo_id="alice/pushed", private=False):
    return client.predict(source, repo_id, private, api_name="/push")


def commits(repos, repo_id, token=None):
    return [c.commit_id for c in repos.api(token).list_repo_commits(repo_id)]


def content(repos, repo_id, name, tmp_path):
    path = repos.api().hf_hub_download(repo_id, name, cache_dir=tmp_path / "cache")
    return open(path, "rb").read()


# ---- the endpoint -------------------------------------------------------------------------------
def test_a_training_is_published_in_one_commit_and_opens_as_what_it_was(
    alice, anybody, repos, trained, tmp_path, hub_server
):
    pushed = push(alice, f"job:{trained}", "alice/trained")
    assert commits(repos, "alice/trained")[:-1] == [pushed["commit"]]
    assert pushed["url"] == f"{repos.hub.url}/alice/trained/commit/{pushed['commit']}"
    files = set(repos.api().list_repo_files("alice/trained"))
    assert files >= MODEL and not [f for f in files if "checkpoint" in f or "job" in f]
    asked = {"sampler": "ddim", "steps": 2, "batch": 1, "seed": 5, "api_name": "/sample"}
    here = anybody.submit(model=f"job:{trained}", **asked).result(60)["png"]
    there = anybody.submit(model="alice/trained", **asked).result(60)["png"]
    assert here == there
    for name in MODEL - {"model.safetensors", "samples.png"}:
        text = content(repos, "alice/trained", name, tmp_path).decode()
        assert trained not in text and str(hub_server.runs) not in text


def test_the_same_again_makes_no_commit(alice, repos):
    first = push(alice)
    assert push(alice) == first
    assert len(commits(repos, "alice/pushed")) == 2  # the Hub's own, and ours


def test_a_private_repository_is_for_its_owner_alone(alice, anybody, repos):
    push(alice, repo_id="alice/mine", private=True)
    assert repos.api().model_info("alice/mine").private
    with pytest.raises(AppError, match="does not exist, or is private"):
        anybody.predict("alice/mine", None, api_name="/load_model")


def test_a_card_that_is_there_stays(alice, repos, tmp_path):
    push(alice, repo_id="alice/carded")
    mine = b"---\nlicense: mit\n---\n# My own words\n"
    repos.api().upload_file(repo_id="alice/carded", path_in_repo="README.md", path_or_fileobj=mine)
    push(alice, repo_id="alice/carded")
    assert content(repos, "alice/carded", "README.md", tmp_path) == mine


@pytest.mark.parametrize(
    ("whose", "repo_id", "sentence"),
    [
        ("nobody", "alice/theirs", "token of your own"),
        ("nobody", "owner/theirs", "token of your own"),
        ("empty", "alice/theirs", "token of your own"),
        ("reader", "alice/theirs", "may only read"),
        ("alice", "owner/theirs", "publish to alice/theirs"),
        ("alice", "bob/theirs", "publish to alice/theirs"),
        ("expired", "alice/theirs", "may have expired"),
        ("odd", "alice/theirs", "no token of the Hub"),
    ],
)
def test_nobody_publishes_with_another_s_right(hub_server, repos, whose, repo_id, sentence):
    tokens = {
        "nobody": None,
        "empty": "",
        "reader": repos.reader,
        "alice": repos.alice,
        "expired": "hf_expired0123456789abcdef",
        "odd": "hf_two words",
    }
    client = Client(hub_server.url, verbose=False, oauth_token=tokens[whose])
    repos.hub.clear()
    with pytest.raises(AppError, match=sentence) as caught:
        push(client, repo_id=repo_id)
    assert not [r for r in repos.hub.log if r["line"].startswith("POST")]
    assert "owner" not in {request["auth"] for request in repos.hub.log}
    assert not tokens[whose] or tokens[whose] not in str(caught.value)
    for token in (repos.alice, repos.owner):
        assert not repos.api(token).repo_exists(repo_id)


@pytest.mark.parametrize(
    ("source", "repo_id", "sentence"),
    [
        ("alice/small", "alice/x", "not made here"),
        ("opened:" + "0" * 32, "alice/x", "not made here"),
        ("/etc", "alice/x", "neither"),
        ("job:" + "0" * 16, "alice/x", "no training of this app"),
        ("bundled", "x", "owner/name"),
        ("bundled", "../x", "owner/name"),
        ("bundled", "alice/" + "x" * 200, "owner/name"),
    ],
)
def test_a_bad_source_or_name_is_one_sentence(alice, source, repo_id, sentence):
    with pytest.raises(AppError, match=sentence) as caught:
        push(alice, source, repo_id)
    assert "Traceback" not in str(caught.value)


def test_a_training_that_goes_on_is_not_published(alice, anybody):
    key = anybody.predict(steps=5000, api_name="/train_start")["job"]
    try:
        wait_until(anybody, key, ("running",))
        with pytest.raises(AppError, match="pause or stop it"):
            push(alice, f"job:{key}")
    finally:
        anybody.predict(key, api_name="/train_stop")
        wait_until(anybody, key, ("stopped",))


def test_a_fault_of_the_hub_is_a_sentence_and_the_next_push_lands(alice, repos):
    repos.hub.fault(r"POST /api/models/alice/faulty/commit/", "status:500", times=50)
    with pytest.raises(AppError, match="alice/faulty"):
        push(alice, repo_id="alice/faulty")
    repos.hub.clear()
    assert push(alice, repo_id="alice/faulty")["commit"] == commits(repos, "alice/faulty")[0]


def test_tokens_are_in_no_log_no_config_and_no_description(hub_server, repos, alice):
    push(alice)
    seen = hub_server.log()
    for path in ("/config", "/gradio_api/info", "/openapi.json"):
        with urllib.request.urlopen(hub_server.url + path, timeout=10) as answer:
            seen += answer.read().decode()
    for token in (repos.alice, repos.owner, repos.reader):
        assert token not in seen


# ---- the page -----------------------------------------------------------------------------------
def test_the_edited_card_is_pushed_to_the_letter(hub_tab, repos, tmp_path):
    tab = hub_tab()
    tab.go("Publish")
    card = tab.page.locator("#push-card textarea")
    tab.fill("push-repo", "alice/edited")
    tab.page.locator("#push-license input").click()
    tab.page.get_by_role("option", name="MIT").click()
    tab.page.wait_for_function(
        "() => /license: mit[^]*# edited/.test("
        "document.querySelector('#push-card textarea')?.value)"
    )
    text = card.input_value() + "\nMy own words.\n"
    card.fill(text)
    tab.page.locator("#push-button").click()
    tab.page.locator("#push-status [data-kind=bad]").get_by_text("token of your own").wait_for()
    tab.give_token(repos.alice)
    tab.page.locator("#push-button").click()
    link = tab.page.locator("#push-status [data-kind=good] a")
    link.wait_for()
    assert link.get_attribute("href").startswith(f"{repos.hub.url}/alice/edited/commit/")
    assert content(repos, "alice/edited", "README.md", tmp_path).decode() == text
    assert tab.visitor.problems == []


def test_the_card_in_the_page_is_the_one_of_the_choices_though_nobody_waits(
    hub_tab, repos, tmp_path
):
    tab = hub_tab()
    tab.go("Publish")
    tab.page.wait_for_function("() => document.querySelector('#push-card textarea')?.value")
    tab.give_token(repos.alice)
    tab.fill("push-repo", "alice/in-a-hurry")
    tab.page.locator("#push-button").click()
    tab.page.locator("#push-status [data-kind=good] a").wait_for()
    pushed = content(repos, "alice/in-a-hurry", "README.md", tmp_path).decode()
    assert "alice/in-a-hurry" in pushed
    tab.page.wait_for_function(
        "pushed => document.querySelector('#push-card textarea')?.value === pushed", arg=pushed
    )


def test_from_train_to_publish_is_one_button(hub_tab, trained):
    tab = hub_tab()
    tab.go("Train")
    tab.page.locator(".cv-badge[data-state=done], .cv-badge[data-state=stopped]").first.wait_for()
    watched = tab.page.locator(".ddpm-curve").get_attribute("data-run")
    assert watched
    tab.page.locator("#train-publish").click()
    tab.page.locator("#push-button").wait_for(timeout=PATIENCE)
    tab.page.wait_for_function("() => document.querySelector('#push-source input')?.value")
    assert "tiny on garments" in tab.page.locator("#push-source input").input_value()
    tab.page.wait_for_function(
        "() => /## Training/.test(document.querySelector('#push-card textarea')?.value)"
    )
    assert tab.visitor.problems == []


def test_an_opened_model_is_trained_on(hub_tab, anybody, repos):
    """The training's first picture of the loss is that of the opened weights, not of new ones."""
    tab = hub_tab()
    tab.open("alice/small")
    tab.load()
    tab.go("Train")
    tab.page.locator("#train-begin label").get_by_text("Model in Sample").click()
    tab.page.locator("#train-card").get_by_text("16 x 16 colour").wait_for()
    tab.page.locator("#train-estimate").get_by_text("alice/small").wait_for()
    tab.page.locator("#train-steps input").fill("2")
    before = tab.page.locator(".ddpm-curve").get_attribute("data-run")
    tab.page.locator("#train-start").click()
    tab.page.wait_for_function(
        "r => document.querySelector('.ddpm-curve').dataset.run !== (r || undefined)", arg=before
    )
    key = tab.page.locator(".ddpm-curve").get_attribute("data-run")
    wait_until(anybody, key, ("done",))
    card = anybody.predict(f"job:{key}", None, api_name="/load_model")
    assert (card["image_size"], card["timesteps"], card["channels"]) == ([16, 16], 40, 3)
    assert tab.visitor.problems == []


# ---- without a browser --------------------------------------------------------------------------
@pytest.fixture
def desk(tmp_path, monkeypatch):
    made = jobs.Desk(tmp_path / "runs")
    monkeypatch.setattr(jobs, "desk", lambda: made)
    yield made
    made.close()


def test_a_training_goes_on_from_the_weights_it_was_given_and_again_after_a_restart(desk, tmp_path):
    request = limits.train_request("bundled", "tiny", 2, 0, start="alice/small @ 1234567")
    start = small(1)
    made = job.Job.create(tmp_path / "runs" / ("0" * 16), request, "garments", start)
    found = job.Job.open(made.folder)
    assert found.request.start == "alice/small @ 1234567"
    begun = starts.network(found.folder, found.request)
    for name, weight in start.state_dict().items():
        assert np.array_equal(begun.state_dict()[name].cpu(), weight)
    assert begun.training
    found.work()
    assert (found.state, found.step) == ("done", 2)
    trained = found.model()
    assert trained.image_size == (16, 16)
    changed = [
        n
        for n, w in start.model.state_dict().items()
        if not (trained.model.state_dict()[n] == w).all()
    ]
    assert changed


def test_a_model_too_large_to_be_trained_here_is_refused_first(desk, monkeypatch):
    request = limits.train_request("bundled", "tiny", 2, 0, start="x")
    monkeypatch.setattr(starts, "MAX_PARAMETERS", 1000)
    with pytest.raises(ConfigError, match="up to 1,000"):
        desk.start(request, small(1))
    monkeypatch.undo()
    wide = limits.train_request(
        "bundled", "tiny", 2, 0, options={"train_batch_size": 128}, start="x"
    )
    with pytest.raises(ConfigError, match="set train_batch_size to 32"):
        starts.check(small(1, image_size=64), wide)
    assert desk.jobs == {}


@pytest.mark.parametrize("error", [HubError, RuntimeError])
def test_an_error_that_holds_a_token_is_told_without_it(error, caplog):
    token = "hf_abcdefghijklmnopqrstuvwxyz0123"
    odd = "eyJhbGciOi.oauth-token"
    with pytest.raises(gr.Error) as caught, account.sentences(odd):
        raise error(f"GET failed with Bearer {token} and {odd}")
    for secret in (token, odd):
        assert secret not in str(caught.value) + caplog.text


def test_a_sign_in_is_offered_on_a_space_alone(monkeypatch):
    monkeypatch.setenv("OAUTH_CLIENT_ID", "x")
    monkeypatch.delenv("SYSTEM", raising=False)
    monkeypatch.setenv("SPACE_ID", "alice/demo")
    assert not account.can_sign_in()  # Gradio would mock it with the machine's own account


def test_a_token_is_taken_as_it_was_typed_or_signed_in_with():
    signed_in = gr.OAuthToken(token="hf_oauth", scope="", expires_at=0)
    assert account.token_of(" hf_typed ", signed_in) == "hf_typed"
    assert account.token_of("", signed_in) == "hf_oauth"
    assert account.token_of("", None) is None
    assert account.token_of(None, gr.OAuthToken(token="", scope="", expires_at=0)) is None
    with pytest.raises(HubError, match="no token"):
        account.token_of("two\nlines", None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"private": "yes"}, "private 'yes' is not a switch"),
        ({"license": "mine"}, "unknown licence 'mine'"),
        ({"card": "x" * 100_001}, "at most 100,000"),
        ({"replace_card": 1}, "replace_card"),
        ({"source": None}, "neither"),
        ({"repo_id": 7}, "7 is no repository"),
    ],
)
def test_what_may_be_published_is_checked(changes, sentence):
    with pytest.raises((ConfigError, HubError), match=sentence):
        publish.request(**{"source": "bundled", "repo_id": "a/b"} | changes)


def test_the_bundled_model_has_a_card_for_every_licence():
    for license in publish.LICENSES:
        assert f"license: {license}" in publish.card("bundled", "alice/x", license)
    assert json.dumps(models.model_card("bundled"))
