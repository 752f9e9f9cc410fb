"""A run as a link, in a picture, and back: the same settings, no keys, no way in for others."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import PngImagePlugin

from ddpm_hub import GaussianDiffusion, Unet, images
from ddpm_hub.app import engine, exports, handoff, limits, models, recall, runs
from ddpm_hub.errors import ConfigError, DataError, DDPMHubError, HubError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
JOB = "job:0123456789abcdef"
OPENED = "opened:0123456789abcdef0123456789abcdef"
CARD = {"timesteps": 400}


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    """A network of a few thousand weights stands in for the bundled one."""
    diffusion = GaussianDiffusion(
        Unet(dim=8, dim_mults=(1, 2), channels=1), image_size=8, timesteps=400
    )
    monkeypatch.setattr(models, "_models", models.OrderedDict({("bundled", None): diffusion}))
    monkeypatch.setattr(runs, "STORE", runs.Store())


def asked(model="bundled", sampler="ddim", eta=0.0, **more) -> limits.Request:
    return limits.request(model, sampler, 6, eta, 4, 3, **more)


def finished(request, **plan) -> runs.Run:
    run = runs.STORE.add(runs.Run(request, **plan))
    list(runs.stream(run))
    return run


def edited(run, **changes) -> bytes:
    """The run's picture by somebody who can write PNG chunks."""
    image = images.open_image(exports.picture(run))
    return images.save_png(image, exports.about(run) | changes)


def written(text: str) -> bytes:
    """A picture with that text in the place of the settings."""
    info = PngImagePlugin.PngInfo()
    info.add_text(images.PNG_KEY, text)
    stream = io.BytesIO()
    images.Image.new("L", (4, 4)).save(stream, "png", pnginfo=info)
    return stream.getvalue()


# ---- there and back -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "request_",
    [
        asked(),
        asked(eta=0.123456789),
        asked(f"alice/small@{COMMIT}", "ddpm", None, variance="fixed_large"),
        asked("alice/small", spacing="trailing", bounds="dynamic"),
        asked(classes=7, guidance=2.5),
        asked(classes="random"),
        asked(runtime="auto"),
    ],
)
def test_a_link_and_every_file_of_a_run_bring_back_exactly_its_settings(request_):
    link = recall.link(request_)
    assert recall.from_link(link) == request_
    run = finished(asked())
    run.plan = run.plan._replace(request=request_)  # the pictures are another's, the words count
    for format in exports.MIME:
        file = exports.export({"run": run.id, "format": format})
        assert recall.from_picture(base64.b64decode(file["data"])) == request_


def test_a_link_says_no_more_than_it_must():
    assert recall.link(asked()) == "?seed=3&sampler=ddim&steps=6&eta=0&n=4"
    usual = asked(spacing="linspace", bounds="clip", variance="fixed_small", runtime="eager")
    assert recall.link(usual) == recall.link(asked())
    named = recall.link(asked(f"alice/small@{COMMIT}"))
    assert named.startswith(f"?repo=alice/small&rev={COMMIT}&seed=3&")


def test_the_pixels_come_back_with_the_picture():
    run = finished(recall.complete(asked(sampler="dpmpp_2m_sde", eta=0.4), CARD))
    again = finished(recall.complete(recall.from_picture(exports.picture(run)), CARD))
    assert again.id != run.id
    assert exports.picture(again) == exports.picture(run)  # pixels, and what is said of them


def test_what_a_link_leaves_open_is_what_the_form_begins_with():
    request = recall.complete(recall.from_link("?repo=&seed=9&__theme=dark&view=api"), CARD)
    assert request[:6] == ("bundled", "unipc", 25, None, 4, 9)
    assert (request.spacing, request.bounds, request.variance) == ("linspace", "clip", None)
    assert request.runtime == "eager"
    assert recall.complete(recall.from_link("?sampler=dpmpp_2m_sde"), CARD).eta == 1.0
    assert recall.from_link("?n=1").seed != recall.from_link("?n=1").seed


# ---- what must not get out ----------------------------------------------------------------------
@pytest.mark.parametrize("model", [JOB, OPENED])
def test_the_key_of_a_training_or_a_private_model_is_in_no_link_no_words_and_no_file(model):
    run = finished(asked())
    run.plan = run.plan._replace(request=asked(model))
    known = recall.describe({"run": run.id})
    assert known["link"] == "" and "training" in known["why"]
    assert model not in json.dumps(known)
    for format in exports.MIME:
        data = base64.b64decode(exports.export({"run": run.id, "format": format})["data"])
        assert model.encode() not in data
        with pytest.raises(HubError, match="a training on this server, or private"):
            recall.from_picture(data)


@pytest.mark.parametrize("model", [JOB, OPENED, "/etc/passwd", "../x", "tests/app", "a/b/c", 7, []])
def test_neither_a_link_nor_a_picture_may_name_what_is_no_public_repository(model):
    with pytest.raises(HubError, match="use owner/name"):
        recall.from_picture(edited(finished(asked()), model=model))
    with pytest.raises(HubError, match="use owner/name"):
        recall.from_link(f"?repo={model}")


def test_a_run_that_began_midway_says_why_it_has_no_link():
    start = handoff.Start("bundled", np.zeros((1, 8, 8), np.float32), 200, "a secret picture")
    for plan in ({"start": start}, {"turns": (engine.Turn(2, 5),)}):
        run = finished(asked(sampler="ddpm", eta=None), **plan)
        known = recall.describe({"run": run.id})
        assert known["link"] == "" and "not in noise" in known["why"]
        assert known["facts"]["begins"] == "midway"
        with pytest.raises(DataError, match="not in noise"):
            recall.from_picture(exports.picture(run))


# ---- what comes from strangers ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("?seed=-1", r"seed '-1' is not a whole number"),
        ("?seed=" + "9" * 5000, "more than 1000 characters"),
        ("?seed=99999999999999999", "seed '99999999999999999' is not a whole number"),
        ("?seed=٣", "seed"),  # a digit, but none that we write
        ("?seed=1e3", "seed '1e3'"),
        ("?steps=0", "steps 0"),
        ("?n=17", "batch 17"),
        ("?eta=nan", "eta 'nan' is outside"),
        ("?eta=inf", "eta 'inf'"),
        ("?eta=7", r"eta 7.0 is outside \[0, 1\]"),
        ("?sampler=euler", "unknown sampler 'euler': choose one of ddpm"),
        ("?sampler=<script>alert(1)</script>", "unknown sampler"),
        ("?spacing=wide", "unknown spacing"),
        ("?bounds=no", "unknown bounds"),
        ("?variance=learned_range", "unknown variance"),
        ("?classes=-2", "classes"),
        ("?guidance=1000", "guidance 1000.0 is outside"),
        ("?runtime=compiled", "unknown runtime 'compiled': choose one of eager, auto"),
        ("?repo=alice/small&rev=../../x", "revision"),
        ("?repo=" + "a/" + "b" * 200, "use owner/name"),
        ("?" + "a=1&" * 200, "50 parts"),
        (None, "1000 characters"),
        ({"seed": 3}, "1000 characters"),
    ],
)
def test_a_bad_link_is_one_sentence(query, sentence):
    with pytest.raises(DDPMHubError, match=sentence) as caught:
        recall.from_link(query)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": "3"}, "seed '3'"),
        ({"seed": True}, "seed True"),
        ({"seed": 2**60}, "seed"),
        ({"steps": 2.5}, "steps 2.5"),
        ({"batch": None}, "how many images"),
        ({"batch": [1]}, "batch"),
        ({"eta": "much"}, "eta"),
        ({"eta": 1e300}, "eta"),
        ({"sampler": {"a": 1}}, "unknown sampler"),
        ({"spacing": 4}, "unknown spacing"),
        ({"classes": ["random"]}, "classes"),
        ({"model": None}, "use owner/name"),
    ],
)
def test_an_edited_picture_is_one_sentence(changes, sentence):
    with pytest.raises(DDPMHubError, match=sentence):
        recall.from_picture(edited(finished(asked()), **changes))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "not an image|corrupt"),
        (images.save_png(images.Image.new("L", (3000, 3000)), {"seed": 1}), "pixels"),
        (images.encode(images.Image.new("L", (4, 4)), "png"), "no settings of ours"),
        (written("{"), "not a JSON object"),
        (written("[" * 100_000), "not a JSON object"),
        (written('{"seed": ' + "9" * 6000 + "}"), "not a JSON object"),
        (written('{"model": "bundled", "seed": NaN, "batch": 4}'), "seed"),
        (written("[1, 2]"), "not a JSON object"),
        (
            written('{"model": "bundled", "batch": 4, "seed": "' + "x" * 2_000_000 + '"}'),
            "seed 'xx",
        ),
        (b"x" * (recall.MAX_PICTURE_BYTES + 1), "bytes, more than"),
    ],
)
def test_a_picture_from_elsewhere_is_one_sentence(data, sentence):
    with pytest.raises(DDPMHubError, match=sentence) as caught:
        recall.from_picture(data)
    assert len(str(caught.value)) < 300


def test_more_steps_than_the_model_has_are_refused_before_anything_is_drawn():
    with pytest.raises(ConfigError, match="steps 401 is more than the 400 of this model"):
        recall.complete(recall.from_link("?steps=401"), CARD)


# ---- what the browser asks ----------------------------------------------------------------------
def test_the_history_is_told_what_a_run_was_and_nothing_of_unknown_runs():
    run = finished(asked(eta=0.5))
    known = recall.describe({"run": run.id})
    assert known["link"] == recall.link(run.request) and known["why"] == ""
    wanted = {"model": "bundled", "sampler": "ddim", "steps": "6", "eta": "0.5", "seed": "3"}
    assert known["facts"] == wanted | {"images": "4"}
    for query in (None, {}, {"run": "0"}, {"run": [run.id]}, "text", 5):
        assert recall.describe(query) is None


def test_a_picture_is_read_for_the_browser_or_a_sentence_says_why_not():
    picture = exports.picture(finished(asked()))
    given = base64.b64encode(picture).decode()
    assert recall.read({"picture": given}) == {"link": recall.link(asked())}
    for broken in ("?" + given, "é" + given, given[:-1]):
        assert recall.read({"picture": broken})["error"].startswith("The picture did not arrive")
    for query in (None, {}, {"picture": 3}, {"picture": "A" * 9_000_000}, [given]):
        assert recall.read(query)["error"].startswith("A picture of at most 6,000,000 bytes")
    text = base64.b64encode(b"no picture").decode()
    assert recall.read({"picture": text})["error"].startswith("The upload is not an image")
