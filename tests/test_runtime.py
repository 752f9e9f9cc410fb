"""What hardware is taken for, and the number format that follows."""

import pytest
import torch

from ddpm_hub import Unet, runtime
from ddpm_hub.errors import ConfigError

CPU = torch.device("cpu")


def dtype_inside(precision):
    with runtime.autocast(CPU, precision):
        return torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype


def test_no_mixed_precision_leaves_float32_and_bf16_means_it():
    assert dtype_inside("no") == torch.float32
    assert dtype_inside("bf16") == torch.bfloat16


def test_auto_takes_bf16_exactly_where_the_processor_has_it():
    expected = torch.bfloat16 if runtime.has_bf16(CPU) else torch.float32
    assert dtype_inside("auto") == expected


def test_an_unknown_precision_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'int4'.*auto, no, bf16"):
        runtime.autocast(CPU, "int4")


def test_bf16_on_a_device_without_it_is_refused():
    with pytest.raises(ConfigError, match="meta"):
        runtime.autocast(torch.device("meta"), "bf16")


def test_the_device_is_one_that_can_compute():
    assert torch.ones(2, device=runtime.pick_device()).sum().item() == 2
    assert runtime.describe(CPU) == f"cpu, {torch.get_num_threads()} threads"


def test_a_server_leaves_a_core_free_and_computes_on_at_least_one():
    before = torch.get_num_threads()
    try:
        for threads, left in ((4, 3), (2, 1), (1, 1)):
            torch.set_num_threads(threads)
            runtime.leave_a_core()
            assert torch.get_num_threads() == left
    finally:
        torch.set_num_threads(before)


def test_channels_last_changes_the_layout_and_not_the_answer():
    torch.manual_seed(0)
    net = Unet(8, dim_mults=(1, 2), channels=1).eval()
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([1, 2])
    with torch.no_grad():
        before = net(x, t)
        after = runtime.channels_last(net)(x, t)
    assert net.mid_block1.block1.proj.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(before, after, atol=1e-5, rtol=0)


def test_fp16_can_be_asked_for_and_auto_never_is_it_on_a_processor():
    assert dtype_inside("fp16") == torch.float16
    assert runtime.precision(CPU, "auto") in ("bf16", "no")


def test_memory_of_the_cpu_has_room_for_what_lies_there():
    assert runtime.has_room(10**15, CPU) and not runtime.has_room(1, torch.device("meta"))
