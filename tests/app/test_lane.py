"""The lane to the GPU: the same results in a forked worker, its end, its errors, and whose turn.

Nothing stands in for the worker: DDPM_HUB_LANE=fork forks one for each call, and what crosses the
boundary is pickled, as on ZeroGPU. Pictures are compared with one CPU thread on both sides.
"""

import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from contextvars import copy_context

import pytest
import torch
from gradio.context import LocalContext
from gradio_client import Client

from ddpm_hub.app import engine, fork, lane, limits, machine, models
from ddpm_hub.app.experiments import compare
from ddpm_hub.app.experiments import limits as lab
from ddpm_hub.errors import ConfigError, DDPMHubError

WRITTEN = []  # a global that a worker writes


@pytest.fixture(autouse=True)
def one_thread():
    """A fork computes with one, and the last bit of a sum depends on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def forked(monkeypatch):
    """GPU work runs in workers; afterwards none of them is left."""
    monkeypatch.setenv("DDPM_HUB_LANE", "fork")
    yield
    assert multiprocessing.active_children() == []


def seconds(*_):
    return 1.0


@lane.gpu(seconds)
def pids(count):
    for _ in range(count):
        WRITTEN.append(os.getpid())
        yield os.getpid()


@lane.gpu(seconds)
def fails(how):
    yield 1
    if how == "ours":
        raise ConfigError("steps 0 is not in 1 .. 9: use more")
    if how == "theirs":
        raise ZeroDivisionError("secret words")
    if how == "device":
        yield {"deep": [torch.zeros(2, device="meta")]}
    os._exit(3)


@lane.gpu(seconds)
def added(a, b):
    return a + b, os.getpid()


# ---- the same results ---------------------------------------------------------------------------
@pytest.mark.parametrize("sampler", ["ddpm", "unipc"])
def test_a_run_has_the_same_pictures_in_a_forked_worker_as_in_this_process(sampler, monkeypatch):
    request = limits.request("bundled", sampler, 8, None, 2, 11)

    def pictures():
        return [(f["index"], f["t"], f["x0"], f["x"]) for f in engine.sample(request)]

    here = pictures()
    monkeypatch.setenv("DDPM_HUB_LANE", "fork")
    assert pictures() == here
    assert len(here) == 8
    assert multiprocessing.active_children() == []


def test_an_experiment_fills_its_board_from_a_worker_as_it_does_here(monkeypatch):
    request = lab.compare_request("bundled", ["ddim", "ddpm"], 3, 1, 5)

    def board():
        last = list(compare.compare(request).messages())[-1]
        places = [(p["row"], p["column"], p["index"], p["src"]) for p in last["pictures"]]
        return last["state"], places, [c["label"] for c in last["columns"]], last["message"]

    here = board()
    monkeypatch.setenv("DDPM_HUB_LANE", "fork")
    assert board() == here
    assert len(here[1]) == 2 * 2 * 3


def test_the_work_is_done_in_another_process_and_its_globals_are_lost(forked):
    there = set(pids(3))
    assert len(there) == 1 and os.getpid() not in there
    assert WRITTEN == []
    assert added(2, 3)[0] == 5 and added(2, 3)[1] != os.getpid()


def test_without_workers_it_is_a_plain_call():
    assert set(pids(2)) == {os.getpid()}
    WRITTEN.clear()
    assert added(torch.ones(1), torch.ones(1)) == (2, os.getpid())


# ---- the end of a worker ------------------------------------------------------------------------
def test_who_stops_listening_ends_the_worker_at_once(forked):
    run = engine.sample(limits.request("bundled", "ddpm", 1000, None, 1, 0))
    assert next(run)["index"] == 0
    (worker,) = [child.pid for child in multiprocessing.active_children()]
    began = time.monotonic()
    run.close()
    assert time.monotonic() - began < 5
    with pytest.raises(ProcessLookupError):  # a zombie would still be found
        os.kill(worker, 0)


def test_workers_beside_each_other_do_not_hold_each_other(forked):
    first, second = pids(10**9), pids(10**9)
    assert next(first) != next(second)
    first.close()
    assert len(multiprocessing.active_children()) == 1
    second.close()


def test_a_worker_that_does_not_end_by_itself_is_ended(forked, monkeypatch):
    monkeypatch.setattr(fork, "PATIENCE", 0.5)
    run = sleeps()
    next(run)
    run.close()


@lane.gpu(seconds)
def sleeps():
    yield 1
    time.sleep(600)


# ---- errors -------------------------------------------------------------------------------------
def test_an_error_of_ours_comes_back_as_it_is(forked):
    with pytest.raises(ConfigError, match=r"steps 0 is not in 1 \.\. 9: use more"):
        list(fails("ours"))


@pytest.fixture
def log(tmp_path):
    """What the lane logs, in whichever process."""
    handler = logging.FileHandler(tmp_path / "log.txt")
    lane.LOG.addHandler(handler)
    yield tmp_path / "log.txt"
    lane.LOG.removeHandler(handler)
    handler.close()


def test_another_error_is_a_sentence_here_and_in_full_in_the_log(forked, log):
    with pytest.raises(DDPMHubError, match="the GPU's worker failed, the log says why") as error:
        list(fails("theirs"))
    assert "secret" not in str(error.value)
    assert "ZeroDivisionError: secret words" in log.read_text()


def test_a_tensor_that_is_not_on_the_cpu_does_not_cross(forked, log):
    with pytest.raises(DDPMHubError, match="the GPU's worker failed"):
        list(fails("device"))
    assert "a tensor on meta does not leave its process: .cpu() first" in log.read_text()
    with pytest.raises(TypeError, match=r"\.cpu\(\) first"):
        added(torch.zeros(1, device="meta"), 1)


def test_a_worker_that_dies_is_a_sentence(forked):
    run = fails("death")
    assert next(run) == 1
    with pytest.raises(DDPMHubError, match="worker died, perhaps for want of memory"):
        next(run)


def test_errors_are_the_same_without_workers():
    with pytest.raises(ZeroDivisionError):
        list(fails("theirs"))


# ---- how long, and whose turn -------------------------------------------------------------------
def test_the_seconds_asked_for_grow_with_the_work_and_stay_below_zerogpu_s_limit():
    diffusion = models.load("bundled")
    asked = [
        lane.seconds_for(lane.Work("bundled", calls, images), diffusion)
        for calls, images in ((5, 1), (50, 1), (250, 16), (1000, 16), (10**6, 16))
    ]
    assert asked == sorted(asked)
    assert lane.WAKE < asked[0] < 10
    assert asked[-1] == lane.LONGEST <= 60
    assert lane.seconds_for(600.0) == lane.LONGEST


def test_what_a_run_took_is_known_for_the_next_of_that_size(forked, monkeypatch):
    monkeypatch.setattr(lane, "_paces", {})
    monkeypatch.setattr(lane, "WAKE", 0.0)
    work, diffusion = lane.Work("bundled", 400, 1), models.load("bundled")
    before = lane.seconds_for(work, diffusion)
    list(engine.sample(limits.request("bundled", "ddim", 2, None, 1, 0)))
    (size,) = lane._paces
    assert lane._paces[size] > 1  # a CPU is no GPU, and the worker had to be forked
    assert lane.seconds_for(work, diffusion) > before
    lane._paces[size] = 0.5
    assert lane.seconds_for(work, diffusion) == pytest.approx(before / 2, abs=1)


def visitor(action):
    """`action` in a thread, as a visitor's event runs it; gives the thread."""
    context = copy_context()
    context.run(LocalContext.request.set, object())
    thread = threading.Thread(target=context.run, args=(action,), daemon=True)
    thread.start()
    return thread


@lane.gpu(seconds)
def holds(name, began, go_on):
    began.append(name)
    go_on.wait(20)
    yield name


def test_visitors_take_turns_in_their_order_and_who_is_no_visitor_does_not_wait():
    began, go_on = [], threading.Event()
    threads = []
    for name in ("first", "second", "third"):
        threads.append(visitor(lambda name=name: list(holds(name, began, go_on))))
        deadline = time.monotonic() + 10
        while len(lane._TURNS.waiting) < len(threads) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert began == ["first"]
    with closing(pids(1)) as mine:  # the example, a training
        assert next(mine) == os.getpid()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert began == ["first", "second", "third"]
    WRITTEN.clear()


@lane.gpu(lambda name: lane.Work(name))
def uses(name):
    yield models.load(name)


def test_a_model_is_fetched_before_its_turn_so_nobody_waits_for_a_download(monkeypatch):
    fetching, arrived, done = threading.Event(), threading.Event(), []
    load = models.load

    def slow(name, *rest):
        if name == "some/body":
            fetching.set()
            arrived.wait(20)
            return None
        return load(name, *rest)

    monkeypatch.setattr(models, "load", slow)
    thread = visitor(lambda: list(uses("some/body")))
    assert fetching.wait(10)
    other = visitor(lambda: done.extend(uses("bundled")))
    other.join(10)
    assert done == [load("bundled")]
    arrived.set()
    thread.join(10)


# ---- ZeroGPU's rules ----------------------------------------------------------------------------
def test_importing_and_building_the_app_asks_nothing_of_cuda():
    """`spaces` refuses to work once CUDA was asked, and forks after it would have none."""
    program = (
        "import torch\n"
        "def asked(*_): raise SystemExit('CUDA was asked')\n"
        "torch.cuda._lazy_init = torch._C._cuda_getDeviceCount = asked\n"
        "import ddpm_hub.app\n"
        "ddpm_hub.app.build(example=False)\n"
        "print('built')\n"
    )
    environment = os.environ | {"DDPM_HUB_LANE": "fork", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.stdout.strip().endswith("built"), done.stderr[-2000:] + done.stdout


def test_this_process_keeps_models_on_the_cpu_where_workers_have_the_gpu(forked, monkeypatch):
    monkeypatch.setattr("ddpm_hub.runtime.pick_device", lambda: torch.device("meta"))
    assert machine.device() == torch.device("cpu")
    monkeypatch.setattr(machine, "_in_worker", True)
    assert machine.device() == torch.device("meta")


def test_the_whole_app_draws_over_the_boundary_what_it_draws_without_it(serve):
    app = serve(DDPM_HUB_LANE="fork", OMP_NUM_THREADS="1")
    client = Client(app.url, verbose=False)
    *_, last = client.submit("bundled", "ddpm", 3, None, 2, 7, api_name="/sample")
    *_, here = engine.sample(limits.request("bundled", "ddpm", 3, None, 2, 7))
    assert last["done"] and last["png"] == here["png"]
