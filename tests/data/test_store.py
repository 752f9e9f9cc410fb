"""Where pixels lie: memory for small sets, for large ones a file that a crash cannot spoil."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_hub.data import store
from ddpm_hub.data.store import Pictures, decode
from ddpm_hub.errors import DataError
from ddpm_hub.images import Unreadable

SHAPE = (3, 4, 5)


def pictures(count=100, key="a", broken=(3, 4, 99), read=None) -> Pictures:
    """`count` pictures that are all i, some of them broken."""

    def picture(i):
        if i in broken:
            raise Unreadable("torn", "glue it")
        return np.full(SHAPE, i % 256, np.uint8)

    return Pictures([f"{i}.png" for i in range(count)], read or picture, lambda: key)


def never(_):
    raise AssertionError("decoded again")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Everything is too large for memory; the folder where it goes."""
    monkeypatch.setattr(store, "IN_MEMORY", 0)
    monkeypatch.setenv("DDPM_HUB_CACHE", str(tmp_path))
    return tmp_path / "data"


def images_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_what_fits_is_decoded_into_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_HUB_CACHE", str(tmp_path))
    images, refused = decode(pictures(), SHAPE, False)
    assert refused == {3: "torn", 4: "torn", 99: "torn"} and images.shape == (97, *SHAPE)
    assert images[:, 0, 0, 0].tolist() == [i for i in range(100) if i not in refused]
    assert list(tmp_path.iterdir()) == []


def test_what_would_take_much_of_the_free_memory_is_mapped(tmp_path, monkeypatch):
    assert 2**20 < store.free_memory() < 2**60
    monkeypatch.setattr(store, "free_memory", lambda: 4.0 * 100 * 60 - 1)
    monkeypatch.setenv("DDPM_HUB_CACHE", str(tmp_path))
    decode(pictures(), SHAPE, False)
    assert len(images_in(tmp_path / "data")) == 1


def test_a_large_set_is_mapped_and_decoded_only_once(cache):
    first = decode(pictures(), SHAPE, False)
    again = decode(pictures(read=never), SHAPE, False)
    assert again.refused == first.refused == {3: "torn", 4: "torn", 99: "torn"}
    assert torch.equal(again.images, first.images) and first.images.shape == (97, *SHAPE)
    assert images_in(cache)[0] == images_in(cache)[-1]
    assert (cache / images_in(cache)[0]).stat().st_size < 97 * 60 + 200


def test_other_pictures_or_another_size_are_another_file(cache):
    decode(pictures(), SHAPE, False)
    decode(pictures(key="b"), SHAPE, False)
    decode(pictures(read=lambda i: np.zeros((3, 5, 5), np.uint8)), (3, 5, 5), False)
    assert len(images_in(cache)) == 3


@pytest.mark.parametrize("damage", ["half", "empty", "tail", "json", "longer"])
def test_a_damaged_file_is_not_believed(cache, damage):
    whole = decode(pictures(), SHAPE, False).images.clone()
    path = cache / images_in(cache)[0]
    data = path.read_bytes()
    path.write_bytes(
        {
            "half": data[: len(data) // 2],
            "empty": b"",
            "tail": data[:-1] + b"x",
            "json": data.replace(b'"shape"', b'"shade"'),
            "longer": b"x" + data,
        }[damage]
    )
    assert torch.equal(decode(pictures(), SHAPE, False).images, whole)


def test_being_killed_while_decoding_leaves_nothing_that_is_believed(cache):
    """A process that dies in the middle; the next one decodes all and clears away."""
    program = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}
from test_store import SHAPE, pictures
from ddpm_hub.data import store
store.IN_MEMORY = 0
store.decode(pictures(), SHAPE, lambda done, total: done > 40 and os.kill(os.getpid(), 9))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [name[-4:] for name in images_in(cache)] == [".tmp"]
    assert len(decode(pictures(), SHAPE, False).images) == 97
    assert [name[-7:] for name in images_in(cache)] == [".images"]


@pytest.mark.parametrize("where", ["memory", "file"])
def test_whoever_watches_sees_all_and_can_stop_it(where, cache, monkeypatch):
    if where == "memory":
        monkeypatch.setattr(store, "IN_MEMORY", 2**30)
    seen = []
    decode(pictures(count=1000, broken=()), SHAPE, lambda *told: seen.append(told))
    assert seen == sorted(seen) and seen[-1] == (1000, 1000) and len(seen) > 10

    started = []

    def slow_but_for_the_first_200(i):
        started.append(i)
        time.sleep(0.01 * (i >= 200))
        return np.zeros(SHAPE, np.uint8)

    def enough(done, total):
        if done > store.TRIED:  # by threads
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(pictures(200_000, "slow", (), slow_but_for_the_first_200), SHAPE, enough)
    assert len(started) < 300  # the rest of what a thread has before it is not begun
    assert len(images_in(cache) if cache.exists() else ()) == (where == "file")


def test_whoever_watches_a_few_sees_all_of_them():
    seen = []
    decode(pictures(3, broken=()), SHAPE, lambda *told: seen.append(told))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_only_pictures_that_take_a_while_are_worth_threads(monkeypatch):
    monkeypatch.setattr(store, "workers", lambda: 4)

    def threads(seconds):
        names = set()

        def read(i):
            names.add(threading.current_thread().name)
            time.sleep(seconds)
            return np.zeros(SHAPE, np.uint8)

        decode(pictures(100, "timed", (), read), SHAPE, False)
        return len(names - {threading.current_thread().name})

    assert threads(0) == 1 and threads(0.002) == 4


def test_a_bar_is_drawn_only_where_it_is_wanted(capsys):
    with store.told(False, 10) as tell:
        tell(10)
    assert capsys.readouterr().err == ""
    with store.told(True, 10) as tell:
        tell(10)
    assert capsys.readouterr().err == ""  # it was quick: no bar before two seconds


def test_two_at_once_decode_once(cache):
    count, results = [], []

    def watch(done, total):
        count.append(done)

    def load():
        results.append(decode(pictures(), SHAPE, watch).images)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(torch.equal(results[0], other) for other in results)
    assert count == sorted(set(count))  # told once


def test_a_full_disk_is_a_sentence_and_leaves_nothing(cache):
    """A limit on the size of files stands for the disk: the real error, from the same call."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(DataError, match=r"images need 0\.0 GB in .*set DDPM_HUB_CACHE"):
            decode(pictures(), SHAPE, False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert images_in(cache) == []


def test_more_than_the_disk_holds_is_refused_at_once(cache):
    huge = Pictures(range(10**9), never, lambda: "huge")
    with pytest.raises(DataError, match=r"GB are free \(the disk is too full\)"):
        decode(huge, (3, 10_000, 10_000), False)


def test_a_cache_that_cannot_be_written_is_a_sentence(cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DDPM_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be made \(Not a directory\)"):
        decode(pictures(), SHAPE, False)


def test_the_cache_is_where_the_system_keeps_them_unless_told(tmp_path, monkeypatch):
    monkeypatch.delenv("DDPM_HUB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store._cache_folder() == tmp_path / "ddpm_hub" / "data"


def test_threads_are_as_many_as_the_cores_we_may_use():
    assert store.workers() == min(32, len(os.sched_getaffinity(0)))
