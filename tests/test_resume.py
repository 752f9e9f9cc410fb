"""Interrupted or not, a run gives the same numbers: N + M steps == N steps, resume, M steps."""

import json
import multiprocessing
import os
import random
import signal
import time
from itertools import islice
from pathlib import Path

import pytest
import torch
import victim

from ddpm_hub import checkpoint, train

pytestmark = pytest.mark.filterwarnings("ignore:.*few:UserWarning")
KILLS = int(os.environ.get("DDPM_HUB_KILLS", "10"))  # `make test-long`: 50
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The state after 40 steps in one go, their losses, and the seconds they took."""
    folder, began = tmp_path_factory.mktemp("uninterrupted"), time.monotonic()
    losses = victim.run(folder)
    return victim.state_of(folder), losses, time.monotonic() - began


def assert_same(state, expected):
    """Equal names and equal bits: weights, average, both moments, the losses of all steps."""
    assert state.keys() == expected.keys()
    different = [name for name in state if not torch.equal(state[name], expected[name])]
    assert different == []


def leftovers(folder):
    return [p.name for p in Path(folder).rglob("*") if p.name.endswith(".tmp")]


def test_a_state_holds_weights_average_moments_and_losses(uninterrupted):
    state, losses, _ = uninterrupted
    kinds = {name.split(".")[0] for name in state}
    assert kinds == {"model", "ema", "optimizer", "losses", "loss_by_t", "ema_updates"}
    assert state["losses"].tolist() == losses and len(losses) == 40
    moments = [n for n in state if n.endswith("exp_avg_sq")]
    assert len(moments) == len(list(victim.model().parameters()))


# an epoch is 2.5 steps: 5 is an epoch's end, 6 its middle, 1 the first, 39 just before the last
@pytest.mark.parametrize("at", [1, 5, 6, 39])
def test_n_steps_then_m_resumed_equal_n_plus_m(at, uninterrupted, tmp_path):
    run = train(
        victim.model(), victim.images(), victim.replace(victim.CONFIG, results_folder=str(tmp_path))
    )
    first = [event.loss for event in islice(run, at)]
    run.close()
    assert len(checkpoint.read_curve(tmp_path)) == at
    rest = victim.run(tmp_path)
    assert [x.hex() for x in first + rest] == [x.hex() for x in uninterrupted[1]]
    assert_same(victim.state_of(tmp_path), uninterrupted[0])


def test_the_first_ten_losses_are_those_of_the_golden_file(uninterrupted):
    """Bit for bit on the kind of CPU they were recorded on; other vector units round elsewhere."""
    golden = json.loads((HERE / "golden" / "first_losses.json").read_text())
    losses = uninterrupted[1][:10]
    if torch.backends.cpu.get_cpu_capability() == golden["cpu"]:
        assert [loss.hex() for loss in losses] == golden["losses"]
    assert losses == pytest.approx([float.fromhex(x) for x in golden["losses"]], rel=1e-4)


def started(server, folder):
    """A process that trains into `folder`: mostly past its first step, sometimes before it.

    Its start, with all that torch imports late, may take longer than all its steps.
    """
    here, there = server.Pipe(duplex=False)
    process = server.Process(target=victim.run, args=(str(folder), there))
    process.start()
    there.close()
    process.pipe = here  # open as long as the process may write to it
    if random.random() < 0.8:
        assert here.poll(120)  # "started", or the end of a run that had no step left
    return process


@pytest.fixture(scope="module")
def server():
    """Forks processes that have imported everything already."""
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))  # what the server's imports see
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["victim"])
        yield context


def test_a_run_killed_at_random_moments_ends_as_if_nothing_had_happened(
    server, uninterrupted, tmp_path
):
    """kill -9, `DDPM_HUB_KILLS` times; a run that ends is followed by a new one."""
    kills, runs, killed_at = 0, 0, []
    while kills < KILLS:
        folder = tmp_path / str(runs)
        process = started(server, folder)
        # no seed: other moments every time; sooner than a run takes, however busy the machine
        process.join(random.uniform(0.0, 0.5 * uninterrupted[2]))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        runs += process.exitcode == 0
        assert process.exitcode in (0, -signal.SIGKILL)
        states = [checkpoint.read(path)[1] for path in checkpoint.all_of(folder).values()]
        killed_at += [states[-1]["step"]] if states else []  # and every one could be read
    for folder in tmp_path.iterdir():
        victim.run(folder)
        assert_same(victim.state_of(folder), uninterrupted[0])
        assert leftovers(folder) == []
    assert len(set(killed_at)) > 1
