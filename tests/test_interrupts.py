"""Ctrl-C and SIGTERM: what must not be divided is not, and a first signal asks politely."""

import signal
import threading

import pytest

from ddpm_hub.training.follow import Interrupted, follow
from ddpm_hub.training.interrupts import stopping, undivided
from ddpm_hub.training.loop import Event


def event(step):
    return Event(step, 9, 0.5, 1.0, 1e-3, 10.0, 1.0, smoothed_loss=0.5)


def test_a_signal_in_an_undivided_block_comes_when_it_is_over():
    done = []
    with pytest.raises(KeyboardInterrupt), undivided():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest of the block")
    assert done == ["the rest of the block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_there_is_nothing_to_hold_and_nothing_breaks():
    done = []

    def work():
        with undivided(), stopping(done.append) as stop:
            done.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [None]


def test_the_first_signal_asks_and_the_second_raises():
    said = []
    with pytest.raises(KeyboardInterrupt), stopping(said.append) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert (stop.asked, said) == ("SIGTERM", ["SIGTERM"])
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_drain_that_is_interrupted_finishes_the_step_closes_and_says_so():
    closed = []

    def events():
        try:
            for step in range(1, 10):
                if step == 3:
                    signal.raise_signal(signal.SIGINT)  # in the middle of step 3
                yield event(step)
        finally:
            closed.append(True)

    seen = []
    with pytest.raises(Interrupted, match=r"SIGINT.*saved") as caught:
        follow(events(), 9, progress=False, sinks=[seen.append])
    assert [e.step for e in seen] == [1, 2, 3] and closed == [True]
    assert caught.value.last.step == 3 and isinstance(caught.value, KeyboardInterrupt)


def test_a_drain_to_the_end_gives_the_last_event_and_nothing_gives_none(capfd):
    assert follow(iter_of(2), 2).step == 2
    assert "2/2" in capfd.readouterr().err
    assert follow(iter_of(0), 2, progress=False) is None


def iter_of(count):
    yield from (event(step) for step in range(1, count + 1))
