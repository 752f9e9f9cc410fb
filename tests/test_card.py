"""The model card: what it says of a run, that strangers' words stay words, and the loss curve.

Over 300 lines: one report, spoilt in many ways, is what all of them read.
"""

import io
import json
import math
import re
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.utils import get_session
from local_hub import LocalHub
from PIL import Image
from victim import CONFIG, images, model

from ddpm_hub import card, train
from ddpm_hub.card import facts
from ddpm_hub.card.curve import curve_png, decades, ticks
from ddpm_hub.config import TrainConfig
from ddpm_hub.errors import ConfigError
from ddpm_hub.hub.sources import BUNDLED

CONFIG_JSON = {
    "_class_name": "GaussianDiffusion",
    "format_version": 1,
    "diffusion": {"image_size": [32, 48], "timesteps": 1000, "objective": "pred_v"},
    "unet": {"_class_name": "Unet", "dim": 64, "channels": 3},
}
REPORT = {
    "ddpm_hub_version": "0.1.0",
    "torch_version": "2.13.0",
    "device": "cuda, NVIDIA H100",
    "step": 7000,
    "images_seen": 224000,
    "seconds": 4290.0,
    "loss": 0.9,
    "data": {"name": "hub:alice/cats", "images": 60000},
    "config": {
        "train_batch_size": 32,
        "gradient_accumulate_every": 2,
        "train_lr": 0.001,
        "lr_warmup_steps": 200,
        "lr_schedule": "cosine",
        "ema_decay": 0.999,
        "ema_update_every": 10,
    },
    "curve": {"step": [10 * i for i in range(1, 101)], "loss": [1 / i for i in range(1, 101)]},
}
QUALITY = {
    "metric": "FID",
    "value": 12.34567,
    "sampler": "ddim",
    "steps": 50,
    "samples": 50000,
    "seed": 0,
    "options": {},
    "eta": None,
    "reference": "cats",
    "reference_images": 60000,
}
BITS = {
    "total": 3.21,
    "error": 0.01,
    "LT": 0.1,
    "Lt": 3.0,
    "L0": 0.11,
    "steps": 1000,
    "data": "cats",
}
HOSTILE = '"]\n---\nlicense: mit\n---\n# x <img src=x onerror=alert(1)> [a](javascript:b) `|` https://e.vil'


def data_of(text):
    """The front matter, read by PyYAML and not by the client."""
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.S)[1])


def evaluated():
    return REPORT | {"evaluation": {"quality": QUALITY, "bits_per_dim": BITS, "loss_by_t": {}}}


def test_the_front_matter_has_what_the_hub_sorts_models_by():
    text = card.render(CONFIG_JSON, report=REPORT, repo_id="alice/cats-ddpm")
    data = data_of(text)
    assert data["license"] == "apache-2.0"
    assert data["library_name"] == "ddpm_hub"
    assert data["pipeline_tag"] == "unconditional-image-generation"
    assert data["tags"] == ["ddpm", "diffusion", "pytorch"]
    assert data["datasets"] == ["alice/cats"]
    assert "widget" not in data and "model-index" not in data and "model_name" not in data
    assert ModelCard(text).data.to_dict() == data


def test_the_bundled_images_are_named_as_what_they_are():
    data = {"name": "bundled", "images": 12000}
    text = card.render(CONFIG_JSON, report={"data": data})
    assert data_of(text)["datasets"] == ["zalando-datasets/fashion_mnist"]
    assert "12,000 images of [zalando-datasets/fashion_mnist](https://huggingface.co/" in text


def test_the_training_table_has_the_runs_own_numbers_and_no_row_without_one():
    text = card.render(CONFIG_JSON, report=REPORT)
    rows = dict(re.findall(r"^\| ([^|]+) \| `([^|]+)` \|$", text, re.M))
    assert rows == {
        "Steps": "7,000",
        "Batch": "32 x 2 network calls",
        "Images seen": "224,000",
        "Learning rate": "0.001, Adam, cosine, 200 steps of warm-up",
        "EMA": "decay 0.999, every 10 steps; these weights are the average",
        "Hardware": "cuda, NVIDIA H100",
        "Time": "1 h 12 min",
        "Loss at the end": f"{sum(1 / i for i in range(96, 101)) / 5:.4g}",
        "Made with": "ddpm_hub 0.1.0, torch 2.13.0",
    }


def test_without_a_report_no_training_is_invented():
    text = card.render(CONFIG_JSON)
    assert "## Training" not in text and "## Evaluation" not in text
    assert "How it was trained is not recorded" in text and "datasets" not in data_of(text)


def test_the_opening_says_what_is_drawn_and_how():
    text = card.render(CONFIG_JSON, repo_id="alice/cats-ddpm")
    assert "# cats-ddpm\n" in text and "colour images of `32 x 48` pixels" in text
    assert "T `1000`, objective `pred_v`, network `Unet`." in text


def test_the_usage_opens_this_very_repo_and_runs():
    text = card.render(json.loads((BUNDLED / "config.json").read_text()), repo_id="alice/cats")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert program.count("\n") <= 5 and '"alice/cats"' in program
    found = {}
    exec(program.replace("alice/cats", str(BUNDLED)).replace("steps=20", "steps=1"), found)
    assert len(found["images"]) == 4 and found["images"][0].size == (28, 28)


def test_the_usage_keeps_to_short_chains_to_classes_and_to_networks_alone():
    net = CONFIG_JSON["unet"] | {"num_classes": 10}
    short = CONFIG_JSON["diffusion"] | {"timesteps": 8}
    text = card.render(CONFIG_JSON | {"unet": net, "diffusion": short})
    assert "steps=8, seed=0, classes=0" in text
    alone = {"_class_name": "UNet2D", "format_version": 1, "unet": {"_class_name": "UNet2D"}}
    assert 'UNet2D.from_pretrained("user/repo")' in card.render(alone)


def test_diffusers_users_are_told_theirs_if_the_repo_opens_there():
    text = card.render(CONFIG_JSON, repo_id="alice/cats", diffusers=True)
    assert 'DDPMPipeline.from_pretrained("alice/cats")' in text
    assert "diffusers" in data_of(text)["tags"]
    assert "DDPMPipeline" not in card.render(CONFIG_JSON)


def test_a_sample_grid_is_the_widget_and_a_curve_is_shown_only_if_they_are_there():
    text = card.render(CONFIG_JSON, report=REPORT, samples=True, curve=True)
    (widget,) = data_of(text)["widget"]
    assert widget["output"] == {"url": "samples.png"} and widget["text"]
    assert "\n<Gallery />\n" in text and "](loss.png)" in text
    plain = card.render(CONFIG_JSON, report=REPORT)
    assert "Gallery" not in plain and "loss.png" not in plain


def test_figures_stand_in_the_model_index_with_their_protocol_and_in_the_text():
    text = card.render(CONFIG_JSON, report=evaluated(), repo_id="alice/cats")
    ((entry),) = data_of(text)["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == "cats" and result["dataset"]["type"] == "alice/cats"
    fid, bits = result["metrics"]
    assert (fid["type"], fid["value"], bits["type"], bits["value"]) == (
        "fid", 12.3457, "bits_per_dim", 3.21,
    )  # fmt: skip
    assert fid["args"] == {
        "sampler": "ddim", "steps": 50, "samples": 50000, "seed": 0,
        "reference": "cats", "reference_images": 60000,
    }  # fmt: skip
    assert re.search(
        r"^\| `FID` \| 12.35 \| `sampler` `ddim`, `steps` `50`.*60000` \|$", text, re.M
    )
    assert ModelCard(text).data.eval_results[0].metric_value == 12.3457


@pytest.mark.parametrize("value", [math.nan, math.inf, "12", None, True, [1]])
def test_a_figure_that_is_no_number_is_left_out(value):
    report = REPORT | {"evaluation": {"quality": QUALITY | {"value": value}}}
    assert "model-index" not in data_of(card.render(CONFIG_JSON, report=report))


@pytest.mark.parametrize(("count", "warned"), [(40, True), (4999, True), (5000, False)])
def test_a_small_set_is_said_to_be_memorised_with_its_size(count, warned):
    text = card.render(CONFIG_JSON, report={"data": {"name": "cats", "images": count}})
    assert (f"on {count:,} images only" in text and "memorise" in text) is warned


def test_the_paper_is_cited_and_the_arxiv_link_makes_its_tag():
    text = card.render(CONFIG_JSON)
    assert "@inproceedings{ho2020denoising," in text and "https://arxiv.org/abs/2006.11239" in text


def hostile_reports():
    yield REPORT | {"data": {"name": HOSTILE, "images": HOSTILE}}
    yield REPORT | {"data": {"name": "hub:" + HOSTILE, "images": 3}}
    yield REPORT | {"device": HOSTILE, "step": HOSTILE, "seconds": HOSTILE, "curve": HOSTILE}
    yield REPORT | {"config": dict.fromkeys(REPORT["config"], HOSTILE) | {"seed": HOSTILE}}
    yield REPORT | {"evaluation": {"quality": QUALITY | {"metric": HOSTILE, "reference": HOSTILE}}}
    yield REPORT | {"evaluation": {"quality": QUALITY | {HOSTILE: HOSTILE}}}
    yield REPORT | {"evaluation": {"quality": QUALITY | {"sampler": {"a": [HOSTILE]}}}}
    yield REPORT | {"ddpm_hub_version": HOSTILE, "torch_version": [HOSTILE]}
    yield {key: [] for key in REPORT}
    yield dict.fromkeys(REPORT, 10**5000)
    yield {"data": "x", "config": 3, "evaluation": [1], "curve": {"loss": [None, "x"]}}


def outside_code(text):
    """The card's body without what stands in code, fenced or not."""
    body = text.split("\n---\n", 1)[1]
    body = re.sub(r"^```.*?^```", "", body, flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", "", body)


@pytest.mark.parametrize("report", [*hostile_reports()], ids=range(11))
def test_other_peoples_words_are_neither_yaml_nor_html_nor_links(report):
    text = card.render(CONFIG_JSON, report=report, samples=True)
    data = data_of(text)
    assert data["license"] == "apache-2.0" and data.keys() <= {
        *("license", "library_name", "pipeline_tag", "tags", "datasets", "widget", "model-index"),
    }
    bare = outside_code(text)
    for word in ("onerror", "javascript", "e.vil", "license: mit"):
        assert word not in bare
    assert set(re.findall(r"<[^>]+>", bare)) == {"<Gallery />"} | set(
        re.findall(r"<!--.*?-->", bare)
    )


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"diffusion": [], "unet": 3},
        {"diffusion": {"image_size": [HOSTILE, 3], "timesteps": HOSTILE, "objective": HOSTILE}},
        {"diffusion": {"image_size": HOSTILE}, "unet": {"_class_name": HOSTILE, "channels": [3]}},
        {"unet": {"_class_name": HOSTILE, "num_classes": HOSTILE}, "_class_name": HOSTILE},
    ],
    ids=range(5),
)
def test_a_strangers_config_is_only_words_too(config):
    bare = outside_code(card.render(config))
    for word in ("onerror", "javascript", "e.vil", "license: mit"):
        assert word not in bare


@pytest.mark.parametrize("name", ["a/b/c", "../x", "a b", 'x"\nimport os', "ä/b", "", "a" * 200])
def test_a_name_that_is_no_repos_is_refused(name):
    with pytest.raises(ConfigError, match="is no name of a repo: use user/name"):
        card.render(CONFIG_JSON, repo_id=name)


@pytest.mark.parametrize("licence", ["mit", 'x"\nlicense: mit', "a: b", "[", "- x", "null"])
def test_any_licence_is_one_string_in_the_front_matter(licence):
    found = data_of(card.render(CONFIG_JSON, license=licence))["license"]
    assert found == " ".join(licence.split())


def test_a_generated_card_is_known_until_somebody_changes_a_letter():
    text = card.render(CONFIG_JSON, report=evaluated(), samples=True)
    assert card.is_generated(text)
    assert card.is_generated(text.replace("\n", "\r\n"))  # git on Windows
    assert card.is_generated(text.rstrip())
    assert not card.is_generated(text.replace("colour", "color"))
    assert not card.is_generated(text.replace("apache-2.0", "mit"))
    assert not card.is_generated("My words.\n" + text)
    assert not card.is_generated(text + "My words.\n")
    for other in ("", "# My own\n", "---\nlicense: mit\n---\n"):
        assert not card.is_generated(other)


def test_the_hub_finds_nothing_wrong_with_it():
    text = card.render(CONFIG_JSON, report=evaluated(), repo_id="alice/cats", samples=True)
    with LocalHub() as server:
        told = {"repoType": "model", "content": text}
        answer = get_session().post(f"{server.url}/api/validate-yaml", json=told)
    assert answer.status_code == 200 and answer.json() == {"errors": [], "warnings": []}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A results folder of 6 steps."""
    folder = tmp_path_factory.mktemp("run") / "results"
    plan = vars(CONFIG) | {"results_folder": str(folder), "train_num_steps": 6, "push_to_hub": None}
    list(train(model(), images(), TrainConfig(**plan)))
    return folder


@pytest.mark.filterwarnings("ignore:40 images are few")
def test_a_training_leaves_a_card_of_itself_and_a_picture_of_its_loss(run):
    text = (run / "README.md").read_text(encoding="utf-8")
    assert text == card.of_folder(run) and card.is_generated(text)
    assert "| Steps | `6` |" in text and "on 40 images only" in text
    assert "<Gallery />" in text and "](loss.png)" in text
    assert Image.open(run / "loss.png").size == (640, 280)
    report = facts.read_facts(run)
    assert report["data"] == {"name": "array", "images": 40}


def test_a_card_that_somebody_edited_outlives_the_rest_of_the_training(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "results")
    mine = (folder / "README.md").read_text().replace("# A denoising", "# My denoising")
    (folder / "README.md").write_text(mine)
    plan = {"results_folder": str(folder), "train_num_steps": 9, "resume": "auto"}
    with pytest.warns(UserWarning, match="40 images are few"):
        list(train(model(), images(), TrainConfig(**vars(CONFIG) | plan | {"push_to_hub": None})))
    assert facts.read_facts(folder)["step"] == 9
    assert (folder / "README.md").read_text() == mine


def test_the_card_of_a_folder_takes_in_what_eval_wrote_there(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "results")
    (folder / "evaluation.json").write_text(json.dumps({"quality": QUALITY}))
    assert "| `FID` | 12.35 |" in card.of_folder(folder)
    for broken in ("", "[1]", "[" * 100_000, "{", '{"quality": NaN}'):
        (folder / "evaluation.json").write_text(broken)
        assert "FID" not in card.of_folder(folder)


def test_figures_of_earlier_weights_are_set_aside_when_the_training_goes_on(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "results")
    (folder / "evaluation.json").write_text(json.dumps({"quality": QUALITY}))
    plan = vars(CONFIG) | {"results_folder": str(folder), "resume": "auto", "push_to_hub": None}
    for steps, stays in ((6, True), (9, False)):
        with pytest.warns(UserWarning, match="40 images are few"):
            list(train(model(), images(), TrainConfig(**plan | {"train_num_steps": steps})))
        assert (folder / "evaluation.json").exists() == stays
    assert "FID" not in (folder / "README.md").read_text()
    assert json.loads((folder / "evaluation.old.json").read_text()) == {"quality": QUALITY}


def picture(losses, **more):
    curve = {"step": list(range(1, len(losses) + 1)), "loss": losses} | more
    return curve_png({"curve": curve})


def test_the_curve_is_a_small_transparent_picture_with_ink_that_both_grounds_show():
    data = picture([1 / i for i in range(1, 501)])
    image = Image.open(io.BytesIO(data))
    assert image.size == (640, 280) and image.mode == "RGBA" and len(data) < 60_000
    assert image.getpixel((638, 2))[3] == 0
    seen = {pixel[:3] for _, pixel in image.getcolors(1 << 20) if pixel[3] > 200}
    assert seen
    for ground in (255, 13):  # white, and the Hub's dark
        assert all(abs(sum(colour) / 3 - ground) > 60 for colour in seen)


def test_the_curve_falls_where_the_loss_does_evenly_on_a_logarithmic_axis():
    image = Image.open(io.BytesIO(picture([math.exp(-i / 25) for i in range(100)])))

    def height(x):
        strong = [
            y
            for y in range(35, 236)
            if image.getpixel((x, y))[2] > 200 and image.getpixel((x, y))[3] > 150
        ]
        return sum(strong) / len(strong)

    left, middle, right = height(200), height(350), height(500)
    assert middle - left == pytest.approx(right - middle, abs=3) and right > left + 50


@pytest.mark.parametrize(
    "curve",
    [None, 3, {}, {"step": [1], "loss": [2.0]}, {"step": "12", "loss": "34"}]
    + [
        {"step": [1, 2], "loss": bad}
        for bad in ([0, -1], [math.nan] * 2, [10**400, "x"], [True] * 2)
    ],
    ids=range(9),
)
def test_a_curve_of_less_than_two_sound_points_is_no_picture(curve):
    assert curve_png({"curve": curve}) is None


def test_points_out_of_order_or_of_absurd_size_still_make_a_picture():
    for losses, steps in (([1.0, 0.5], [2, 1]), ([1e-11, 1e11], [1, 10**11]), ([1.0, 1.0], [1, 1])):
        assert curve_png({"curve": {"step": steps, "loss": losses}})


@pytest.mark.parametrize(("low", "high"), [(0.03, 1.1), (0.5, 0.6), (1e-5, 1e4), (0.99, 1.01)])
def test_the_axis_has_a_few_round_values_between_its_ends(low, high):
    found = decades(low, high)
    assert 2 <= len(found) <= 12 and all(low <= value <= high for value in found)


@pytest.mark.parametrize("last", [1, 7, 60, 350, 7000, 800_000, 10**11])
def test_steps_are_told_at_round_distances(last):
    found = ticks(last)
    assert 2 <= len(found) <= 6 and found[0] == 0 and found[-1] <= last
    assert str(found[1]).rstrip("0") in ("1", "2", "5")
