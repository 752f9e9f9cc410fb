"""Trainings with a copy on the Hub: kept with the visitor's token, fetched by an app that forgot.

The Hub is one on this machine, asked by the real client. The machine's owner has a token in the
environment, which must never be used. Over 300 lines, since all of it shares one Hub and one copy.
"""

import json
import time

import pytest
import torch
from hub_page import small

from ddpm_hub import checkpoint
from ddpm_hub.app import copies, jobs, limits, returned
from ddpm_hub.app.job import ACTIVE
from ddpm_hub.errors import DDPMHubError, HubError

STEPS = 12
STATE = "checkpoints/step-{:08d}.safetensors"


@pytest.fixture(autouse=True)
def small_model(small_presets):
    """Trainings that cost little."""


@pytest.fixture(autouse=True)
def hub(repos, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", repos.hub.url)
    monkeypatch.setenv("HF_TOKEN", repos.owner)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    repos.hub.clear()
    yield repos.hub
    repos.hub.clear()


@pytest.fixture
def apps(tmp_path, monkeypatch):
    """`apps()` is the desk of a fresh app, on a disk of its own."""
    made = []

    def start():
        made.append(jobs.Desk(tmp_path / f"runs{len(made)}"))
        monkeypatch.setattr(jobs, "desk", lambda: made[-1])
        return made[-1]

    yield start
    for desk in made:
        desk.close()


def asked(steps=STEPS, seed=3, **changes):
    options = {"train_batch_size": 2, "num_samples": 1}
    return limits.train_request("bundled", "tiny", steps, seed, None, options, **changes)


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def over(job, state="done"):
    wait_for(lambda: job.state not in ACTIVE and not (job.copy and job.copy.busy))
    assert job.state == state, job.message
    return job


def kept(desk, repos, repo_id, request=None, private=True, model=None):
    copy = copies.ask(repo_id, repos.alice, private)
    return desk.start(request or asked(), model, copy=copy)


def paused(desk, repos, repo_id, request=None):
    """A training that is paused in its midst, with its copy at `repo_id`."""
    job = kept(desk, repos, repo_id, request or asked(steps=60))
    wait_for(lambda: job.step >= 4)
    desk.end(job.id, "paused")
    return over(job, "paused")


def files_at(repos, repo_id):
    return set(repos.api().list_repo_files(repo_id))


def commits(repos, repo_id):
    return [c.title for c in reversed(repos.api().list_repo_commits(repo_id))][1:]


# ---- kept ---------------------------------------------------------------------------------------
def test_a_training_is_pushed_while_it_runs_and_at_its_end_with_the_visitor_s_token(
    apps, repos, caplog, monkeypatch
):
    desk = apps()
    monkeypatch.setattr(limits, "COPY_SECONDS", 0.0)
    job = kept(desk, repos, "alice/kept", asked(steps=400))
    wait_for(lambda: repos.api().repo_exists("alice/kept") and commits(repos, "alice/kept"))
    assert job.state in ACTIVE
    desk.end(job.id, "stopped")
    over(job, "stopped")
    assert desk.sentence(job).endswith(f"A copy is at alice/kept, step {job.step:,}.")
    titles = commits(repos, "alice/kept")
    assert len(titles) >= 2 and titles[-1] == f"Step {job.step}"
    assert repos.api().model_info("alice/kept").private
    there = files_at(repos, "alice/kept")
    assert there >= {"config.json", "model.safetensors", "README.md", "demo.json", "samples.png"}
    assert [name for name in there if "checkpoints/" in name] == [STATE.format(job.step)]
    asked_for = [r for r in repos.hub.log if "/api/" in r["line"]]
    assert {r["auth"] for r in asked_for if r["line"].startswith("POST")} == {"alice"}
    assert "owner" not in {r["auth"] for r in repos.hub.log}
    written = [p for p in desk.folder.rglob("*") if p.is_file()]
    assert [p for p in written if repos.alice.encode() in p.read_bytes()] == []
    assert repos.alice not in caplog.text + str(vars(job.copy))
    assert not list(job.folder.glob(f"{copies.STAGED}*"))


def test_pushes_keep_their_distance(apps, repos):
    job = over(kept(apps(), repos, "alice/rare"))
    assert len(commits(repos, "alice/rare")) == 2  # the first checkpoint, and the last
    assert job.step == STEPS


def test_a_fault_of_the_hub_is_a_sentence_and_the_training_goes_on(apps, repos, caplog):
    desk = apps()
    whole = over(desk.start(asked())).losses
    job = kept(desk, repos, "alice/faulty")
    repos.hub.fault(r"POST /api/models/alice/faulty/commit/", "status:500", times=200)
    over(job)
    said = desk.sentence(job)
    assert f"Step {STEPS} was not copied to alice/faulty" in said and "500" in said
    assert job.losses == whole
    assert repos.alice not in said + caplog.text


@pytest.mark.parametrize(
    ("token", "repo_id", "sentence"),
    [
        ("alice", "owner/theirs", "publish to alice/theirs"),
        (None, "alice/mine", "token of your own"),
        ("reader", "alice/mine", "may only read"),
        ("alice", "alice/small", "and public"),
        ("alice", "alice/secret", "holds something else"),
        ("alice", "../x", "owner/name"),
        ("alice", "", "owner/name"),
    ],
)
def test_a_copy_goes_to_a_free_repo_of_the_visitor_alone(repos, token, repo_id, sentence):
    with pytest.raises(HubError, match=sentence):
        copies.ask(repo_id, token and getattr(repos, token))
    assert not [r for r in repos.hub.log if r["line"].startswith("POST")]
    assert "owner" not in {request["auth"] for request in repos.hub.log}


# ---- fetched ------------------------------------------------------------------------------------
def test_a_fresh_app_goes_on_from_the_copy_and_its_losses_are_those_of_one_run_bit_for_bit(
    apps, repos
):
    first = apps()
    whole = over(first.start(asked(steps=60))).losses
    job = paused(first, repos, "alice/back")
    fresh = apps()
    found = returned.fetch("alice/back", repos.alice)
    assert (found.state, found.look().losses, found.id != job.id) == ("paused", job.losses, True)
    assert found.request == job.request and fresh.get(found.id) is found
    copy = copies.ask("alice/back", repos.alice, job=found)
    fresh.resume(found.id, copy=copy)
    assert over(found).losses == whole
    assert commits(repos, "alice/back")[-1] == "Step 60"
    with pytest.raises(HubError, match="holds something else"):
        copies.ask("alice/back", repos.alice)  # of another training
    with pytest.raises(HubError, match="does not exist, or is private"):
        returned.fetch("alice/back")


def test_a_training_that_began_with_a_model_comes_back_as_that_model(apps, repos):
    first = apps()
    request = asked(steps=40, start="alice/small @ 1234567")
    copy = copies.ask("alice/onward", repos.alice, False)
    job = first.start(request, small(1), copy=copy)
    wait_for(lambda: job.step >= 2)
    first.end(job.id, "paused")
    over(job, "paused")
    fresh = apps()
    found = returned.fetch("alice/onward")
    fresh.resume(found.id)
    over(found)
    first.resume(job.id)
    assert over(job).losses == found.losses
    assert found.model().image_size == (16, 16)


@pytest.fixture(scope="module")
def cache():
    return {}


@pytest.fixture
def copied(apps, cache):
    """The files of a good copy of 6 steps, as bytes by their names; made once."""
    if not cache:
        job = over(apps().start(asked(steps=6)))
        staged = copies._stage(job)
        paths = [path for path in staged.rglob("*") if path.is_file()]
        cache.update({str(path.relative_to(staged)): path.read_bytes() for path in paths})
    return dict(cache)


def other_record(copied, **changes):
    record = json.loads(copied["demo.json"])
    record["request"] |= changes
    return copied | {"demo.json": json.dumps(record).encode()}


def other_state(copied, folder, change):
    """The same with a checkpoint in which `change` did something to the tensors or the facts."""
    path = folder / "state.safetensors"
    path.write_bytes(copied[STATE.format(6)])
    tensors, facts = checkpoint.read(path)
    change(tensors, facts)
    written = checkpoint.write(folder, tensors, facts | {"step": 6}).read_bytes()
    return copied | {STATE.format(6): written}


def no_losses(tensors, facts):
    tensors["losses"] = torch.zeros(10**5, dtype=torch.float64)


def wider(tensors, facts):
    name = next(name for name in tensors if name.startswith("model.") and tensors[name].ndim == 4)
    tensors[name] = torch.zeros(1, 1, 1, 1)


def no_number(tensors, facts):
    facts["seconds"] = "x"


BAD = {
    "no-record": (lambda c, f: c.pop("demo.json") and c, "no copy of a training"),
    "deep": (lambda c, f: c | {"demo.json": b"[" * 60_000}, "cannot be read"),
    "path": (lambda c, f: other_record(c, data="/etc"), "neither"),
    "pictures": (lambda c, f: other_record(c, data="upload"), "own pictures"),
    "options": (lambda c, f: other_record(c, options={"results_folder": "/"}), "unknown option"),
    "short": (lambda c, f: other_record(c, steps=5), "says step 6 of 5"),
    "no-state": (lambda c, f: c.pop(STATE.format(6)) and c, "holds no checkpoint"),
    "text": (lambda c, f: c | {STATE.format(6): b"no state"}, "checkpoint cannot be read"),
    "large": (lambda c, f: c | {STATE.format(6): bytes(8_000_000)}, "over the limit"),
    "losses": (lambda c, f: other_state(c, f, no_losses), "losses of shape"),
    "numbers": (lambda c, f: other_state(c, f, no_number), "none of this training"),
    "network": (lambda c, f: other_state(c, f, wider), "another network"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_repo_that_is_no_good_copy_is_refused_with_a_sentence(apps, repos, tmp_path, copied, how):
    name, desk = f"alice/bad-{how}", apps()
    make, sentence = BAD[how]
    repos.put(name, make(copied, tmp_path))
    with pytest.raises(DDPMHubError, match=sentence) as caught:
        returned.fetch(name)
    assert "\n" not in str(caught.value) and "/tmp" not in str(caught.value)
    assert desk.jobs == {} and not list(desk.folder.glob("*"))


def test_a_checkpoint_s_name_cannot_outlive_what_comes_after_it(apps, repos, copied):
    copied[STATE.format(99999999)] = copied.pop(STATE.format(6))
    repos.put("alice/renamed", other_record(copied, steps=8))
    desk = apps()
    job = returned.fetch("alice/renamed")
    desk.resume(job.id)
    assert over(job).step == 8
    assert checkpoint.newest(job.folder).name == "step-00000008.safetensors"


def test_one_visitor_fetches_a_few_trainings_at_most(apps, repos, copied):
    repos.put("alice/many", other_record(copied, steps=8))
    desk = apps()
    for _ in range(jobs.MAX_EACH):
        returned.fetch("alice/many", owner="somebody")
    with pytest.raises(DDPMHubError, match="resume one of them first"):
        returned.fetch("alice/many", owner="somebody")
    assert returned.fetch("alice/many", owner="another").state == "paused"
    assert len(desk.jobs) == jobs.MAX_EACH + 1


# ---- the page -----------------------------------------------------------------------------------
def test_a_visitor_keeps_a_copy_and_fetches_it_and_the_token_stays_in_the_page(
    hub_tab, hub_server, repos
):
    tab = hub_tab()
    tab.give_token(repos.alice)
    tab.go("Train")
    page = tab.page
    page.locator("#train-steps input").fill("4")
    tab.visitor.unfold("#train-copy")
    tab.fill("train-copy-repo", "alice/from-the-page")
    page.locator("#train-start").click()
    page.locator(".cv-status").get_by_text("A copy is at alice/from-the-page, step 4.").wait_for()
    assert repos.api().model_info("alice/from-the-page").private
    key = page.locator(".ddpm-curve").get_attribute("data-run")
    page.locator("#train-copy-fetch").click()
    page.locator(".cv-status").get_by_text("Fetched from alice/from-the-page").wait_for()
    assert page.locator(".ddpm-curve").get_attribute("data-run") != key
    assert {len(job.losses) for job in jobs.Desk(hub_server.runs).jobs.values() if job.look()} == {
        4
    }
    assert "owner" not in {r["auth"] for r in repos.hub.log}
    written = [path for path in hub_server.runs.rglob("*") if path.is_file()]
    assert len(written) > 4
    assert [path for path in written if repos.alice.encode() in path.read_bytes()] == []
    assert repos.alice not in hub_server.log()
    assert tab.visitor.problems == []
