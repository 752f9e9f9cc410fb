"""The timeline's JavaScript without the app: messages in, panes, rows and events out.

In the room: what the server cannot see: which frame is shown, the branch's row, the third pane, who
is told of a finished run. What visitors do with it is in test_sample_tab.py.
"""

import base64
import io

import pytest
from PIL import Image

from ddpm_hub.app.widgets.timeline import TRAINING, timeline

HOSTILE = "<img src=x onerror=\"throw new Error('ran')\">"
LISTEN = """() => { window.heard = [];
  document.addEventListener('ddpm:run', (event) => heard.push(event.detail)); }"""
GREY = """selector => document.querySelector(selector).getContext('2d')
  .getImageData(0, 0, 1, 1).data[0]"""


def dot(grey: int) -> str:
    """A picture of one pixel of that red, as a data URI."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1), (grey, 0, 0)).save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def frame(index: int, **more) -> dict:
    known = {"index": index, "t": 90 - index, "steps_per_second": 2.0, "change": 0.1 * index}
    pictures = {"x0": dot(10 + index), "x": dot(110 + index), "eps": dot(210 + index)}
    return known | {"seed": 7} | pictures | more


def message(frames=(), run="a", state="running", total=10, **more) -> dict:
    meta = {"total": total, "batch": 1, "columns": 1, "seed": 7, "sampler": "unipc"}
    said = {"run": run, "state": state, "frames": [frame(i) for i in frames]}
    return said | {"meta": meta | more.pop("meta", {})} | more


def branch(frames=(), **more) -> dict:
    meta = {"turns": [[4, 99]], "noise_by": "ddim with eta 1"}
    return message(frames, **{"run": "b", "of": "a", "meta": meta} | more)


@pytest.fixture
def line(widget):
    """The timeline of Sample, without an example, listening for finished runs."""

    def missing(query):
        asked = query.get("missing")
        return message(asked, state="done") if asked else None

    made = widget(timeline(frames=missing, elem_id="timeline"), frames=missing)
    made.page.evaluate(LISTEN)
    return made


def scrub(line, index: int) -> None:
    line.find(".tl-range").fill(str(index))


def assert_shows(line, pane: str, grey: int) -> None:
    """A picture is decoded somewhat after its frame has come."""
    line.page.wait_for_function(
        f"([pane, grey]) => ({GREY})(pane) === grey", arg=[f"#timeline {pane} canvas", grey]
    )


def test_frames_that_come_twice_or_out_of_order_are_shown_once_and_at_their_place(line):
    line.send(message([0, 2]))
    line.send(message([2, 1]))
    assert line.data(".ddpm-tl")["have"] == "3"
    for index in (0, 1, 2):
        scrub(line, index)
        assert_shows(line, ".tl-x0", 10 + index)
        assert_shows(line, ".tl-xt", 110 + index)


def test_frames_that_were_lost_are_asked_for_at_the_end(line):
    line.send(message([0, 1, 4], total=5))
    line.send(message([], state="done", total=5, kept=[0, 1, 2, 3, 4]))
    line.page.wait_for_function("document.querySelector('.ddpm-tl').dataset.have === '5'")
    assert ("frames", [{"run": "a", "missing": [2, 3]}]) in line.calls


def test_a_paused_run_goes_on_but_what_comes_late_of_a_stopped_one_does_not(line):
    badge = line.find(".tl-badge")
    line.send(message([0, 1], state="paused"))
    assert badge.inner_text() == "Paused"
    assert "at step 2/10" in line.find(".tl-status").inner_text().replace("\u00a0", " ")
    line.send(message([2]))
    assert badge.inner_text() == "Running"
    line.send(message([], state="stopped"))
    line.send(message([3]))
    assert badge.inner_text() == "Stopped"


def test_a_run_that_is_brought_back_takes_the_place_of_an_example_that_is_still_drawn(line):
    line.send(message([0, 1], run="example", state="running"))
    line.send(message([0, 1, 2], run="old", state="done"))
    shown = line.data(".ddpm-tl")["run"], line.find(".tl-badge").inner_text()
    assert shown == ("old", "Finished")


def test_what_comes_late_of_the_run_before_does_not_take_the_place_of_the_next(line):
    line.send(message([0, 1]))
    line.send(message([], run="b", state="waiting"))
    line.send(message([2], state="stopped"))
    assert (line.data(".ddpm-tl")["run"], line.find(".tl-badge").inner_text()) == ("b", "Waiting")
    line.send(message([0], run="b", state="stopped"))
    line.send(message([0, 1, 2], state="stopped"))  # but a page may show an old one again
    assert line.data(".ddpm-tl")["run"] == "a" and line.data(".ddpm-tl")["have"] == "3"


def test_a_branch_is_a_second_row_that_scrubs_with_the_first(line):
    line.send(message(range(10), state="done", kept=list(range(10))))
    scrub(line, 3)
    line.find(".tl-fork").click()
    assert line.triggered("branch") == [{"run": "a", "index": 3}]
    line.send(branch(state="waiting"))
    line.send(branch(state="running") | {"frames": [frame(4, x0=dot(77)), frame(5, x0=dot(78))]})
    assert line.data(".ddpm-tl")["run"] == "a" and line.data(".ddpm-tl")["branch"] == "b"
    assert line.data(".ddpm-tl")["index"] == "5"  # what is new is followed
    for index, first, second in [(5, 15, 78), (4, 14, 77), (2, 12, 12), (9, 19, 78)]:
        scrub(line, index)
        assert_shows(line, ".tl-x0", first)
        assert_shows(line, ".tl-second .tl-x0", second)
    caption = line.find(".tl-caption").inner_text()
    assert "after frame 4 with the noise of seed 99, and by ddim with eta 1" in caption
    assert line.find(".tl-other").get_attribute("d").startswith("M")
    label = line.find(".tl-second .tl-x0 canvas").get_attribute("aria-label")
    assert label.startswith("Branch: Predicted x0, frame 10")
    line.send(message([], run="c", state="waiting"))
    assert line.find(".tl-second").is_hidden()


def test_nothing_is_branched_while_it_is_drawn_or_after_the_last_frame(line):
    fork = line.find(".tl-fork")
    assert fork.is_disabled()
    line.send(message([0, 1]))
    assert fork.is_disabled()
    line.send(message([], state="paused"))
    assert fork.is_enabled()
    line.send(message(range(2, 10), state="done"))
    assert fork.is_disabled() and "earlier frame" in fork.get_attribute("title")


def test_the_noise_is_a_third_pane_for_who_wants_it(line):
    line.send(message([0]))
    button, pane = line.find(".tl-noise"), line.find(".tl-eps canvas")
    assert pane.is_hidden()
    button.focus()
    line.press("Enter")
    assert pane.is_visible()
    assert_shows(line, ".tl-eps", 210)
    assert button.get_attribute("aria-pressed") == "true"
    line.press("Enter")
    assert pane.is_hidden()


def test_keys_show_one_image_of_the_batch_after_the_other_and_its_class(line):
    batch = {"batch": 2, "columns": 2}
    line.send(message([], meta=batch) | {"frames": [frame(0, labels=[4, 8])]})
    line.find(".tl-range").focus()
    where = line.find(".tl-where")
    for words in ("class 4", "class 8"):
        line.press("i")
        assert where.inner_text().endswith(words)
    line.press("i")
    assert "class" not in where.inner_text()


def test_the_page_hears_once_of_a_run_that_is_over_with_a_small_picture(line):
    line.send(message([0, 1], state="paused"))
    line.send(message([], state="stopped"))
    line.send(message([], state="stopped", message="again"))
    line.page.wait_for_function("heard.length > 0")
    line.send(message([0], run="example", state="done"))
    line.send(message([], run="empty", state="stopped"))
    line.page.wait_for_timeout(100)
    (detail,) = line.page.evaluate("heard")
    assert (detail["run"], detail["state"], detail["meta"]["sampler"]) == ("a", "stopped", "unipc")
    assert detail["thumbnail"].startswith("data:image/png;base64,")


def test_reset_empties_the_panes(line):
    line.send(message(range(10), state="done"))
    line.send({"run": "", "state": "idle", "frames": [], "meta": {}, "message": "Press Run"})
    assert line.find(".tl-status").inner_text() == "Press Run"
    assert line.find(".tl-range").is_disabled()
    assert_shows(line, ".tl-x0", 0)
    line.send(message([0], run="b"))
    assert_shows(line, ".tl-x0", 10)


def test_words_of_strangers_are_text(line):
    line.send(message([0], state="error", message=HOSTILE))
    assert line.find(".tl-status").inner_text() == HOSTILE
    line.send(message(range(10), run="c", state="done"))
    line.send(branch(of="c", meta={"turns": [[1, HOSTILE]], "noise_by": HOSTILE}))
    assert line.find("img").count() == 0


def test_a_training_has_no_branch_no_noise_and_goes_on_after_a_stop(widget):
    film = widget(timeline(TRAINING, elem_id="timeline"))
    film.page.evaluate(LISTEN)
    film.send(message([0, 1], state="stopped"))
    film.send(message([2]))
    assert film.data(".ddpm-tl")["have"] == "3"
    assert film.find(".tl-tools").is_hidden() and film.find(".tl-eps").count() == 0
    assert film.page.evaluate("heard") == []
