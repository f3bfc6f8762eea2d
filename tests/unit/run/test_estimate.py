"""Predicted durations of cells and of a run."""

from __future__ import annotations

from finetune_compat.run.estimate import (
    CELL_S,
    OUTLIER,
    START_S,
    Took,
    cells_longest_first,
    expected,
    loads,
    longest_first,
    makespan,
    order_of,
    pace,
    took,
)
from finetune_compat.store.store import Past
from hypothesis import given
from hypothesis import strategies as st

SECONDS = st.floats(min_value=0.01, max_value=1e4)
LOADS = st.lists(SECONDS, min_size=1, max_size=20)


def test_a_cells_prediction_uses_the_most_specific_history() -> None:
    """A cell's own duration comes first, then the median of its flow and variant on other stacks, then of all."""
    known = {"a/f[x]@cpu": 1.0, "b/f[x]@cpu": 3.0, "b/g[x]@cpu": 2.0}
    found = expected(["a/f[x]@cpu", "c/f[x]@cpu", "c/h[x]@cpu"], known)
    assert found == {"a/f[x]@cpu": 1.0, "c/f[x]@cpu": 2.0, "c/h[x]@cpu": 2.0}
    assert expected(["a/f[x]@cpu"], {}) == {"a/f[x]@cpu": CELL_S}


def test_cpu_seconds_come_before_wall_clock_seconds() -> None:
    """A busy machine makes the wall-clock time of a cell longer, and not its CPU seconds."""
    took = Took(wall={"a/f[x]@cpu": 4.0, "b/f[x]@cpu": 1.0}, cpu={"a/f[x]@cpu": 1.0, "b/f[x]@cpu": 1.0})
    assert took.seconds == {"a/f[x]@cpu": 1.0, "b/f[x]@cpu": 1.0}


def test_without_cpu_seconds_the_wall_clock_counts() -> None:
    """As of a baseline of an older harness."""
    assert Took({"a/f[x]@cpu": 4.0}, {}).seconds == {"a/f[x]@cpu": 4.0}


def test_of_mixed_data_both_kinds_are_seconds_of_the_cpu() -> None:
    """A cell without CPU seconds counts with its wall-clock time times the median share of the cells with both."""
    wall = {"a/f[x]@cpu": 2.0, "b/f[x]@cpu": 2.0, "c/f[x]@cpu": 2.0, "d/f[x]@cpu": 10.0, "e/f[x]@cpu": 0.0}
    took = Took(wall, {"a/f[x]@cpu": 1.0, "b/f[x]@cpu": 1.5, "c/f[x]@cpu": 2.0, "e/f[x]@cpu": 0.0})
    assert took.share == 0.75
    assert took.seconds == took.cpu | {"d/f[x]@cpu": 7.5}


def test_a_later_measurement_replaces_both_kinds() -> None:
    """The CPU seconds of an earlier one are not those of the new wall-clock time."""
    before = Took({"a/f[x]@cpu": 2.0, "b/f[x]@cpu": 2.0}, {"a/f[x]@cpu": 1.0, "b/f[x]@cpu": 2.0})
    assert before.then(Took({"a/f[x]@cpu": 3.0}, {})) == Took(
        {"a/f[x]@cpu": 3.0, "b/f[x]@cpu": 2.0}, {"b/f[x]@cpu": 2.0}
    )
    assert before.then(Took({"b/f[x]@cpu": 5.0}, {"b/f[x]@cpu": 4.0})).cpu == {"a/f[x]@cpu": 1.0, "b/f[x]@cpu": 4.0}


def test_history_without_cpu_seconds_counts_too() -> None:
    """A store has files of older harnesses, and results of GPUs."""
    history = {"a/f[x]@cpu": Past("0", 2.0, "pass", "2026-01-01", 1.0), "b/f[x]@cpu": Past("1", 4.0, None, "2025")}
    assert took(history) == Took({"a/f[x]@cpu": 2.0, "b/f[x]@cpu": 4.0}, {"a/f[x]@cpu": 1.0})


def test_a_single_slow_observation_is_not_used() -> None:
    """The first cell of a process imports the stack, so its duration is not the cell's."""
    known = {f"s{n}/f[x]@cpu": 1.0 for n in range(5)} | {"slow/f[x]@cpu": 500.0}
    assert expected(["slow/f[x]@cpu"], known) == {"slow/f[x]@cpu": OUTLIER}


def test_a_stack_costs_its_start_once_and_not_when_it_has_begun() -> None:
    """All its cells share one process."""
    seconds = {"a/f[x]@cpu": 1.0, "a/g[x]@cpu": 2.0, "b/f[x]@cpu": 5.0}
    assert loads(seconds) == {"a": START_S + 3.0, "b": START_S + 5.0}
    assert loads(seconds, frozenset({"b"})) == {"a": START_S + 3.0, "b": 5.0}


def test_the_longest_stack_is_started_first() -> None:
    """The order of equal stacks is always the same."""
    assert longest_first({"a": 1.0, "c": 9.0, "b": 9.0}) == ("b", "c", "a")


@given(LOADS, st.integers(min_value=1, max_value=8))
def test_a_run_lasts_as_long_as_its_longest_stack_and_its_share_of_the_work(load: list[float], jobs: int) -> None:
    """It is not shorter than either, and not longer than both in sequence."""
    lasts, least = makespan(load, jobs), max(*load, sum(load) / jobs)
    assert least <= lasts * (1 + 1e-9)
    assert lasts <= sum(load) * (1 + 1e-9)
    assert lasts <= (sum(load) / jobs + max(load)) * (1 + 1e-9)


@given(LOADS, st.integers(min_value=1, max_value=8), SECONDS)
def test_more_work_never_ends_sooner(load: list[float], jobs: int, more: float) -> None:
    """If every stack takes longer by a factor, the run does too."""
    share = 1 + more
    assert abs(makespan([seconds * share for seconds in load], jobs) - makespan(load, jobs) * share) <= 1e-6 * (
        makespan(load, jobs) * share
    )


def test_pace_is_one_until_enough_cells_were_observed() -> None:
    """Afterwards it is the ratio of measured and predicted durations."""
    assert pace([5.0], [START_S / 2]) == 1.0
    assert pace([30.0], [START_S * 2]) == 30.0 / (START_S * 2)


def test_several_workers_take_the_longest_cells_first() -> None:
    """Equal ones keep their order."""
    assert cells_longest_first({"a/f[x]@cuda": 1.0, "a/g[x]@cuda": 9.0, "a/h[x]@cuda": 1.0}) == (
        "a/g[x]@cuda",
        "a/f[x]@cuda",
        "a/h[x]@cuda",
    )


def test_the_longest_stack_starts_first_unless_time_may_run_out() -> None:
    """With a budget, the stack with the most important cell starts first."""
    seconds = {"small-py311/a[x]@cpu": 1.0, "large-py311/a[x]@cpu": 5.0, "small-py311/b[x]@cpu": 1.0}
    assert order_of(seconds, by_importance=False) == ("large-py311", "small-py311")
    assert order_of(seconds, by_importance=True) == ("small-py311", "large-py311")
