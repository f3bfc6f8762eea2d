"""Upper bounds of error rates, from counted errors."""

from __future__ import annotations

import math

import pytest
from finetune_compat.checks.rates import Rate
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 3000))
def test_without_errors_the_bound_has_a_closed_form(trials: int) -> None:
    """(1 - p) ** n = 0.05."""
    assert Rate(0, trials).upper_bound == pytest.approx(1 - 0.05 ** (1 / trials), abs=1e-8)


def test_one_of_two() -> None:
    """At most one of two: 1 - p ** 2 = 0.05."""
    assert Rate(1, 2).upper_bound == pytest.approx(math.sqrt(0.95), abs=1e-8)


@given(st.integers(0, 40), st.integers(1, 40))
def test_the_bound_is_above_the_rate_itself(wrong: int, right: int) -> None:
    """It is below 1 if at least one case was right."""
    rate = Rate(wrong, wrong + right)
    assert wrong / rate.trials < rate.upper_bound < 1


@pytest.mark.parametrize("rate", [Rate(0, 0), Rate(3, 3)])
def test_nothing_right_is_no_bound(rate: Rate) -> None:
    """A test without cases may always be wrong."""
    assert rate.upper_bound == 1.0


def test_a_rate_reads_as_what_it_is() -> None:
    """0.05 ** (1 / 200) is 0.98513."""
    assert str(Rate(0, 200)) == "0 of 200 (95 % upper bound 1.5%)"
