"""A simulated run: never below the bound, and as short as a person would arrange it."""

from __future__ import annotations

import pytest
from finetune_compat.evidence.simulation import simulated
from finetune_compat.run.estimate import START_S, least, loads, makespan
from finetune_compat.run.workers import JOIN_S
from hypothesis import given
from hypothesis import strategies as st

SECONDS = st.dictionaries(
    st.builds("trl0.{}-py311/sft-full[v{}]@cpu".format, st.integers(0, 8), st.integers(0, 30)),
    st.floats(0.01, 60),
    min_size=1,
    max_size=150,
)


def cells(stack: str, number: int, seconds: float) -> dict[str, float]:
    """Return equal cells of a stack."""
    return {f"{stack}/sft-full[v{cell}]@cpu": seconds for cell in range(number)}


@given(seconds=SECONDS, cores=st.integers(1, 40))
def test_no_run_is_below_the_bound_or_above_one_core(seconds: dict[str, float], cores: int) -> None:
    """Every cell runs, after a start of its stack."""
    found, work = simulated(seconds, cores), loads(seconds).values()
    # A core that joins saves itself the start, and no other.
    joined = min(JOIN_S, START_S) * max(0, cores - len(work)) / cores
    assert found >= max(sum(seconds.values()) / cores, START_S + max(seconds.values())) - joined - 1e-6
    assert found <= sum(work) + 1e-6


@given(seconds=SECONDS, cores=st.integers(1, 40))
def test_whole_stacks_are_as_long_as_the_longest_first_and_no_run_is_much_longer(
    seconds: dict[str, float], cores: int
) -> None:
    """A worker that joins takes work from others, except for its start and the cell that is cut off at the end."""
    slack = JOIN_S + 2 * max(seconds.values())
    assert simulated(seconds, cores) <= makespan(loads(seconds).values(), cores) + slack + 1e-6


def test_one_core_runs_one_stack_after_another() -> None:
    """Each is started."""
    assert simulated(cells("a-py311", 5, 2.0) | cells("b-py311", 5, 3.0), 1) == pytest.approx(2 * START_S + 25)


def test_a_stack_alone_has_every_core_from_its_start() -> None:
    """All of its workers start at once."""
    assert simulated(cells("a-py311", 40, 3.0), 4) == pytest.approx(START_S + 30)


def test_a_core_joins_the_stack_that_would_end_last() -> None:
    """The short stack ends at START_S + 10. Then 90 s are left of the other, and two workers share them."""
    seconds = cells("long-py311", 100, 1.0) | cells("short-py311", 10, 1.0)
    found = simulated(seconds, 2)
    assert START_S + 10 + 90 / 2 <= found <= START_S + 10 + JOIN_S + (90 - JOIN_S) / 2 + 2


def test_the_baselines_bound_is_that_of_the_parts() -> None:
    """An empty run takes no time."""
    assert simulated({}, 4) == least([], 0.0, 4) == 0.0
