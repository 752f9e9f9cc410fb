"""Batches as a function of seed and position, and random numbers as a function of their names."""

import random

import numpy as np
import torch

from ddpm_hub.data import ImageSet, ImageStream
from ddpm_hub.data.feed import Feed, feed_for
from ddpm_hub.randomness import SeededGlobals, generator, mixed_seed

CPU = torch.device("cpu")


def numbered(count):
    """An image set whose i-th image is i everywhere, with labels."""
    images = torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1).expand(count, 1, 4, 4)
    return ImageSet(images.contiguous(), "numbers", labels=torch.arange(count))


def ids(batch):
    return (batch[:, 0, 0, 0] * 255).round().int().tolist()


def test_an_epoch_shows_each_image_once_in_an_order_of_its_own():
    feed = Feed(numbered(12), 0, False, CPU)
    epochs = [ids(feed.take(start, 12)[0]) for start in (0, 12)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 2
    assert epochs[0] != epochs[1]


def test_any_position_can_be_taken_at_once_and_another_seed_is_another_order():
    feed = Feed(numbered(12), 3, True, CPU)
    whole, _ = feed.take(0, 40)
    assert torch.equal(Feed(numbered(12), 3, True, CPU).take(17, 9)[0], whole[17:26])
    assert ids(Feed(numbered(12), 4, True, CPU).take(0, 12)[0]) != ids(whole[:12])


def test_labels_follow_their_images():
    batch, labels = Feed(numbered(12), 0, True, CPU).take(5, 20)
    assert labels.tolist() == ids(batch)


def test_two_processes_share_a_batch_without_overlap():
    whole = ids(Feed(numbered(12), 0, False, CPU).take(8, 8)[0])
    shares = [ids(feed_for(numbered(12), 0, False, CPU, (r, 2)).take(8, 8)[0]) for r in (0, 1)]
    assert shares[0] + shares[1] == whole


def test_a_set_smaller_than_a_batch_fills_it():
    batch, _ = Feed(numbered(3), 0, True, CPU).take(0, 8)
    assert sorted(ids(batch[:3])) == sorted(ids(batch[3:6])) == [0, 1, 2]


def test_batches_are_in_the_unit_range_and_half_are_mirrored():
    images = torch.zeros(200, 1, 2, 2, dtype=torch.uint8)
    images[..., 0] = 255
    batch, _ = Feed(ImageSet(images, "halves"), 0, True, CPU).take(0, 200)
    assert batch.min() == 0 and batch.max() == 1
    assert 0.35 < (batch[:, 0, 0, 0] == 0).float().mean() < 0.65
    plain, _ = Feed(ImageSet(images, "halves"), 0, False, CPU).take(0, 200)
    assert (plain[:, 0, 0, 0] == 1).all()


def test_a_seed_is_a_function_of_its_names():
    assert mixed_seed("a", 1) == mixed_seed("a", 1) != mixed_seed("a", 2)
    assert len({mixed_seed("noise", 0, step) for step in range(10_000)}) > 9_990
    first, second = (torch.rand(3, generator=generator(CPU, "x", 1)) for _ in range(2))
    assert torch.equal(first, second)


def test_inside_all_global_generators_are_seeded_and_outside_nobody_notices():
    def draw():
        return torch.rand(1).item(), np.random.rand(), random.random()

    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = draw()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    with SeededGlobals(CPU, "step", 1):
        inside = draw()
    assert draw() == expected
    with SeededGlobals(CPU, "step", 1):
        assert draw() == inside
    with SeededGlobals(CPU, "step", 2):
        assert draw() != inside


def numbers_forever(seed, rank, size):
    """Rows of a stream: 0, 1, 2, ... from the seed on, dealt out to the processes."""
    yield from range(seed + rank, 255, size)


def test_a_stream_is_read_forward_and_taken_up_again_anywhere():
    stream = ImageStream(
        (1, 4, 4), "numbers", numbers_forever, lambda i: np.full((1, 4, 4), i, np.uint8)
    )
    feed = feed_for(stream, 3, False, CPU)
    first, labels = feed.take(0, 4)
    assert labels is None and ids(first) == [3, 4, 5, 6]  # the order is the seed's
    assert ids(feed.take(4, 4)[0]) == [7, 8, 9, 10]
    assert ids(feed_for(stream, 3, False, CPU).take(4, 4)[0]) == [7, 8, 9, 10]
    shares = [ids(feed_for(stream, 3, False, CPU, (rank, 2)).take(4, 4)[0]) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == [7, 8, 9, 10]
