"""From Forward to the reverse process: when the network is asked, with what, and what it answers.

The widget alone first, with what Python would send; then the whole app; then what anybody may send
to it.
"""

import json
import re
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forward_page import decoded, message, open_tab, pixels, set_t, shown

from ddpm_hub.app import glimpse, handoff, models, process
from ddpm_hub.app.widgets.scrubber import scrubber

QUIET = 400  # ms: longer than the widget waits after the last key
DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgAB"
    "c3UBGAAAAABJRU5ErkJggg=="
)


def answer(ticket: int, **changes) -> dict:
    """What Python answers, with pictures of one pixel."""
    known = {"t": 30, "T": 50, "alpha_bar": 0.25, "same": False, "shape": [3, 16, 16]}
    known |= {"model": "somebody/<b>model</b>", "mse": 0.0421, "eps_mse": None, "ticket": ticket}
    known["pictures"] = dict.fromkeys(("x", "x0_hat", "x0", "eps_hat"), DOT)
    return {"glimpse": known | changes}


GREETING = {"curves": process.all_curves(50), "samples": process.samples()}
MODEL = {"title": "the bundled model", "timesteps": 50, "schedule": "cosine"}


def scrubber_page(widget, greeting, message=None):
    """The scrubber without the app; `message` came before its tab was first opened."""
    made = scrubber(greeting, elem_id="forward-scrubber")
    template = f"element.innerHTML = {json.dumps(made.html_template)};\n"
    return widget(
        SimpleNamespace(
            elem_id="forward-scrubber",
            props=made.props,
            value=message,
            js_on_load=template + made.js_on_load,
        ),
        context={"reduced_motion": "reduce"},
    )


@pytest.fixture
def alone(widget):
    """The scrubber without the app, on a chain of 50 steps; a model with the cosine schedule."""
    return scrubber_page(widget, GREETING | {"model": MODEL})


# ---- the widget alone ---------------------------------------------------------------------------
def test_a_model_that_was_changed_before_the_tab_was_opened_leaves_the_pictures_there(widget):
    """Its message is the widget's value by then: what the widget begins with is no part of it."""
    tab = scrubber_page(widget, GREETING, {"model": MODEL | {"title": "another"}})
    assert "of 50" in tab.find(".fw-text").inner_text()
    assert tab.page.locator(".fw-pick").count() >= len(process.samples())
    assert np.ptp(pixels(tab.page, ".fw-signal")[..., 0]) > 100  # something stands there


def test_nothing_is_asked_while_the_hand_holds_and_one_thing_once_it_lets_go(alone):
    slider = alone.find(".fw-t")
    alone.find(".fw-see").click()
    alone.page.wait_for_timeout(QUIET)
    before = len(alone.triggered("glimpse"))
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    mouse, y = alone.page.mouse, box["y"] + box["height"] / 2
    mouse.move(box["x"] + 20, y)
    mouse.down()
    mouse.move(box["x"] + 0.8 * box["width"], y, steps=12)
    alone.page.wait_for_timeout(QUIET)
    t = int(slider.input_value())
    assert 35 < t < 45 and len(alone.triggered("glimpse")) == before
    mouse.up()
    alone.page.wait_for_timeout(QUIET)
    asked = alone.triggered("glimpse")[before:]
    assert len(asked) == 1
    assert asked[0]["alpha_bar"] == process.curves("cosine", 50).alpha_bar[t]
    scene = glimpse.scene(asked[0])
    assert scene.name == "ankle boot" and scene.eps.shape == scene.picture.shape == (1, 28, 28)


def test_a_row_of_keys_is_one_question_and_a_widget_that_was_not_asked_asks_nothing(alone):
    alone.find(".fw-t").focus()
    alone.press(*["ArrowRight"] * 5)
    alone.page.wait_for_timeout(QUIET)
    assert alone.triggered("glimpse") == []
    alone.find(".fw-see").click()
    alone.find(".fw-t").focus()
    alone.press(*["ArrowRight"] * 5)
    alone.page.wait_for_timeout(QUIET)
    assert len(alone.triggered("glimpse")) == 2  # of the press, and of the keys


def test_an_answer_is_shown_until_the_screen_is_another_and_asks_for_nothing_more(alone):
    alone.find(".fw-see").click()
    alone.send(answer(alone.triggered("glimpse")[-1]["ticket"]))
    alone.page.wait_for_timeout(QUIET)
    seen = alone.find(".fw-seen")
    assert seen.get_attribute("data-state") == "fresh" and len(alone.triggered("glimpse")) == 1
    words = seen.inner_text()
    assert "t = 30" in words and "0.0421 in x0, unknown in the noise" in words
    assert "somebody/<b>model</b>" in words and "16 x 16 colour with noise of its own" in words
    assert all(alone.find("[data-seen] img").evaluate_all("all => all.map((i) => i.alt)"))
    alone.find(".fw-reroll").click()
    assert seen.get_attribute("data-state") == "old"
    alone.page.wait_for_timeout(QUIET)
    newest = alone.triggered("glimpse")[-1]["ticket"]
    alone.send(answer(newest - 1, t=11))  # a late one: not of what is on the screen
    assert seen.get_attribute("data-state") == "old"
    alone.send(answer(newest, t=12, same=True))
    assert seen.get_attribute("data-state") == "fresh"


def test_a_refusal_is_a_sentence_in_the_panel_with_no_old_picture_beside_it(alone):
    alone.find(".fw-see").click()
    alone.send(answer(alone.triggered("glimpse")[-1]["ticket"]))
    assert alone.find("[data-seen=x0_hat]").is_visible()
    alone.send({"glimpse": {"error": "the model is <i>gone</i>: open it again.", "nonce": "1"}})
    assert alone.find(".fw-seen-numbers").inner_text() == "the model is <i>gone</i>: open it again."
    assert alone.find(".fw-seen").get_attribute("data-state") == "error"
    alone.find(".fw-see").click()
    assert alone.find(".fw-seen").is_hidden()
    alone.send({"glimpse": {"error": "it is away: try again.", "nonce": "2"}})
    assert alone.find(".fw-message").inner_text() == "it is away: try again."


def test_another_model_s_schedule_comes_to_the_front_on_a_chain_of_its_length(alone):
    assert alone.find(".fw-xt + figcaption .fw-lead").inner_text() == "cosine"
    assert "the model" in alone.find(".fw-check[data-schedule=cosine]").inner_text()
    alone.send({"model": {"title": "other", "timesteps": 80, "schedule": "own"}})
    assert alone.triggered("rebuild") == [{"timesteps": 80}]
    curves = process.all_curves(80)
    alone.send({"curves": curves | {"own": curves["sigmoid"]}})
    assert alone.find(".fw-lead").inner_text() == "the model\u2019s"
    assert alone.find(".fw-card").count() == 4
    alone.send({"curves": process.all_curves(50)})  # a chain of another length again
    assert alone.find(".fw-lead").inner_text() == "linear" and alone.find(".fw-card").count() == 3
    alone.send({"model": {"title": "third", "timesteps": 4000, "schedule": None}})
    assert alone.triggered("rebuild") == [{"timesteps": 80}]  # too long to be drawn: nothing asked


# ---- the whole app ------------------------------------------------------------------------------
def sent_with(page, action) -> dict:
    """What the widget sends to the server in the call that `action` causes."""
    with page.expect_request(lambda r: "queue/join" in r.url and "eps" in r.post_data) as caught:
        action()
    return json.loads(caught.value.post_data)["event_data"]


def test_the_network_sees_the_x_t_on_the_screen_and_the_library_says_the_same(visit):
    page = open_tab(visit).page
    set_t(page, 450)
    asked = sent_with(page, lambda: page.click(".fw-see"))
    page.locator(".fw-seen[data-state=fresh]").wait_for()
    model = models.load()
    scene = glimpse.scene(asked)
    at = torch.tensor([450])
    x0 = model.normalize(torch.from_numpy(scene.picture))[None]
    xt = model.q_sample(x0, at, torch.from_numpy(scene.eps)[None])
    on_screen = pixels(page, ".fw-xt")[None, ..., 0] / 255
    assert np.abs(on_screen - model.unnormalize(xt)[0].clamp(0, 1).numpy()).max() < 0.6 / 255
    with torch.no_grad():
        said = model.predict(xt, at)
    shown_x0 = decoded(page.get_attribute("[data-seen=x0_hat] img", "src"))
    apart = shown_x0 - model.unnormalize(said.x0[0])
    assert apart.abs().max() < 0.5 / 255 + 1e-3
    numbers = page.inner_text(".fw-seen-numbers")
    mse = re.fullmatch(r"t = 450 \u00b7 mean squared error (\S+) in x0, \S+ in the noise", numbers)
    assert float(mse[1]) == pytest.approx((said.x0 - x0).square().mean().item(), rel=0.01)
    assert "exactly this noised picture at t = 450 of its 1000" in page.inner_text(".fw-seen-text")
    page.click(".fw-card[data-schedule=linear]")  # the same t of another schedule: more noise
    page.wait_for_function("document.querySelector('.fw-seen-text').innerText.includes('nearest')")
    level = shown(page)[2]
    t = int(page.inner_text(".fw-seen-t"))
    assert model.alpha_bar(t) == pytest.approx(level, abs=2e-3) and t > 450
    assert page.is_visible("[data-seen=x] img")  # not the one on the screen any more


def test_denoise_from_here_goes_to_sample_with_this_picture_and_this_t(visit):
    page = open_tab(visit).page
    set_t(page, 650)
    page.focus(".fw-denoise")
    page.keyboard.press("Enter")
    page.get_by_text("Begins at t = 650").wait_for()
    assert page.get_by_role("tab", name="Sample").get_attribute("aria-selected") == "true"
    assert page.get_by_text("ankle boot, noised in Forward").is_visible()


# ---- anybody may send anything ------------------------------------------------------------------
@pytest.fixture(scope="module")
def handlers(server) -> dict[str, int]:
    """The number of each event of the scrubber, by which anybody reaches its handler."""
    with urllib.request.urlopen(server.url + "/config") as reply:
        config = json.load(reply)
    [widget] = [
        c["id"] for c in config["components"] if c["props"].get("elem_id") == "forward-scrubber"
    ]
    return {
        event: row["id"]
        for row in config["dependencies"]
        for target, event in row["targets"]
        if target == widget
    }


def called(server, number: int, data: list, event_data: object) -> dict:
    """The answer to a request made by hand, from the queue."""
    session = f"bridge{np.random.default_rng().integers(10**12)}"
    body = {"data": data, "event_data": event_data, "fn_index": number, "session_hash": session}
    request = urllib.request.Request(
        server.url + "/gradio_api/queue/join",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()
    with urllib.request.urlopen(
        f"{server.url}/gradio_api/queue/data?session_hash={session}", timeout=60
    ) as stream:
        for line in stream:
            if line.startswith(b"data:") and b"process_completed" in line:
                return json.loads(line.removeprefix(b"data:"))
    raise AssertionError("the queue ended without an answer")


@pytest.mark.parametrize(
    "junk",
    [None, [], "x", {"timesteps": 10**12}, {"timesteps": [1]}, {**message(), "eps": "AAAA"}],
    ids=["nothing", "list", "text", "a chain too long", "a list for T", "too little noise"],
)
def test_handlers_answer_hostile_requests_with_a_sentence_and_no_traceback(server, handlers, junk):
    before = len(server.log())
    for event in ("rebuild", "glimpse", "denoise"):
        # the model that a request names is not believed: the session's own counts
        reply = called(server, handlers[event], ["opened:" + "0" * 32], junk)
        assert reply["success"], (event, reply)
        text = json.dumps(reply["output"])
        assert '"error": "' in text and "Traceback" not in text, (event, text)
    assert "Traceback" not in server.log()[before:]


def test_a_request_by_hand_meets_the_session_s_model_whatever_it_names(server, handlers):
    reply = called(server, handlers["glimpse"], ["job:" + "0" * 16], message())
    assert reply["output"]["data"][0]["glimpse"]["model"] == "the bundled model"


def test_a_start_is_kept_under_a_key_that_no_page_is_told(server, handlers):
    reply = called(server, handlers["denoise"], [None], message())
    _, key, tabs = reply["output"]["data"]
    assert key is None and tabs["selected"] == "sample"
    assert handoff.find(key) is None and handoff.find({"a": 1}) is None
