from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from somlib.training import schedules
from somlib.training.schedules import Decay, Schedule

positive = st.floats(1e-3, 1e3)


@given(positive, positive, st.sampled_from(["exponential", "linear"]), st.integers(2, 1000))
def test_both_ends_are_reached_exactly_and_values_are_between(a, b, decay, n):
    start, end = max(a, b), min(a, b)
    values = [Schedule(start, end, decay)(i, n) for i in (0, n // 3, n // 2, n - 1, n, 10 * n)]
    assert values[0] == start
    assert values[-3:] == [end] * 3
    assert all(x >= y * (1 - 1e-12) for x, y in pairwise(values))


def test_exponential_is_the_formula_of_the_papers():
    # DESOM, algorithm 1: T = T_max (T_min / T_max)^(i / (n - 1)) with 10 down to 0.1
    for i in range(11):
        assert Schedule(10, 0.1)(i, 11) == pytest.approx(10 * (0.1 / 10) ** (i / 10), rel=1e-12)


@pytest.mark.parametrize("decay", ["exponential", "linear"])
@pytest.mark.parametrize("most", [0, 7])
def test_values_that_are_kept_are_those_that_are_computed(monkeypatch, decay, most):
    monkeypatch.setattr(schedules, "MAX_KEPT_STEPS", most)
    sigma = Schedule(8.0, 0.5, decay)
    assert [sigma(i, 7) for i in range(10)] == sigma.values(0, 10, 7)
    assert [sigma(i, 3) for i in range(3)] == sigma.values(0, 3, 3)  # after another number of steps


def test_a_single_step_has_the_start_value():
    for decay in get_args(Decay):
        assert Schedule(2.0, 2.0, decay)(0, 1) == 2.0
    assert Schedule(2.0, 1.0)(0, 1) == 2.0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((0.0, 0.0), "start is 0.0, but must be a positive"),
        ((1.0, -1.0), "end is -1.0"),
        ((float("inf"), 1.0), "start is inf"),
        ((float("nan"), 1.0), "start is nan"),
        ((1.0, 2.0), "ends at 2.0 above its start 1.0"),
        ((2.0, 1.0, "constant"), "cannot go from"),
        ((2.0, 1.0, "cosine"), "decay='cosine' is unknown; choose one of"),
    ],
)
def test_invalid_schedules_raise_errors(args, message):
    with pytest.raises(ValueError, match=message):
        Schedule(*args)
