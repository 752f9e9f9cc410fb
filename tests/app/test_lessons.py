"""The lessons' words, equations and lines of code, without a browser."""

import ast
import html
import importlib
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support import random_diffusion

import ddpm_hub
from ddpm_hub import SAMPLERS, samplers
from ddpm_hub.app import limits, models
from ddpm_hub.app.excerpts import coloured, excerpt, pieces
from ddpm_hub.app.lessons import LESSONS
from ddpm_hub.app.mathml import equation, sign
from ddpm_hub.app.tabs.learn import FORM, setup
from ddpm_hub.app.widgets.walk import page
from ddpm_hub.errors import ConfigError

ROOT = Path(ddpm_hub.__file__).parents[1]
EXCERPTS = [part for lesson in LESSONS for part in lesson.code]
FORMULAS = [
    *(mathml for lesson in LESSONS for _, mathml in lesson.equations),
    *(mathml for lesson in LESSONS for mathml, _ in lesson.signs),
]
LINE = re.compile(r'<span class="wk-line" data-n="(\d+)">(.*?)\n</span>', re.S)
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.key)
each_excerpt = pytest.mark.parametrize("part", EXCERPTS, ids=lambda part: part.name)


def words(text: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", text))


# ---- words -----------------------------------------------------------------------------------
@each_lesson
def test_a_lesson_is_a_paragraph_of_60_to_110_words(lesson):
    assert 60 <= len(words(lesson.text).split()) <= 110


@each_lesson
def test_a_lesson_shows_about_ten_lines_and_explains_its_signs(lesson):
    assert 5 <= sum(len(part.lines) for part in lesson.code) <= 15
    assert len(lesson.signs) >= 3
    assert all(words(meaning) for _, meaning in lesson.signs)


# ---- code ------------------------------------------------------------------------------------
@each_excerpt
def test_the_lines_shown_are_those_of_the_file_and_lie_in_the_function_named(part):
    source = (ROOT / part.file).read_text().split("\n")
    assert [source[n - 1] for n, _ in part.lines] == [text for _, text in part.lines]
    node = ast.parse("\n".join(source))
    for name in part.name.split("."):
        (node,) = (child for child in node.body if getattr(child, "name", None) == name)
    assert node.lineno <= part.lines[0][0] <= part.lines[-1][0] <= node.end_lineno


def test_the_page_shows_exactly_these_lines_in_this_order():
    shown = [(int(n), words(text)) for n, text in LINE.findall(page(LESSONS))]
    expected = [line for part in EXCERPTS for line in part.lines]
    assert [n for n, _ in shown] == [n for n, _ in expected]
    assert [text.strip() for _, text in shown] == [text.strip() for _, text in expected]


def test_an_excerpt_is_read_anew_when_the_source_changes(tmp_path, monkeypatch):
    file = tmp_path / "lesson_source.py"
    file.write_text("def half(x):\n    y = x / 2\n    # two\n    return y\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("ddpm_hub.app.excerpts.ROOT", tmp_path)
    half = importlib.import_module("lesson_source").half
    part = excerpt(half, "y =", "return")
    assert part == ("lesson_source.py", "half", [(2, "    y = x / 2"), (4, "    return y")])
    assert list(pieces(part.lines)) == [[part.lines[0]], [part.lines[1]]]


def test_an_excerpt_of_lines_that_are_gone_is_refused():
    with pytest.raises(ConfigError, match="no line begins with 'x = old'"):
        excerpt(samplers.ddim, ("x = old", "yield"))


@pytest.mark.parametrize("file", sorted((ROOT / "ddpm_hub").glob("*.py")), ids=lambda f: f.name)
def test_colours_change_no_letter_of_the_code(file):
    text = file.read_text()
    assert words(coloured(text)) == text


def test_colours_tell_words_strings_numbers_and_comments_apart():
    shown = coloured('if x < 10:  # small\n    y = """one\ntwo"""')
    assert '<span class="wk-keyword">if</span> x &lt; <span class="wk-digits">10</span>' in shown
    assert '<span class="wk-comment"># small</span>' in shown
    assert '<span class="wk-string">"""one</span>\n<span class="wk-string">two"""</span>' in shown


# ---- equations -------------------------------------------------------------------------------
@pytest.mark.parametrize("mathml", FORMULAS)
def test_every_equation_is_well_formed_and_says_in_words_what_it_shows(mathml):
    tree = ElementTree.fromstring(mathml)
    assert tree.tag == "math"
    assert tree.get("alttext") == tree.get("aria-label")
    assert re.fullmatch(r"[A-Za-z][A-Za-z ,;]*", tree.get("alttext")), "to be read aloud"
    assert not set(words(mathml)) & set("{}\\_"), "TeX that was not understood"


def test_a_fraction_a_root_and_a_hat_become_their_elements():
    tree = ElementTree.fromstring(equation(r"\frac{1 - a_t}{\sqrt b} \hat c^2", "a fraction"))
    fraction, power = tree.find("mrow")
    assert fraction.tag == "mfrac"
    assert [[sign.tag for sign in part] for part in fraction] == [["mn", "mo", "msub"], ["msqrt"]]
    assert (power.tag, power[0].tag, power[1].text) == ("msup", "mover", "2")


def test_the_picture_and_the_state_have_the_colours_of_all_other_tabs():
    assert 'class="wk-x0"' in sign(r"\hat x_0", "x zero hat")
    assert 'class="wk-xt"' in sign("x_{t-1}", "x t minus one")
    assert "class" not in sign(r"\beta_t", "beta t")


# ---- what a lesson sets up -------------------------------------------------------------------
@each_lesson
def test_a_lesson_asks_sample_for_what_its_form_offers(lesson):
    if lesson.sample:
        assert lesson.sample["sampler"] in SAMPLERS
        assert lesson.sample["steps"] in limits.STEPS
        assert lesson.sample["batch"] in limits.BATCHES
        assert set(setup(lesson.key, "bundled")[1]) == set(FORM)


def test_a_short_chain_is_asked_for_no_more_steps_than_it_has():
    models.adopt("job:" + "a" * 16, random_diffusion(timesteps=20))
    tab, values = setup("way", "job:" + "a" * 16)
    assert tab == "sample"
    assert values["steps"] == 20
    assert values["start"] is None


@pytest.mark.parametrize("key", [None, 7, "", "noise ", ["noise"], {"lesson": "noise"}])
def test_what_is_no_lesson_is_refused(key):
    with pytest.raises(ConfigError, match="unknown lesson"):
        setup(key, "bundled")
