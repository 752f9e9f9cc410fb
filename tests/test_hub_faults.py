"""A Hub that fails: every fault ends in the right result, or in a HubError, and soon.

The real client, with Xet and without: they fail differently. Patience is cut short where a fault
lasts for ever and the test is about what happens then; how long it is, is a test of its own.
"""

import hashlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hub_support import DOWNLOAD, REPO, api, commits, start

from ddpm_hub import hub
from ddpm_hub.errors import HubError
from ddpm_hub.hub import client, repos, sources, tasks
from ddpm_hub.hub.cache import Cache, File, intact

NAME = "model.safetensors"
WEIGHTS = os.urandom(2**20)
MINUTE = 60.0  # what no call may take, whatever the server does


@pytest.fixture
def there(server, folder):
    """A repo with a megabyte of weights."""
    hub.push_folder(folder, REPO)
    server.clear()
    return server


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text('{"format_version": 1, "unet": {}}')
    (folder / NAME).write_bytes(WEIGHTS)
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def impatient(monkeypatch):
    """One second instead of many."""
    monkeypatch.setattr(client, "SILENCE", 2.0)
    monkeypatch.setattr(repos, "WAIT", 0.5)
    monkeypatch.setattr(repos, "ANSWER_SECONDS", 1.0)


def fetched(cache, repo_id=REPO):
    repo = sources.Repo(repo_id, cache_dir=cache)
    return repo.fetch("config.json").read_text()[:1] + repo.fetch(NAME).read_bytes().hex()


RIGHT = "{" + WEIGHTS.hex()


@contextmanager
def ends_within(seconds):
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


def halves(cache):
    """What is half downloaded."""
    # os.walk and not rglob, which fails over a folder that goes while it looks
    return [
        Path(folder) / name
        for folder, _, names in os.walk(cache)
        for name in names
        if name.endswith(".incomplete")
    ]


def body_of(server, sha256, xet):
    """The request line for the bytes of a file, of which other files have none."""
    terms = [entry["terms"] for entry in server.hub.store.xet.values() if entry["sha256"] == sha256]
    return f"GET /cas/xorb/{terms[0][0][0]}" if xet else f"GET /cdn/{sha256}"


def at_once(calls):
    """{name: (its result or error, seconds)} of what waits, side by side."""

    def run(call):
        begun = time.monotonic()
        try:
            end = call()
        except Exception as error:
            end = error
        return end, time.monotonic() - begun

    with ThreadPoolExecutor(len(calls)) as pool:
        return dict(zip(calls, pool.map(run, calls.values()), strict=True))


def with_faults(server, tmp_path, faults, xet):
    """A repo for each of `faults`, {name: (request, action)}, that befall it alone."""
    for name, (line, action) in faults.items():
        repo, folder = f"alice/{name}", tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text('{"format_version": 1, "unet": {}}')
        (folder / NAME).write_bytes(os.urandom(2**20))
        hub.push_folder(folder, repo)
        sha256 = hashlib.sha256((folder / NAME).read_bytes()).hexdigest()
        line = line.format(repo=repo, body=body_of(server, sha256, xet))
        server.fault(line, action, times=10_000)


# ---- opening ------------------------------------------------------------------------------------
INFO, CONFIG, HEAD = (
    "GET /api/models/{repo}/revision",
    "GET /{repo}/resolve/.*/config.json",
    "HEAD /{repo}/resolve/",
)
READING = [INFO, HEAD + ".*/config.json", CONFIG, HEAD + ".*/" + NAME]


def test_every_request_of_an_opening_may_fail_once(xet, there, cache):
    more = ["GET .*/xet-read-token/", "GET /cas/v1/reconstructions/"] if xet else []
    lines = [line.format(repo=REPO) for line in READING] + [*more, DOWNLOAD[xet]]
    for line in lines:
        there.fault(line, "status:503")
    with ends_within(MINUTE):
        assert fetched(cache) == RIGHT
    assert [record["fault"] for record in there.log].count("status:503") == len(lines)


@pytest.mark.parametrize("times", [1, 3])
def test_a_body_that_is_cut_is_taken_up_again(times, xet, there, cache):
    there.fault(DOWNLOAD[xet], "truncate:1000", times=times)
    with ends_within(MINUTE):
        assert fetched(cache) == RIGHT


def test_a_server_that_falls_silent_or_drips_is_given_up(xet, server, tmp_path, cache, impatient):
    lines = {"info": INFO, "config": CONFIG, "body": "{body}"}
    faults = {f"{n}-{act}": (lines[n], f"{act}:600") for n in lines for act in ("slow", "drip")}
    with_faults(server, tmp_path, faults, xet)
    ends = at_once({name: partial(fetched, cache, f"alice/{name}") for name in faults})
    for name, (error, seconds) in ends.items():
        assert isinstance(error, HubError) and "check the name and the net" in str(error), name
        assert seconds < MINUTE, name  # though the machine may be busy
    assert halves(cache) == []


def test_a_download_that_is_slow_but_moves_is_left_to_finish(there, cache, monkeypatch):
    """Longer than SILENCE in all: the limit is on silence."""
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr(client, "SILENCE", 4.0)
    there.fault("GET /cdn/", "drip:7")
    begun = time.monotonic()
    assert fetched(cache) == RIGHT
    assert time.monotonic() - begun > 6


def test_no_call_takes_a_minute_by_the_figures():
    """One fault: an answer that does not come, or a child that falls silent after its tries."""
    opening = repos.ANSWER_SECONDS + repos.WAIT
    assert opening < client.SILENCE
    assert tasks.PATIENCE + client.SILENCE < MINUTE - 10
    assert client.ANSWER < client.SILENCE


def test_a_server_that_is_none_of_the_hub_is_a_sentence(server, monkeypatch, cache):
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/api/models?x=")
    with pytest.raises(HubError, match="'alice/model' could not be opened"):
        fetched(cache)


# ---- for ever ------------------------------------------------------------------------------------
READING_FAILS = {
    "info": (INFO, "status:503"),
    "head": (HEAD, "status:503"),
    "config": (CONFIG, "status:503"),
    "config-cut": (CONFIG, "truncate:9"),
    "body": ("{body}", "status:503"),
    "body-cut": ("{body}", "truncate:1000"),
}
WRITING_FAILS = {
    "to-info": (INFO, "status:503"),
    "to-modes": ("POST /api/models/{repo}/preupload", "status:503"),
    "to-commit": ("POST /api/models/{repo}/commit", "status:503"),
    "to-commit-cut": ("POST /api/models/{repo}/commit", "truncate:0"),
}


def test_what_fails_for_ever_is_an_error_within_a_minute(xet, server, tmp_path, cache):
    """But for a commit whose answers are lost: it is there, and nothing is left to say."""
    with_faults(server, tmp_path, READING_FAILS | WRITING_FAILS, xet)
    calls = {name: partial(fetched, cache, f"alice/{name}") for name in READING_FAILS}
    for name in WRITING_FAILS:
        (tmp_path / name / NAME).write_bytes(os.urandom(2**16))
        calls[name] = partial(hub.push_folder, tmp_path / name, f"alice/{name}")
    ends = at_once(calls)
    assert ends.pop("to-commit-cut")[0].commit == api(server).model_info("alice/to-commit-cut").sha
    assert len(commits(server, "alice/to-commit-cut")) == 2
    for name, (error, seconds) in ends.items():
        assert isinstance(error, HubError), name
        assert "check the name and the network" in str(error), name
        assert seconds < MINUTE, name
    assert halves(cache) == []


# ---- what is left behind ------------------------------------------------------------------------
FETCHING = """
import sys
from ddpm_hub.hub import sources
try:
    sources.Repo("alice/model", cache_dir=sys.argv[1]).fetch("model.safetensors")
except KeyboardInterrupt:
    sys.exit("interrupted")
"""


def half_way(process, cache):
    """Once there is half a file: what is left of it."""
    until = time.monotonic() + 30
    while not halves(cache):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    return halves(cache)


def gone(cache):
    """Whether no process of this cache is left, in a moment."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not any(str(cache) in line for line in open_files()):
            return True
        time.sleep(0.05)
    return False


def open_files():
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            yield os.readlink(link)
        except OSError:
            continue


def test_ten_killed_downloads_leave_no_pile(xet, there, cache):
    there.fault(DOWNLOAD[xet], "drip:600", times=10_000)
    for _ in range(10):
        process = start(FETCHING, cache)
        time.sleep(0.3)
        half_way(process, cache)
        process.kill()
        process.communicate()
        assert gone(cache)  # the child went with its parent
        assert len(halves(cache)) <= 1
    there.clear()
    assert fetched(cache) == RIGHT
    assert halves(cache) == []


def test_ctrl_c_ends_a_download_and_leaves_no_mess(xet, there, cache):
    there.fault(DOWNLOAD[xet], "drip:60")
    process = start(FETCHING, cache)
    half_way(process, cache)
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.communicate(timeout=10)[1]
    assert halves(cache) == [] and gone(cache)


def test_a_download_that_is_under_way_is_not_swept_away(there, cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    there.fault("GET /cdn/", "drip:2")
    process = start(FETCHING, cache)
    left = half_way(process, cache)
    file = repos.describe(REPO, "main", os.environ["HF_TOKEN"]).files[NAME]
    Cache(REPO, cache).sweep(file)
    assert halves(cache) == left
    assert process.communicate(timeout=30) == ("", "") or process.returncode == 0
    assert halves(cache) == []


def test_a_download_of_over_two_seconds_shows_how_far_it_is(there, cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    there.fault("GET /cdn/", "drip:4")
    _, err = start(FETCHING, cache).communicate(timeout=30)
    assert f"{NAME}:" in err and "/1.05M" in err and "B/s" in err


# ---- publishing ---------------------------------------------------------------------------------
WRITING = [
    "GET /api/models/alice/model/revision",
    "POST /api/repos/create",
    "POST /api/validate-yaml",
    "POST .*/preupload/",
    "POST .*/info/lfs/objects/batch|GET .*/xet-write-token/",
    "PUT /upload/|POST /cas/v1/xorbs",
    "POST .*/info/lfs/verify|POST /cas/v1/shards",
    "POST .*/commit/main",
]


@pytest.mark.parametrize("status", [500, 503])
def test_every_request_of_a_push_may_fail_once(status, xet, server, folder, cache):
    for line in WRITING:
        server.fault(line, f"status:{status}")
    with ends_within(MINUTE):
        pushed = hub.push_folder(folder, REPO, commit_message="mine")
    assert [record["fault"] for record in server.log].count(f"status:{status}") == len(WRITING)
    assert commits(server) == ["mine"] and api(server).model_info(REPO).sha == pushed.commit
    assert fetched(cache) == RIGHT


def test_a_commit_that_landed_though_its_answer_was_lost_is_made_once(xet, server, folder):
    server.fault("POST .*/commit/main", "truncate:0")
    pushed = hub.push_folder(folder, REPO, commit_message="mine")
    assert commits(server) == ["mine"] and api(server).model_info(REPO).sha == pushed.commit


def test_a_commit_that_was_lost_and_then_overtaken_is_still_there(server, folder):
    """The head is somebody else's, and holds what was pushed: nothing is left to do."""
    server.fault("POST .*/commit/main", "truncate:0")
    server.fault("POST .*/commit/main", "status:503", nth=2, times=2)
    hub.push_folder(folder, REPO, commit_message="mine")
    api(server).upload_file(path_or_fileobj=b"hi", path_in_repo="hi.txt", repo_id=REPO)
    assert hub.push_folder(folder, REPO).commit == api(server).model_info(REPO).sha
    assert len(commits(server)) == 2


@pytest.mark.parametrize("line", ["POST /api/repos/create", "PUT /upload/|POST /cas/v1/xorbs"])
def test_a_push_that_nobody_answers_is_given_up(line, xet, server, folder, impatient):
    server.fault(line, "slow:600", times=10_000)
    with ends_within(MINUTE), pytest.raises(HubError, match="nothing came for 2 seconds"):
        hub.push_folder(folder, REPO)


# ---- the child ----------------------------------------------------------------------------------
def test_a_client_that_dies_is_a_failure_that_says_what_it_said(monkeypatch):
    monkeypatch.setattr(client, "CHILD", "import sys; sys.exit('no hf_Secret123 here')")
    with pytest.raises(client.Failure, match=r"the Hub's client ended: no \*\*\* here"):
        client.call(tasks.download, {}, False)
    monkeypatch.setattr(client.sys, "executable", "/nowhere/python")
    with pytest.raises(client.Failure, match="the Hub's client could not be started"):
        client.call(tasks.download, {}, False)


def test_what_is_intact_is_so_to_the_last_bit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    sha256 = hashlib.sha256(b"hello\n").hexdigest()
    git = "ce013625030ba8dba906f756967f9e9ca394464a"  # of git hash-object
    for file in (File(6), File(6, sha256), File(6, git_id=git), File(None, sha256), File()):
        assert intact(path, file)
    for file in (File(5), File(6, "0" * 64), File(6, git_id="0" * 40), File(5, sha256)):
        assert not intact(path, file)
    assert not intact(tmp_path / "nothing", File())
