"""The Lab's tools with a board to paint on, in a real browser: From a sketch, Inpaint."""

import numpy as np
import pytest
import torch
from lab_board import PadTool, as_floats
from lab_page import same
from PIL import Image

import ddpm_hub
from ddpm_hub import images
from ddpm_hub.app.experiments import canvas
from ddpm_hub.app.experiments.edits import STRENGTHS, sketch_steps

SKETCH = ("sketch", "From a sketch")
INPAINT = ("inpaint", "Inpaint")
SWEATER = 3  # its number on the pad


@pytest.fixture(scope="module")
def bundled():
    return ddpm_hub.GaussianDiffusion.from_pretrained("bundled")


@pytest.fixture
def tool(visit):
    """`tool(*SKETCH, width=...)` opens that tool of the Lab."""
    return lambda name, title, **options: PadTool(visit(**options), name, title)


def floats(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).view(1, 1, 28, 28).float() / 255


def shown(picture: torch.Tensor) -> np.ndarray:
    """(C, H, W) in [0, 1] as the page shows it."""
    return images.to_uint8(picture[None])[0, ..., 0].astype(int)


# ---- from a sketch ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def sketched(opener):
    """A page on which two strokes were painted and drawn anew: 25 steps, seed 11."""
    visitor = opener()
    tool = PadTool(visitor, *SKETCH)
    tool.press("[data-size='4']")
    tool.stroke((8, 8), (20, 8), (18, 22), (10, 22), (9, 10))
    tool.press("[data-grey='128']")
    tool.stroke((12, 12), (16, 12), (16, 20), (12, 20))
    tool.choose("steps", 25)
    tool.seed(11)
    tool.run()
    yield tool
    assert visitor.problems == []
    visitor.context.close()


def test_strokes_are_pixels_of_the_model_in_the_chosen_grey(sketched):
    picture = sketched.picture()
    assert set(np.unique(picture)) == {0, 128, 255}  # no soft border, no resampling
    assert picture[8, 14] == 255 and picture[16, 16] == 128 and picture[2, 2] == 0


def test_the_first_column_is_the_sketch_exactly(sketched):
    for row in (0, 1):
        assert np.array_equal(sketched.pixels(row, 0), sketched.picture())


def test_each_column_is_the_library_s_img2img_of_the_sketch(sketched, bundled):
    picture, finals = floats(sketched.picture()), []
    for column, strength in enumerate(STRENGTHS, 1):
        options = {"sampler": "ddpm", "steps": sketch_steps(25, strength), "seed": 11}
        start = bundled.img2img_stream(picture, strength, **options).state()
        drawn = bundled.img2img(picture, strength, progress=False, **options)
        assert same(sketched.pixels(0, column), shown(bundled.unnormalize(start.x)[0]))
        assert sketched.source(1, column).startswith("data:image/png")
        assert same(sketched.pixels(1, column), shown(drawn[0]))
        finals.append(np.abs(shown(drawn[0]) - sketched.picture()).mean())
    assert finals[0] < finals[-1]  # the stronger, the further from the sketch
    heads = ["the sketch", *(f"strength {strength:g}" for strength in STRENGTHS)]
    assert sketched.texts("head") == heads


def test_under_each_column_are_its_t_and_network_calls(sketched):
    notes = sketched.notes()[1:]
    assert notes == [
        [f"t = {round(s * 1000) - 1}", f"{sketch_steps(25, s)} calls"] for s in STRENGTHS
    ]


def test_a_garment_to_start_from_then_undo_and_clear(tool):
    board = tool(*SKETCH)
    board.pick(SWEATER)
    sweater = shown(as_floats(canvas.garments()[SWEATER])[0])
    assert np.array_equal(board.picture(), sweater)
    assert board.page.locator("#sketch-pad .pd-undo").is_disabled()
    board.press("[data-grey='0']")
    board.stroke((4, 4), (24, 24))
    assert not np.array_equal(board.picture(), sweater)
    board.press(".pd-undo")
    assert np.array_equal(board.picture(), sweater)
    board.press(".pd-clear")
    assert not board.picture().any()


def test_the_board_can_be_painted_by_keys_alone(tool):
    board = tool(*SKETCH)
    board.press("[data-size='1']")
    board.page.locator("#sketch-pad .pd-board").focus()
    for key in ("ArrowRight", "Shift+ArrowUp", "Space", "ArrowDown", "Space"):
        board.page.keyboard.press(key)
    assert sorted(zip(*board.picture().nonzero(), strict=True)) == [(9, 15), (10, 15)]
    assert board.page.locator("#sketch-pad .pd-says").inner_text() == "column 16, row 11, painted"
    board.page.keyboard.press("Delete")
    assert list(zip(*board.picture().nonzero(), strict=True)) == [(9, 15)]


def test_an_empty_board_is_refused_in_one_sentence(tool):
    board = tool(*SKETCH)
    board.press_run()
    assert "the board is empty: paint something, or start from a garment" in board.refusal()


def test_a_picture_of_one_s_own_is_cropped_to_the_model_s_pixels_and_inverted(tool, tmp_path):
    board = tool(*SKETCH)
    y, x = np.mgrid[0:90, 0:160]
    photo = np.stack([x, 2 * y, 255 - x], axis=-1).astype(np.uint8)
    path = tmp_path / "garden <b>.png"
    Image.fromarray(photo).save(path)
    board.page.set_input_files("#sketch-pad .pd-file", path)
    board.page.locator("#sketch-pad .pd-own").wait_for()
    expected = shown(as_floats(canvas.uploaded(str(path)))[0])
    assert np.array_equal(board.picture(), expected)
    board.press(".pd-invert")
    assert np.array_equal(board.picture(), 255 - expected)


def test_a_broken_file_is_one_sentence_and_the_board_stays(tool, tmp_path):
    board = tool(*SKETCH)
    board.pick(SWEATER)
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    board.page.set_input_files("#sketch-pad .pd-file", path)
    message = board.page.locator("#sketch-pad .pd-message")
    message.wait_for()
    assert message.inner_text().endswith(".") and "\n" not in message.inner_text()
    board.choose("steps", 25)
    board.run()  # with the picture that was there before
    assert np.array_equal(board.pixels(0, 0), shown(as_floats(canvas.garments()[SWEATER])[0]))


# ---- inpaint ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def inpainted(opener):
    """A page on which the sweater's lower half and a stroke were redrawn: 25 steps, seed 11."""
    visitor = opener()
    tool = PadTool(visitor, *INPAINT)
    tool.pick(SWEATER)
    tool.press("[data-area='Lower half']")
    tool.stroke((4, 5), (10, 9))
    tool.press("[data-erase='1']")
    tool.stroke((24, 24), (26, 26))
    tool.choose("steps", 25)
    tool.choose("jump", 5)
    tool.choose("times", 2)
    tool.seed(11)
    tool.run()
    yield tool
    assert visitor.problems == []
    visitor.context.close()


def test_the_mask_is_what_was_painted_and_not_what_was_taken_back(inpainted):
    marked = inpainted.marked()
    assert marked[20, 14] and marked[7, 7] and not marked[25, 25] and not marked[2, 20]
    assert int(inpainted.page.locator("#inpaint-pad .ddpm-pad").get_attribute("data-marked")) == (
        marked.sum()
    )


def test_four_completions_are_the_library_s_inpaint_of_that_hole(inpainted, bundled):
    picture, keep = floats(inpainted.picture()), torch.from_numpy(~inpainted.marked())
    drawn = bundled.inpaint(
        picture.repeat(4, 1, 1, 1),
        keep,
        steps=25,
        jump_length=5,
        jump_n_sample=2,
        seed=11,
        progress=False,
    )
    for n in range(4):
        assert inpainted.source(0, 2 + n).startswith("data:image/png")
        assert same(inpainted.pixels(0, 2 + n), shown(drawn[n]))
    assert np.array_equal(inpainted.pixels(0, 0), inpainted.picture())


def test_the_known_region_comes_back_exactly_and_the_hole_does_not(inpainted):
    marked, original = inpainted.marked(), inpainted.picture()
    fills = [inpainted.pixels(0, 2 + n) for n in range(4)]
    for fill in fills:
        assert np.array_equal(fill[~marked], original[~marked])
        assert np.abs(fill[marked] - original[marked]).mean() > 5
    assert len({fill.tobytes() for fill in fills}) == 4
    hole = inpainted.pixels(0, 1)
    assert np.array_equal(hole[~marked], original[~marked])
    assert set(np.unique(hole[marked])) == {128}
    notes = [lines[0] for lines in inpainted.notes()]
    kept = f"{(~marked).sum()} pixels kept", f"{marked.sum()} to redraw"
    assert notes == [*kept, *["rest unchanged"] * 4]


def test_the_mask_stays_when_another_garment_is_chosen_and_goes_when_cleared(tool):
    board = tool(*INPAINT)
    board.press("[data-area='Right half']")
    before = board.marked()
    assert before[:, 14:].all() and not before[:, :14].any()
    board.pick(SWEATER)
    assert np.array_equal(board.marked(), before)
    board.press(".pd-clear")
    assert not board.marked().any()
    board.press(".pd-undo")
    assert np.array_equal(board.marked(), before)
    assert np.array_equal(board.picture(), shown(as_floats(canvas.garments()[SWEATER])[0]))


def test_a_picture_without_a_hole_is_refused_in_one_sentence(tool):
    board = tool(*INPAINT)
    board.press_run()
    assert "nothing is marked: paint over the part that shall be redrawn" in board.refusal()


def test_more_network_calls_than_a_visitor_may_have_are_refused(tool):
    board = tool(*INPAINT)
    board.press("[data-area=Middle]")
    board.choose("steps", 100)
    board.choose("times", 10)
    board.press_run()
    assert "1000 network calls, more than 600" in board.refusal()


def test_pictures_move_while_it_runs_and_stop_keeps_the_last(tool):
    board = tool(*INPAINT)
    board.press("[data-area=Middle]")
    board.choose("steps", 100)
    board.choose("times", 5)
    board.press_run()
    board.page.locator("#inpaint-strips img[data-column='5']:not([hidden])").wait_for()
    assert board.state == "running"
    assert board.status.startswith("network call ")
    board.page.locator("#inpaint-stop").click()
    board.page.locator("#inpaint-strips .ddpm-strips[data-state=stopped]").wait_for()
    board.page.locator("#inpaint-run:enabled").wait_for()
    assert board.pixels(0, 5).shape == (28, 28)


# ---- looks --------------------------------------------------------------------------------------
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("which", [SKETCH, INPAINT], ids=["sketch", "inpaint"])
def test_a_phone_paints_and_shows_all_without_horizontal_scroll(tool, which, dark):
    board = tool(*which, width=390, height=844, dark=dark, has_touch=True)
    page = board.page
    if which == INPAINT:
        board.press("[data-area=Middle]")
        board.choose("times", 1)
    board.stroke((6, 6), (22, 10), (10, 22))
    painted = board.marked() if which == INPAINT else board.picture() > 0
    assert painted.sum() > 40
    board.choose("steps", 25)
    board.run()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for selector in (".pd-board", ".pd-pick", ".pd-clear", ".st-cell", ".st-head"):
        for box in [node.bounding_box() for node in page.locator(f"{selector}:visible").all()]:
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390, selector
    assert min(box_size(page, f"#{board.name}-strips .st-cell")) >= 80  # one can see something
    button = page.locator(f"#{board.name}-run").bounding_box()
    result = board.strips.bounding_box()
    assert button["y"] < result["y"]  # Run stands between the board and what comes of it


def test_a_finger_paints_on_the_board_and_scrolls_beside_it(tool):
    board = tool(*SKETCH, width=390, height=844, has_touch=True)
    page = board.page
    page.locator("#sketch-pad .pd-board").scroll_into_view_if_needed()
    box, begun = page.locator("#sketch-pad .pd-board").bounding_box(), page.evaluate("scrollY")
    x = box["x"] + box["width"] / 2
    board.swipe((x, box["y"] + 0.8 * box["height"]), (x, box["y"] + 0.2 * box["height"]))
    assert board.picture()[7:22, 14].all()
    assert page.evaluate("scrollY") == begun
    board.swipe((x, box["y"] + box["height"] + 90), (x, box["y"] - 60))  # from the buttons up
    assert page.evaluate("scrollY") > begun + 100


def box_size(page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).first.bounding_box()
    return box["width"], box["height"]
