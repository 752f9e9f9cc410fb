"""TensorBoard and trackio, the real packages: what is logged is read back with their readers."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import victim
from local_hub import LocalHub
from PIL import Image

from ddpm_hub import TrainConfig, train
from ddpm_hub.errors import ConfigError
from ddpm_hub.images import grid
from ddpm_hub.training import Event
from ddpm_hub.training.sinks import PROJECT, SINKS, open_sinks

HERE = Path(__file__).parent
NUMBERS = ("loss", "smoothed_loss", "lr", "grad_norm", "images_per_second", "skipped")
pytestmark = pytest.mark.filterwarnings("ignore:40 images are few")
CONFIG = replace(victim.CONFIG, results_folder=None, resume=None, train_num_steps=6)


def an_event(step, **changes):
    """A step as `train` would yield it."""
    event = Event(step, 100, 0.5, 1.5, 1e-3, 20.0, 9.0, smoothed_loss=0.4, loss_by_t=(0.25,) * 10)
    return event._replace(**changes)


@pytest.fixture(scope="module")
def trackio(tmp_path_factory):
    """The package, with its database in a folder of its own: it asks where once, when imported."""
    folder = tmp_path_factory.mktemp("trackio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(folder))
        import trackio
    assert folder == trackio.utils.TRACKIO_DIR
    return trackio


def scalars(folder):
    """{tag: [(step, value), ...]} of all event files in a folder."""
    reader = reading(folder)
    return {t: [(e.step, e.value) for e in reader.Scalars(t)] for t in reader.Tags()["scalars"]}


def reading(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return reader.Reload()


def logged(trackio, name):
    """What trackio says of the newest run of this name: its lines, in order."""
    storage = trackio.sqlite_storage.SQLiteStorage
    record = storage.get_latest_run_record_by_name(PROJECT, name)
    return storage.get_logs(PROJECT, name, run_id=record["id"])


def trained(sinks, **changes):
    """The events of a short training, fed to the sinks."""
    torch.set_num_threads(1)
    events = []
    for event in train(victim.model(), victim.images(), replace(CONFIG, **changes)):
        events.append(event)
        for sink in sinks:
            sink(event)
    for sink in sinks:
        sink.close()
    return events


def expected(events, name):
    return [(e.step, pytest.approx(getattr(e, name))) for e in events]


def test_tensorboard_shows_the_numbers_and_samples_of_every_step(tmp_path):
    events = trained(open_sinks(["tensorboard"], "a run", CONFIG, tmp_path), sample_raw=True)
    found = scalars(tmp_path / "a run")
    assert {name: found[name] for name in NUMBERS} == {n: expected(events, n) for n in NUMBERS}
    last = events[-1].loss_by_t
    assert [found[f"loss_by_t/0.{i}"][-1][1] for i in range(10)] == pytest.approx(list(last))
    reader = reading(tmp_path / "a run")
    for name in ("samples", "raw_samples"):
        assert [image.step for image in reader.Images(name)] == [3, 6]
        encoded = reader.Images(name)[-1].encoded_image_string
        (tmp_path / "read.png").write_bytes(encoded)
        shown = np.asarray(Image.open(tmp_path / "read.png").convert("L"))
        assert np.array_equal(shown, np.asarray(grid(getattr(events[-1], name))))
    config = reader.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    assert b'"train_batch_size": 8' in config


def test_trackio_shows_the_numbers_and_samples_of_every_step(trackio, tmp_path, capfd):
    events = trained(open_sinks(["trackio"], "a run", CONFIG, tmp_path))
    lines = logged(trackio, "a run")
    for name in NUMBERS:
        assert [(line["step"], line[name]) for line in lines] == expected(events, name)
    last = [lines[-1][f"loss_by_t/0.{i}"] for i in range(10)]
    assert last == pytest.approx(list(events[-1].loss_by_t))
    pictures = {line["step"]: line["samples"] for line in lines if "samples" in line}
    assert sorted(pictures) == [3, 6]
    path = trackio.utils.MEDIA_DIR / pictures[6]["file_path"]
    shown = np.asarray(Image.open(path).convert("L"))
    assert np.array_equal(shown, np.asarray(grid(events[-1].samples)))
    [run] = [run for run in trackio.Api().runs(PROJECT) if run.name == "a run"]
    assert run.config["train_batch_size"] == 8
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().out == ""


def test_numbers_that_are_not_finite_are_left_out(tmp_path):
    [sink] = open_sinks(["tensorboard"], "run", CONFIG, tmp_path)
    sink(an_event(1, loss=float("nan"), smoothed_loss=float("nan"), loss_by_t=(0.5, float("nan"))))
    sink.close()
    found = scalars(tmp_path / "run")
    assert {"loss", "smoothed_loss", "loss_by_t/0.5"}.isdisjoint(found)
    assert found["loss_by_t/0.0"] == [(1, 0.5)]


def test_a_resumed_run_continues_its_curve_in_tensorboard(tmp_path):
    """Steps 3 and 4 were logged, then lost in a crash: they are there once, as done again."""
    for steps, loss in (((1, 2, 3, 4), 0.5), ((3, 4, 5), 0.25)):
        [sink] = open_sinks(["tensorboard"], "run", CONFIG, tmp_path)
        for step in steps:
            sink(an_event(step, loss=loss))
        sink.close()
    assert scalars(tmp_path / "run")["loss"] == [
        (1, 0.5),
        (2, 0.5),
        *((i, 0.25) for i in (3, 4, 5)),
    ]


def test_a_resumed_run_is_the_same_run_in_trackio_and_a_new_one_is_another(trackio):
    for steps in ((1, 2), (3, 4), (1,)):
        [sink] = open_sinks(["trackio"], "again", CONFIG)
        for step in steps:
            sink(an_event(step))
        sink.close()
    runs = [run for run in trackio.Api().runs(PROJECT) if run.name == "again"]
    get = trackio.sqlite_storage.SQLiteStorage.get_logs
    steps = [[line["step"] for line in get(PROJECT, run.name, run_id=run.id)] for run in runs]
    assert sorted(steps) == [[1], [1, 2, 3, 4]]


def test_two_runs_at_once_do_not_end_each_other(trackio):
    sinks = [open_sinks(["trackio"], name, CONFIG)[0] for name in ("left", "right")]
    for step in (1, 2):
        for sink in sinks:
            sink(an_event(step))
    for sink in sinks:
        sink.close()
    for name in ("left", "right"):
        assert [line["step"] for line in logged(trackio, name)] == [1, 2]


LOCAL = """
from test_sinks import CONFIG, an_event
from ddpm_hub.training.sinks import open_sinks
[sink] = open_sinks(["trackio"], "local", CONFIG)
sink(an_event(1))
sink.close()
"""


def program(text, *arguments, **environment):
    """The finished process of a Python program that sees this folder."""
    paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
    added = {name: str(value) for name, value in environment.items()}
    return subprocess.run(
        [sys.executable, "-c", text, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | added,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_trackio_asks_no_server_even_where_a_token_and_a_space_are_set(tmp_path):
    """The Hub here is the one of the tests, and writes down whoever calls."""
    with LocalHub() as hub:
        done = program(
            LOCAL,
            HF_ENDPOINT=hub.url,
            HF_TOKEN=hub.add_token("alice"),
            HF_HOME=tmp_path / "home",
            TRACKIO_DIR=tmp_path / "trackio",
            TRACKIO_SPACE_ID="alice/space",
        )
        assert done.returncode == 0, done.stderr
        assert hub.log == []
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "trackio" / f"{PROJECT}.db").exists()


FULL = """
import json, resource, sys, warnings
from test_sinks import CONFIG, trained
from ddpm_hub.training.sinks import open_sinks
name, folder, limit = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit),) * 2)  # no file may grow beyond this
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    sinks = open_sinks([name], "run", CONFIG, folder)
    events = trained(sinks, train_num_steps=30)
print(json.dumps([len(events), [str(w.message) for w in caught if "'run'" in str(w.message)]]))
"""


@pytest.mark.parametrize(("name", "limit"), [("tensorboard", 2000), ("trackio", 100_000)])
def test_a_disk_that_fills_up_is_one_warning_and_the_training_ends(name, limit, tmp_path):
    done = program(FULL, name, tmp_path, limit, TRACKIO_DIR=tmp_path / "trackio")
    assert done.returncode == 0, done.stderr
    steps, said = json.loads(done.stdout)
    assert steps == 30 and len(said) == 1, said


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    [sink] = open_sinks(["tensorboard"], "run", CONFIG, tmp_path / "file")
    with pytest.warns(
        UserWarning, match=r"logging of 'run' with tensorboard stopped \(.*on without"
    ):
        sink(an_event(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sink(an_event(2))
        sink.close()


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "tensorboard"), ("trackio", "trackio")]
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # as Python marks what is not there
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ConfigError, match=f"{name}.*{package}.*pip install .ddpm-hub.log."):
        open_sinks([name], "run", CONFIG)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"log_with 'wandb': choose one of tensorboard, trackio"):
        open_sinks(["wandb"], "run", CONFIG)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "/etc", "x" * 201])
def test_a_run_name_stays_inside_its_folder(name):
    with pytest.raises(ConfigError, match="cannot be the name of a folder"):
        open_sinks(["tensorboard"], name, CONFIG)


def test_a_sink_named_twice_logs_once(tmp_path):
    kinds = [type(sink) for sink in open_sinks(["tensorboard"] * 2, "run", CONFIG, tmp_path)]
    assert kinds == [SINKS["tensorboard"]]


def test_nothing_is_imported_or_written_until_somebody_asks(tmp_path):
    done = program(
        "import sys, ddpm_hub.training.sinks\n"
        "print({'tensorboard', 'trackio', 'torch.utils.tensorboard'} & sys.modules.keys())"
    )
    assert done.stdout.strip() == "set()", done.stderr
    open_sinks(["tensorboard"], "run", TrainConfig(), tmp_path)
    assert not list(tmp_path.iterdir())
