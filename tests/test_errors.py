"""The checks of plain arguments: what passes, and the sentence for what does not."""

import numpy as np
import pytest

from ddpm_hub import errors
from ddpm_hub.errors import (
    ConfigError,
    DDPMHubError,
    check_bool,
    check_choice,
    check_float,
    check_int,
)


def test_every_error_of_ours_is_one_family():
    ours = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert len(ours) == 6 and all(issubclass(e, DDPMHubError) for e in ours)


@pytest.mark.parametrize("value", [1, 10, np.int64(3)])
def test_a_whole_number_within_its_limits_passes_as_an_int(value):
    assert type(check_int("n", value, 1, 10)) is int


@pytest.mark.parametrize("value", [0, 11, 2.0, True, "3", None, [3], float("nan"), 10**400])
def test_what_is_not_a_whole_number_within_its_limits_is_named_with_them(value):
    with pytest.raises(ConfigError, match=r"^n .* is not a whole number in 1 \.\. 10: use"):
        check_int("n", value, 1, 10)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), True, "0.5", None, 1j])
def test_what_is_not_a_number_within_its_limits_is_named_with_them(value):
    with pytest.raises(ConfigError, match=r"^p .* is outside \[0, 1\]: use"):
        check_float("p", value, 0, 1)


def test_a_number_within_its_limits_passes():
    assert check_float("p", np.float32(0.5), 0, 1) == 0.5 and check_float("p", 1, 0, 1) == 1


@pytest.mark.parametrize("value", [1, 0, "True", None])
def test_a_switch_is_true_or_false_and_nothing_like_it(value):
    with pytest.raises(ConfigError, match="use True or False"):
        check_bool("s", value)


@pytest.mark.parametrize("value", ["c", None, ["a"], "A"])
def test_an_unknown_name_lists_the_known_ones(value):
    with pytest.raises(ConfigError, match="choose one of a, b"):
        check_choice("letter", value, ("a", "b"))


def test_a_hostile_value_does_not_fill_the_screen():
    with pytest.raises(ConfigError) as caught:
        check_int("n", "x" * 100_000, 1, 10)
    assert len(str(caught.value)) < 200
