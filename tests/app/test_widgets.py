"""The widgets' JavaScript, one at a time, without the app: messages in, DOM and values out.

In the room: the training's curve, the chart with a cursor, the strips, the pad, the pair. The
timeline, the scrubber and the history have files of their own.
"""

import base64

import pytest

from ddpm_hub.app.widgets.curve import curve
from ddpm_hub.app.widgets.pad import pad
from ddpm_hub.app.widgets.pair import pair
from ddpm_hub.app.widgets.plot import plot
from ddpm_hub.app.widgets.strips import strips

HOSTILE = "<img src=x onerror=\"throw new Error('ran')\">"


def dot(grey: int) -> str:
    """A picture of one pixel, as a data URI; another grey is another URI."""
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1' fill='rgb({grey} 0 0)'/>"
    return "data:image/svg+xml;base64," + base64.b64encode(head.encode()).decode()


# ---- curve: the losses of a training ------------------------------------------------------------
def training(losses, start=0, **more) -> dict:
    known = {"run": "a", "state": "running", "message": "", "name": "tiny", "total": 100}
    known |= {"count": start + len(losses), "from": start, "losses": losses, "figures": {}}
    return known | more


@pytest.fixture
def chart(widget):
    return widget(curve(elem_id="curve"))


def test_losses_that_come_twice_or_too_late_are_counted_once(chart):
    chart.send(training([1.0, 0.5]))
    chart.send(training([0.5, 0.25], start=1))  # the second again
    assert chart.data(".ddpm-curve")["count"] == "3"
    chart.send(training([0.25, 0.2], start=2))
    chart.send(training([9.0], start=7))  # those between were lost
    assert chart.data(".ddpm-curve")["count"] == "4"
    assert chart.texts("[data-figure=step]") == ["4\u00a0of\u00a0100"]


def test_a_loss_that_is_not_a_number_leaves_a_gap_and_no_nan(chart):
    chart.send(training([1.0, None, 0.5]))
    path = chart.find(".cv-raw").get_attribute("d")
    assert path.count("M") == 2 and "NaN" not in path
    assert "NaN" not in chart.find(".cv-smooth").get_attribute("d")


def test_the_curve_is_read_with_keys_and_says_what_it_shows(chart):
    chart.send(training([1.0, 0.5, 0.25]))
    plot_ = chart.find(".cv-plot")
    plot_.focus()
    chart.press("Home")
    assert plot_.get_attribute("aria-valuetext").startswith("step 1, loss 1,")
    chart.press("ArrowRight")
    assert plot_.get_attribute("aria-valuenow") == "2"
    chart.press("Escape")
    assert plot_.get_attribute("aria-valuetext").startswith("step 3, loss 0.25")


def test_another_training_clears_the_chart_and_its_words_stay_words(chart):
    chart.send(training([1.0, 0.5]))
    chart.send(training([2.0], run="b", state="error", name=HOSTILE, message="it failed"))
    assert chart.data(".ddpm-curve")["count"] == "1"
    assert chart.texts(".cv-status") == [f"{HOSTILE} · it failed"]
    assert chart.find("img").count() == 0
    assert chart.find(".cv-says").text_content() == "Problem. it failed"


# ---- plot: a chart with a cursor and pictures ---------------------------------------------------
PLOT = {
    "label": "Loss by t",
    "idle": "Press Run.",
    "start": 0.5,
    "charts": [
        {
            "title": "Error",
            "kind": "line",
            "x": {"key": "t", "label": "t"},
            "y": {"label": "error", "log": True},
            "series": [{"key": "loss", "name": "loss", "colour": "xt"}],
        }
    ],
    "panes": [{"key": "x0", "caption": "x0", "label": "what it believes", "colour": "x0"}],
}


def points(*indices, **more) -> list[dict]:
    return [
        {
            "index": i,
            "text": f"t = {10 * i}",
            "values": {"t": 10 * i, "loss": 0.5**i},
            "pictures": {"x0": dot(i)},
        }
        | more
        for i in indices
    ]


@pytest.fixture
def board(widget):
    return widget(plot(PLOT, elem_id="plot"))


def test_the_cursor_follows_a_run_and_then_rests_where_the_tool_begins(board):
    board.send({"run": "a", "state": "running", "points": points(0, 1, 2, 3)})
    assert board.data(".ddpm-plot")["index"] == "3"
    board.send({"run": "a", "state": "done", "points": points(4)})
    assert board.data(".ddpm-plot")["index"] == "2"
    picture = board.find("[data-pane=x0] img")
    assert picture.get_attribute("src") == dot(2)
    assert picture.get_attribute("alt") == "what it believes; t = 20"


def test_a_cursor_that_somebody_moved_stays_and_asks_nobody(board):
    board.send({"run": "a", "state": "running", "points": points(0, 1, 2, 3)})
    slider = board.find(".pl-plot")
    slider.focus()
    board.press("Home", "ArrowRight")
    board.send({"run": "a", "state": "done", "points": points(4)})
    assert slider.get_attribute("aria-valuetext") == "t = 10"
    assert board.find("[data-pane=x0] img").get_attribute("src") == dot(1)
    assert board.calls == [] and board.triggered() == []


def test_points_that_come_again_without_pictures_keep_theirs(board):
    board.send({"run": "a", "state": "running", "points": points(0, 1)})
    board.send({"run": "a", "state": "running", "points": points(1, text="again", pictures=None)})
    assert board.texts(".pl-text") == ["again"]
    assert board.find("[data-pane=x0] img").get_attribute("src") == dot(1)


def test_a_logarithmic_axis_bears_zero_and_what_is_not_a_number(board):
    odd = points(0, 1, 2, 3)
    for point, value in zip(odd, (0, None, 1e-30, 1.0), strict=True):
        point["values"]["loss"] = value
    board.send({"run": "a", "state": "done", "points": odd})
    for log in ("true", "false"):
        assert board.find(".pl-log").get_attribute("aria-pressed") == log
        drawn = board.find(".pl-marks").inner_html() + board.find(".pl-grid").inner_html()
        assert "NaN" not in drawn and "Infinity" not in drawn
        board.find(".pl-log").click()


# ---- strips: rows and columns of pictures -------------------------------------------------------
def grid(state="running", **more) -> dict:
    columns = [{"label": "ddpm", "total": 5}, {"label": "ddim", "total": 3}]
    return {"run": "a", "state": state, "rows": [{"label": "x0"}], "columns": columns} | more


def frame(column, index) -> dict:
    return {"row": 0, "column": column, "index": index, "src": dot(10 * column + index), "t": index}


def shown(panes) -> list[str]:
    return panes.find("img").evaluate_all("(all) => all.map((image) => image.src)")


@pytest.fixture
def panes(widget):
    return widget(strips(label="Two samplers", idle="Press Run.", scrubber=True, elem_id="strips"))


def test_one_slider_moves_columns_of_different_length_together(panes):
    every = [frame(c, i) for c, n in ((0, 5), (1, 3)) for i in range(n)]
    panes.send(grid("done", pictures=every, complete=True))
    panes.find(".st-range").focus()
    panes.press("Home")
    assert shown(panes) == [dot(0), dot(10)]
    panes.press("ArrowRight", "ArrowRight")
    assert shown(panes) == [dot(2), dot(11)], "half of the way is half of the way in both"
    assert panes.find(".st-range").get_attribute("aria-valuetext") == "step 3 of 5, t 2"


def test_a_frame_that_comes_after_stop_does_not_start_the_run_again(panes):
    panes.send(grid(pictures=[frame(0, 0)]))
    panes.send(grid("stopped", message="Stopped."))
    panes.send(grid(pictures=[frame(0, 1)]))
    assert panes.data(".ddpm-strips")["state"] == "stopped"
    assert panes.texts(".st-status") == ["Stopped."]
    panes.send(grid(run="b", message="on it"))
    assert panes.data(".ddpm-strips")["state"] == "running"


def test_names_and_notes_of_columns_stay_words(panes):
    panes.send(grid(columns=[{"label": HOSTILE, "notes": [HOSTILE]}], pictures=[frame(0, 0)]))
    assert panes.texts(".st-head span") == panes.texts(".st-note span") == [HOSTILE]
    assert panes.find("img").count() == 1
    assert panes.find("img").get_attribute("alt") == f"x0, {HOSTILE}"


# ---- pad: a board of the model's pixels ---------------------------------------------------------
def board_of(mode: str):
    """4 x 4 grey pixels; the one picture to start from is white."""
    size = {"width": 4, "height": 4, "channels": 1}
    white = {"name": "white", "data": base64.b64encode(b"\xff" * 16).decode(), **size}
    setup = {"mode": mode, "label": "Sketch", "garments": [white], "upload": "none", **size}
    return pad(setup, elem_id="pad")


def painted(page, name="picture") -> bytes:
    return base64.b64decode(page.value()[name])


def test_a_picture_is_painted_and_taken_back_by_keys_alone(widget):
    page = widget(board_of("sketch"))
    page.find("[data-size='1']").click()
    page.find(".pd-board").focus()
    page.press(" ", "ArrowRight", " ")
    assert [i for i, grey in enumerate(painted(page)) if grey] == [10, 11]
    assert page.find(".pd-says").text_content() == "column 4, row 3, painted"
    page.find(".pd-undo").click()
    assert [i for i, grey in enumerate(painted(page)) if grey] == [10]


def test_a_mask_is_marked_by_areas_and_leaves_the_picture_alone(widget):
    page = widget(board_of("mask"))
    page.find("[data-area='Lower half']").click()
    assert painted(page, "mask") == b"\x00" * 8 + b"\xff" * 8
    assert painted(page) == b"\xff" * 16
    page.find(".pd-clear").click()
    assert painted(page, "mask") == b"\x00" * 16


def test_a_picture_from_the_server_is_chosen_and_a_refusal_is_said(widget):
    page = widget(board_of("sketch"))
    grey = {"name": "own", "width": 4, "height": 4, "channels": 1}
    page.send({"image": grey | {"data": base64.b64encode(b"\x07" * 16).decode()}})
    assert painted(page) == b"\x07" * 16
    page.find(".pd-invert").click()
    assert painted(page) == b"\xf8" * 16
    page.send({"error": f"{HOSTILE} is no picture.", "nonce": 1})
    assert page.texts(".pd-message") == [f"{HOSTILE} is no picture."]
    assert painted(page) == b"\xf8" * 16, "a refusal takes nothing away"


# ---- pair: two pictures -------------------------------------------------------------------------
def test_both_sides_of_a_pair_are_chosen_with_arrow_keys_and_keep_apart(widget):
    items = [{"index": i, "name": f"garment {i}", "src": dot(i)} for i in (3, 5, 8)]
    page = widget(pair(items, {"pair": [3, 8], "extra": []}, elem_id="pair"))
    page.find("fieldset[data-side='0'] input:checked").focus()
    page.press("ArrowRight")
    assert page.value()["pair"] == [5, 8]
    assert page.texts("legend b") == ["garment 5", "garment 8"]
    own = {"index": 40, "name": HOSTILE, "src": dot(40)}
    page.send({"pair": [40, 8], "extra": [own, None]})
    assert page.texts("legend b")[0] == HOSTILE
    assert page.find("fieldset[data-side='0'] input").count() == 4
    assert page.find("fieldset[data-side='1'] input").count() == 3
