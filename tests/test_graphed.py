"""Calls that a GPU replays: which recording answers which call. That it is right: tests/gpu.py."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from ddpm_hub.nets import graphed as rooms
from ddpm_hub.nets.graphed import graphed


class Doubling(nn.Module):
    """Answers 2 x + time, and more if it is asked for more."""

    num_classes = 7

    def forward(self, x, time, x_self_cond=None, classes=None):
        answer = 2 * x + time[:, None]
        answer = answer if x_self_cond is None else answer + x_self_cond
        return answer if classes is None else answer * classes[:, None]


@pytest.fixture
def recorded(monkeypatch):
    """The shapes that were recorded; a recording here is a network called again, on the CPU.

    Like a real one it has one place for its arguments, and one for its answer.
    """
    shapes = []

    def record(forward, given):
        shapes.append({name: tuple(value.shape) for name, value in given.items()})
        places = {name: value.clone() for name, value in given.items()}
        answer = forward(**places)

        def replay(given):
            for name, value in given.items():
                places[name].copy_(value)
            answer.copy_(forward(**places))
            return answer.clone()

        return replay

    monkeypatch.setattr(rooms, "record", record)
    return shapes


def call(net, batch, start=0, **more):
    x = torch.arange(start, start + batch).float()[:, None]
    return net(x, torch.full((batch,), 100.0), **more)


def test_each_kind_of_call_is_recorded_once(recorded):
    net = graphed(Doubling())
    assert net.num_classes == 7  # what a process asks of its network is still there
    for start in (0, 5, 9):
        assert call(net, 2, start).flatten().tolist() == [100 + 2 * start, 102 + 2 * start]
    assert recorded == [{"x": (2, 1), "time": (2,)}]
    assert call(net, 1, classes=torch.tensor([3])).item() == 300
    assert call(net, 1, x_self_cond=torch.ones(1, 1)).item() == 101
    assert call(net, 1, x_self_cond=None).item() == 100
    assert len(recorded) == 4


def test_a_network_is_called_by_position_as_its_own_names_want(recorded):
    class Own(nn.Module):
        def forward(self, image, t, estimate=None):
            return image + t[:, None]

    assert call(graphed(Own()), 1, 4).item() == 104


def test_those_asked_for_last_are_kept(recorded):
    net = graphed(Doubling())
    for batch in range(1, rooms.KEPT + 1):
        call(net, batch)
    call(net, 1)  # stands last now
    call(net, rooms.KEPT + 1)  # the second goes
    known = len(recorded)
    call(net, 1)
    assert len(recorded) == known
    call(net, 2)
    assert len(recorded) == known + 1


def test_threads_take_turns_and_get_their_own_answers(recorded):
    net = graphed(Doubling())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda start: call(net, 3, start), range(200)))
    for start, answer in enumerate(answers):
        assert answer.flatten().tolist() == [100 + 2 * (start + i) for i in range(3)]
    assert len(recorded) == 1
