"""Samples for evaluation: drawn in chunks, by any number of processes, outlasting a crash."""

from dataclasses import replace

import draw_program
import numpy as np
import pytest
import torch
from eval_support import FEW, program
from support import needs_bf16, random_diffusion

from ddpm_hub import evaluate
from ddpm_hub.errors import ConfigError, DataError
from ddpm_hub.evaluate import Drawing, drawing, work
from ddpm_hub.images import to_uint8
from ddpm_hub.randomness import mixed_seed


def test_a_chunk_is_what_sample_draws_with_the_seed_of_its_number():
    diffusion = random_diffusion()
    images = evaluate.draw_samples(diffusion, FEW).images
    assert images.dtype == torch.uint8 and images.shape == (5, 1, 8, 8)
    for chunk in range(3):
        seed = mixed_seed("evaluation", 0, chunk)
        whole = diffusion.sample(2, sampler="ddpm", steps=3, seed=seed, progress=False)
        expected = torch.from_numpy(to_uint8(whole)).permute(0, 3, 1, 2)
        part = images[2 * chunk : 2 * chunk + 2]
        assert torch.equal(part, expected[: len(part)])


def test_fewer_samples_are_the_first_of_more_and_cost_nothing_then(tmp_path):
    diffusion = random_diffusion()
    many = evaluate.draw_samples(diffusion, FEW, cache=tmp_path).images
    steps = list(evaluate.draw_stream(diffusion, replace(FEW, n=3), cache=tmp_path))
    few = evaluate.draw_samples(diffusion, replace(FEW, n=3), cache=tmp_path).images
    assert steps == [] and torch.equal(few, many[:3])


def test_drawing_that_was_interrupted_goes_on_with_the_chunk_it_was_in(tmp_path):
    diffusion = random_diffusion()
    expected = evaluate.draw_samples(diffusion, FEW).images
    stopped = evaluate.draw_stream(diffusion, FEW, cache=tmp_path)
    for _ in range(5):  # a chunk of three calls, and two of the next
        next(stopped)
    stopped.close()
    calls = []
    rest = evaluate.draw_stream(diffusion, FEW, cache=tmp_path)
    assert torch.equal(evaluate.finish(rest, calls.append).images, expected)
    assert [(p.done, p.total) for p in calls] == [(n, 6) for n in range(1, 7)]
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_another_run_draws_meanwhile_is_not_drawn_twice(tmp_path):
    diffusion = random_diffusion()
    first = evaluate.draw_stream(diffusion, FEW, cache=tmp_path)
    next(first)
    expected = evaluate.draw_samples(diffusion, FEW, cache=tmp_path).images
    rest = []
    assert torch.equal(evaluate.finish(first, rest.append).images, expected)
    assert len(rest) == 2  # the chunk it was in


def test_a_chunk_that_could_not_be_written_whole_is_not_there(tmp_path, monkeypatch):
    def half(file, *_, **__):
        file.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "save", half)
    pieces = work.Pieces(tmp_path, 1, {})
    with pytest.raises(OSError, match="full"):
        pieces.put(0, np.zeros(3))
    assert pieces.missing() == [0] and not list(tmp_path.iterdir())


def test_the_key_of_samples_changes_with_all_that_pixels_depend_on_and_with_nothing_else():
    diffusion = random_diffusion()

    def key(diffusion=diffusion, **changes):
        return drawing.folder(diffusion, replace(FEW, **changes), "cache").name

    other = random_diffusion()
    other.model.final_conv.bias.data[0] += 1e-6
    different = [
        key(),
        key(seed=1),
        key(sampler="ddim"),
        key(steps=4),
        key(batch_size=3),
        key(mixed_precision="bf16"),
        key(runtime="packed"),
        key(options={"clip_x_start": False}),
        key(sampler="ddim", options={"eta": 0.5}),
        key(steps=6, options={"spacing": "trailing"}),
        key(other),
        key(random_diffusion(beta_schedule="linear")),
        key(random_diffusion(unet={"sinusoidal_pos_emb_theta": 100})),  # no weight shows it
    ]
    assert len(set(different)) == len(different)
    assert key(n=4) == key(options={"eta": None, "spacing": "linspace"}) == key(random_diffusion())


def test_half_precision_is_in_force_within_the_network_only_and_leaves_its_memory_as_it_was():
    diffusion = random_diffusion()
    seen, layouts = [], [p.stride() for p in diffusion.parameters()]
    diffusion.model.final_conv.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    for _ in evaluate.draw_stream(diffusion, replace(FEW, mixed_precision="bf16")):
        assert not torch.is_autocast_enabled("cpu")
    assert set(seen) == {torch.bfloat16}
    assert [p.stride() for p in diffusion.parameters()] == layouts


@needs_bf16
def test_the_fast_copy_draws_nearly_the_same_and_is_named_in_the_report():
    diffusion = random_diffusion()
    samples = evaluate.draw_samples(diffusion, replace(FEW, runtime="packed"))
    assert samples.about["precision"] == "bf16, packed"
    exact = evaluate.draw_samples(diffusion, FEW).images
    apart = (samples.images.float() - exact.float()).abs()
    assert 0 < apart.mean() < 5
    assert type(diffusion.model.init_conv) is torch.nn.Conv2d  # the process keeps its own network


def test_two_processes_share_the_chunks_and_one_can_finish_what_they_began(tmp_path):
    shared = program("draw_program.py", str(tmp_path / "two"), "9", processes=2)
    calls = {line["rank"]: line["calls"] // draw_program.STEPS for line in shared}
    assert calls == {0: 3, 1: 2}
    alone, counted = drawn_here(tmp_path / "alone")
    assert counted == 5 * draw_program.STEPS
    assert {line["digest"] for line in shared} == {draw_program.digest(alone)}
    next((tmp_path / "two").rglob("chunk-00003.npy")).unlink()
    again, counted = drawn_here(tmp_path / "two")
    assert counted == draw_program.STEPS and torch.equal(again, alone)


def drawn_here(cache):
    """The program's samples, drawn in this process on one thread; and the network calls."""
    threads, calls = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        work = evaluate.draw_stream(random_diffusion(), draw_program.drawing(9), cache=cache)
        return evaluate.finish(work, calls.append).images, len(calls)
    finally:
        torch.set_num_threads(threads)


def test_drawing_that_cannot_be_is_a_sentence(tmp_path):
    for arguments, says in (
        ({"n": 1}, r"samples 1 .*use a whole number from 2"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"seed": -1}, "seed -1"),
        ({"mixed_precision": "int8"}, "'int8'"),
        ({"runtime": "auto"}, "'auto'"),
        ({"runtime": "packed", "mixed_precision": "bf16"}, "bfloat16 by itself"),
        ({"options": {"colour": 1}}, "unknown sampling option 'colour': choose one of eta"),
        ({"options": {"noise": 1}}, "unknown sampling option 'noise'"),
    ):
        with pytest.raises(ConfigError, match=says):
            Drawing(**arguments)
    with pytest.raises(ConfigError, match="2 processes share samples through a cache"):
        next(evaluate.draw_stream(random_diffusion(), FEW, team=drawing.Team(0, 2)))
    evaluate.draw_samples(random_diffusion(), FEW, cache=tmp_path)
    chunk = next(tmp_path.rglob("chunk-00001.npy"))
    chunk.write_bytes(b"no array")
    with pytest.raises(DataError, match=r"chunk-00001.npy' cannot be read .*: delete it"):
        evaluate.draw_samples(random_diffusion(), FEW, cache=tmp_path)
