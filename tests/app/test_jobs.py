"""Trainings without a browser: the queue, pausing, what a crash leaves, limits, uploads.

Over 300 lines, since all of it shares the desk of small trainings that its fixtures make.
"""

import io
import json
import shutil
import time
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_hub import checkpoint
from ddpm_hub.app import estimate, jobs, limits, models, reports, uploads
from ddpm_hub.app.tabs import train as tab
from ddpm_hub.errors import CheckpointError, ConfigError, DataError, DDPMHubError

STATUS = {"state", "step", "total", "loss", "eta_seconds", "samples", "checkpoint"}
OVER = ("done", "stopped", "paused", "error", "interrupted")


@pytest.fixture(autouse=True)
def small_model(small_presets, monkeypatch):
    """Trainings that cost little."""
    monkeypatch.setattr(estimate, "_seconds", {})


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The app's desk on an empty folder; what runs at the end of a test is ended."""
    made = jobs.Desk(tmp_path / "runs")
    monkeypatch.setattr(jobs, "desk", lambda: made)
    yield made
    made.close()


def asked(steps=6, seed=0, minutes=None, data="bundled", **options):
    options = {"train_batch_size": 2, "num_samples": 1} | options
    return limits.train_request(data, "tiny", steps, seed, minutes, options)


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def finish(job, state="done"):
    wait_for(lambda: job.state in OVER)
    assert (job.state, job.message) == (state, job.message), job.message
    return job


def snapshot(folder, to):
    """The folder as it is at one moment, as a crash would leave it; beside the running training."""
    while True:
        shutil.rmtree(to, ignore_errors=True)
        try:
            shutil.copytree(folder, to / folder.name, ignore=shutil.ignore_patterns(".*"))
        except shutil.Error:  # an old checkpoint was deleted while it was copied
            continue
        return to


# ---- one training -------------------------------------------------------------------------------
def test_a_training_ends_with_its_losses_its_pictures_and_a_model_that_opens(desk):
    job = finish(desk.start(asked()))
    told = reports.status(job, desk.sentence(job))
    assert told.keys() >= STATUS
    assert (told["state"], told["step"], told["total"], told["eta_seconds"]) == ("done", 6, 6, 0)
    assert len(told["loss"]) == 6 and all(isinstance(loss, float) for loss in told["loss"])
    assert told["samples"].startswith("data:image/png;base64,")
    assert (job.folder / "checkpoints" / told["checkpoint"]).exists()
    assert json.dumps(told)
    assert [frame.step for frame in job.frames] == [1, 2, 3, 4, 5, 6]
    assert desk.model(job.id).image_size == (28, 28)


def test_the_seed_determines_the_losses(desk):
    first, again, other = (finish(desk.start(asked(seed=s))).losses for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_paused_training_goes_on_exactly(desk):
    whole = finish(desk.start(asked(steps=30))).losses
    job = desk.start(asked(steps=30))
    wait_for(lambda: job.step >= 3)
    desk.end(job.id, "paused")
    finish(job, "paused")
    before = list(job.losses)
    assert 3 <= len(before) < 30
    assert checkpoint.read_curve(job.folder) == before
    finish(desk.resume(job.id))
    assert job.losses[: len(before)] == before
    assert job.losses == whole
    assert not (job.folder / "checkpoints.old").exists()  # it went on, and did not begin again


def test_a_stopped_training_keeps_its_model_and_may_go_on_after_all(desk):
    job = desk.start(asked(steps=500))
    wait_for(lambda: job.step >= 2)
    desk.end(job.id, "stopped")
    finish(job, "stopped")
    assert desk.model(job.id).training is False
    assert job.resumable
    with pytest.raises(ConfigError, match="done"):
        desk.resume(finish(desk.start(asked(steps=1))).id)


def test_the_limit_of_minutes_ends_a_training_and_says_so(desk):
    job = finish(desk.start(asked(steps=5000, minutes=0.1)), "stopped")
    assert "as asked for" in job.message
    assert 0 < job.step < 5000


def test_the_model_of_a_running_training_is_a_copy_that_stays_as_it_was(desk):
    job = desk.start(asked(steps=500, train_lr=0.05))
    wait_for(lambda: job.step >= 2)
    copy = models.load(f"job:{job.id}")
    assert models.load(f"job:{job.id}") is copy
    before = [p.clone() for p in copy.parameters()]
    at = job.step
    wait_for(lambda: job.step >= at + 3)
    assert all(torch.equal(a, b) for a, b in zip(before, copy.parameters(), strict=True))
    assert not any(p.requires_grad for p in copy.parameters())
    newer = job.model()
    assert any(not torch.equal(a, b) for a, b in zip(before, newer.parameters(), strict=True))


def test_a_training_that_fails_says_one_sentence_and_the_next_one_runs(desk, monkeypatch):
    real = models.fresh
    monkeypatch.setattr(models, "fresh", lambda *_: 1 / 0)
    broken = finish(desk.start(asked()), "error")
    assert "\n" not in broken.message and "ZeroDivision" not in broken.message
    monkeypatch.setattr(models, "fresh", real)
    finish(desk.start(asked(steps=1)))


def test_a_loss_that_is_not_finite_is_no_number_in_a_message(desk):
    job = finish(desk.start(asked(steps=2)))
    job.losses[1] = float("nan")
    assert reports.curve(job, 0, "")["losses"] == [job.losses[0], None]


# ---- the queue ----------------------------------------------------------------------------------
def test_trainings_run_one_at_a_time_and_those_that_wait_are_told_how_long(desk):
    first = desk.start(asked(steps=400))
    wait_for(lambda: first.state == "running")
    second, third = desk.start(asked(steps=1)), desk.start(asked(steps=1))
    assert (second.state, third.state) == ("queued", "queued")
    assert desk.sentence(second).startswith("Busy: about ")
    assert "you are next" in desk.sentence(second)
    assert "1 before you" in desk.sentence(third)
    assert desk.newest()[0].id == first.id
    desk.end(third.id, "stopped")
    assert third.state == "stopped"
    desk.end(first.id, "stopped")
    finish(second)
    assert third.step == 0


def test_a_queue_that_is_full_refuses_in_one_sentence(desk):
    for _ in range(1 + jobs.MAX_WAITING):
        job = desk.start(asked(steps=400))
        wait_for(lambda: desk.current is not None)
    with pytest.raises(ConfigError, match="come back"):
        desk.start(asked())
    for waiting in list(desk.waiting):
        desk.end(waiting.id, "stopped")
    assert job.state == "stopped"


def test_one_visitor_cannot_take_all_places(desk):
    for _ in range(jobs.MAX_EACH):
        desk.start(asked(steps=400), owner="192.0.2.1")
        wait_for(lambda: desk.current is not None)
    with pytest.raises(ConfigError, match="others want a turn"):
        desk.start(asked(), owner="192.0.2.1")
    other = desk.start(asked(steps=400), owner="192.0.2.2")
    for job in [other, *desk.waiting]:
        desk.end(job.id, "stopped")
    desk.end(desk.current.id, "stopped")


def test_a_disk_that_takes_nothing_is_one_sentence(desk):
    desk.folder.write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="make room"):
        desk.start(asked())
    assert desk.jobs == {}


def test_a_training_that_is_unknown_is_one_sentence(desk):
    for key in ("0" * 16, "", None, 7, "../../etc", "0" * 15 + "g"):
        with pytest.raises(ConfigError, match="job"):
            desk.get(key)


# ---- after a crash ------------------------------------------------------------------------------
def test_what_a_crash_left_is_offered_and_continues_exactly(desk, tmp_path):
    whole = finish(desk.start(asked(steps=24))).losses
    job = desk.start(asked(steps=24))
    wait_for(lambda: job.step >= 6)
    after = jobs.Desk(snapshot(job.folder, tmp_path / "crashed"))
    found = after.get(job.id)
    assert found.state == "interrupted" and found.resumable
    left = list(found.look().losses)
    assert left == whole[: len(left)] and left
    assert f"from step {len(left)}" in after.sentence(found)
    drawn = [s for s in range(2, 25, 2) if s <= len(left)]
    kept = [f.step for f in found.frames]
    assert kept in (drawn, drawn[:-1])  # a crash may come after the checkpoint, before its grid
    desk.end(job.id, "stopped")
    finish(after.resume(job.id))
    assert found.losses == whole
    assert [f.step for f in found.frames] == kept + [s for s in range(2, 25, 2) if s > len(left)]


def test_an_app_that_is_closed_saves_the_step_it_is_at(desk):
    job = desk.start(asked(steps=500))
    wait_for(lambda: job.step >= 2)
    desk.close()
    assert job.state == "interrupted"
    assert checkpoint.read_curve(job.folder) == job.losses


def test_two_apps_on_one_folder_do_not_train_the_same_run(desk):
    job = desk.start(asked(steps=500))
    wait_for(lambda: job.step >= 1)
    other = jobs.Desk(desk.folder)
    assert other.jobs == {}
    desk.end(job.id, "paused")
    wait_for(lambda: desk.current is None)
    assert job.id in jobs.Desk(desk.folder).jobs


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"state": "done"}', '{"name": 1e999'])
def test_a_record_that_cannot_be_read_is_left_alone(tmp_path, record):
    folder = tmp_path / ("ab" * 8)
    folder.mkdir()
    (folder / "job.json").write_text(record)
    assert jobs.Desk(tmp_path).jobs == {}
    assert (folder / "job.json").read_text() == record


def test_only_the_newest_finished_folders_stay_and_strangers_ones_always(desk, monkeypatch):
    monkeypatch.setattr(jobs, "KEPT_FINISHED", 2)
    stranger = desk.folder / "0123456789abcdef"
    stranger.mkdir(parents=True)
    (stranger / "thesis.tex").write_text("precious")
    done = [finish(desk.start(asked(steps=1))) for _ in range(4)]
    wait_for(lambda: desk.current is None)
    assert [job.folder.exists() for job in done] == [False, False, True, True]
    assert set(desk.jobs) == {done[2].id, done[3].id}
    assert (stranger / "thesis.tex").exists()


# ---- messages -----------------------------------------------------------------------------------
def test_the_page_gets_what_it_lacks_with_its_place(desk):
    job = finish(desk.start(asked(steps=5)))
    whole = reports.curve(job, 0, "")
    assert (whole["from"], whole["count"], len(whole["losses"])) == (0, 5, 5)
    part = reports.curve(job, 3, "")
    assert (part["from"], part["losses"]) == (3, job.losses[3:])
    beyond = reports.curve(job, 99, "")  # a page from before a crash has more than there is
    assert (beyond["from"], beyond["count"], beyond["losses"]) == (5, 5, [])
    film = reports.film(job, 3)
    assert [(f["index"], f["t"]) for f in film["frames"]] == [(3, 4), (4, 5)]
    assert film["meta"]["total"] == 5


def test_the_raw_weights_pictures_come_when_they_are_asked_for(desk):
    job = finish(desk.start(asked(steps=3, sample_raw=True, train_lr=0.05, lr_warmup_steps=0)))
    *_, last = reports.film(job, 0)["frames"]
    assert last["x"] != last["x0"]
    wait_for(lambda: desk.current is None)
    assert reports.film(jobs.Desk(desk.folder).get(job.id), 0)["frames"][-1] == last
    plain = finish(desk.start(asked(steps=2)))
    assert "x" not in reports.film(plain, 0)["frames"][0]


def test_a_public_page_knows_only_what_its_browser_started(desk, monkeypatch):
    mine, other = (finish(desk.start(asked(steps=1, seed=s))) for s in (1, 2))
    assert {job.id for job in tab.visible([])} == {mine.id, other.id}
    monkeypatch.setenv("SPACE_ID", "somebody/demo")
    assert tab.visible([]) == []
    assert tab.visible([mine.id, "junk", 7]) == [mine]
    assert tab.visible("junk") == []


# ---- limits -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"data": "/etc"}, "data '/etc' is neither"),
        ({"data": "../x"}, "neither"),
        ({"data": "hub:mnist"}, "neither"),
        ({"data": "upload:../../../etc/pa"}, "neither"),
        ({"data": 3}, "neither"),
        ({"preset": "huge"}, "unknown preset 'huge': choose one of tiny, fashion"),
        ({"steps": 0}, "steps 0"),
        ({"steps": 20_001}, "20000"),
        ({"steps": 1.5}, "steps 1.5"),
        ({"steps": "9"}, "steps '9'"),
        ({"seed": -1}, "seed -1"),
        ({"minutes": 241}, r"minutes 241 is outside \[0.1, 240\]"),
        ({"minutes": float("nan")}, "minutes nan"),
        ({"options": {"results_folder": "/"}}, "unknown option"),
        ({"options": {"train_batch_size": 10**9}}, "train_batch_size"),
        ({"options": {"train_lr": 1}}, "train_lr"),
        ({"options": {"sample_raw": "yes"}}, "sample_raw"),
        ({"options": {"lr_schedule": "square"}}, "lr_schedule"),
        ({"options": [1]}, "options"),
    ],
    ids=str,
)
def test_what_a_training_cannot_be_is_refused_with_its_value_and_a_cure(arguments, sentence):
    known = {"data": "bundled", "preset": "tiny", "steps": 5, "seed": 0}
    with pytest.raises(DDPMHubError, match=sentence) as caught:
        limits.train_request(**known | arguments)
    assert ":" in str(caught.value) and "\n" not in str(caught.value)


def test_options_that_equal_the_preset_s_are_not_kept():
    row = limits.train_row("tiny")
    same = {name: getattr(row, name) for name in limits.OPTIONS}
    assert limits.train_request("bundled", "tiny", 5, 0, options=same).options == {}
    assert asked().options == {"train_batch_size": 2, "num_samples": 1}


# ---- uploads ------------------------------------------------------------------------------------
@pytest.fixture
def pictures(tmp_path):
    """Paths of three pictures of different sizes, one more of the same name, and a text."""
    paths = []
    for index, size in enumerate([(40, 30), (28, 28), (9, 50), (60, 60)]):
        path = tmp_path / str(index) / ("same.png" if index > 1 else f"{index}.png")
        path.parent.mkdir()
        Image.effect_noise(size, 60 + index).save(path)
        paths.append(str(path))
    (tmp_path / "text.png").write_text("no picture")
    return [*paths, str(tmp_path / "text.png")]


def test_uploaded_pictures_become_what_the_network_takes(pictures):
    taken = uploads.take(pictures, (1, 28, 28))
    assert taken.images.shape == (4, 1, 28, 28) and taken.images.dtype == np.uint8
    card = taken.card()
    assert (card["count"], card["width"], card["height"], card["channels"]) == (4, 28, 28, 1)
    assert any("text.png" in note for note in card["notes"])
    assert any("by heart" in note for note in card["notes"])
    assert uploads.find(taken.id, (1, 28, 28)) is taken
    with pytest.raises(DataError, match="again"):
        uploads.find(taken.id, (3, 32, 32))
    with pytest.raises(DataError, match="again"):
        uploads.find("upload:" + "0" * 16, (1, 28, 28))


def test_a_training_on_uploads_has_its_pictures_when_it_is_resumed(desk, pictures, monkeypatch):
    taken = uploads.take(pictures, (1, 28, 28))
    job = desk.start(asked(steps=300, data=taken.id))
    wait_for(lambda: job.step >= 1)
    desk.end(job.id, "paused")
    finish(job, "paused")
    wait_for(lambda: desk.current is None)
    monkeypatch.setattr(uploads, "_uploads", {})
    again = jobs.Desk(desk.folder)
    at = job.step
    resumed = again.resume(job.id)
    wait_for(lambda: resumed.step > at)
    again.close()
    assert resumed.losses[:at] == job.losses
    assert np.array_equal(np.load(job.folder / "data.npy"), taken.images)


def test_a_zip_is_read_and_comes_alone(pictures, tmp_path):
    packed = tmp_path / "pictures.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for index, path in enumerate(pictures[:3]):
            archive.write(path, f"folder/{index}.png")
    assert len(uploads.take([str(packed)], (3, 16, 16)).images) == 3
    with pytest.raises(DataError, match="alone"):
        uploads.take([str(packed), pictures[0]], (1, 28, 28))


def test_uploads_that_are_too_many_too_large_or_nothing_are_refused(pictures, tmp_path):
    with pytest.raises(DataError, match="501 files are more than 500"):
        uploads.take(pictures[:1] * 501, (1, 28, 28))
    with pytest.raises(DataError, match="the upload") as caught:
        uploads.take(pictures[-1:], (1, 28, 28))
    assert "/tmp" not in str(caught.value)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(uploads.MAX_ZIP_BYTES + 1))
    assert bomb.stat().st_size < 5_000_000
    with pytest.raises(DataError, match="unpacks to"):
        uploads.take([str(bomb)], (1, 28, 28))
    (tmp_path / "no.zip").write_bytes(io.BytesIO(b"PK").getvalue())
    with pytest.raises(DataError, match="no zip"):
        uploads.take([str(tmp_path / "no.zip")], (1, 28, 28))


def test_old_uploads_are_forgotten(pictures, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_UPLOADS", 2)
    first, *_ = [uploads.take(pictures[:1], (1, 28, 28)) for _ in range(3)]
    with pytest.raises(DataError, match="no longer kept"):
        uploads.find(first.id, (1, 28, 28))


# ---- what it costs ------------------------------------------------------------------------------
def test_the_cost_is_known_after_a_measurement(desk):
    before = estimate.facts("tiny", 2, 100, 30)
    assert before["parameters"] > 100_000 and before["per_hundred"] is None
    estimate.measure("tiny", 2)
    after = estimate.facts("tiny", 2, 100, 30)
    assert 0 < after["per_hundred"] == after["seconds"]
    hurried = estimate.facts("tiny", 2, 10**6, 0.1)
    assert hurried["reached"] < 10**6
    assert list(desk.folder.glob("*")) == []  # a measurement leaves nothing behind


def test_nothing_is_measured_while_the_machine_trains_but_the_training_tells(desk):
    job = desk.start(asked(steps=400))
    wait_for(lambda: job.step >= 2)
    with pytest.raises(ConfigError, match="idle"):
        estimate.measure("fashion", 4)
    assert estimate.facts("tiny", 2, 100, 30)["per_hundred"] > 0
