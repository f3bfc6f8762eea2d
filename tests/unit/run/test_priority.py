"""The order in which a budget is spent, and what it leaves out."""

from __future__ import annotations

import pytest
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError
from finetune_compat.run.estimate import START_S, makespan
from finetune_compat.run.priority import Task, Why, by_importance, cut, edges, format_span, parse_span
from hypothesis import given
from hypothesis import strategies as st

TASKS = st.lists(
    st.builds(
        Task,
        cell=st.builds("{}/f[{}]@cpu".format, st.sampled_from("abc"), st.integers(0, 50)),
        seconds=st.floats(0.1, 100),
        why=st.frozensets(st.sampled_from(Why)),
    ),
    max_size=30,
    unique_by=lambda task: task.cell,
)


def task(cell: str, seconds: float, *why: Why) -> Task:
    return Task(f"{cell}/f[x]@cpu", seconds, frozenset(why))


def test_changed_cells_come_first_then_failures_then_edges_then_the_rest() -> None:
    """Among equals the cheapest comes first, so that more cells run."""
    rest, dear = task("a", 1.0), task("b", 9.0, Why.CHANGED)
    cheap, red, edge = task("c", 1.0, Why.CHANGED), task("d", 1.0, Why.RED), task("e", 1.0, Why.EDGE)
    assert by_importance([rest, edge, red, dear, cheap]) == (cheap, dear, red, edge, rest)


@given(TASKS, st.floats(0, 500), st.integers(1, 4))
def test_a_budget_is_kept_to_and_loses_nothing(tasks: list[Task], budget: float, jobs: int) -> None:
    """The chosen cells end in time, including starts; chosen and omitted cells are exactly the given ones."""
    found = cut(tasks, budget, jobs, splits=False)
    assert sorted((*found.kept, *found.left_out), key=lambda t: t.cell) == sorted(tasks, key=lambda t: t.cell)
    load: dict[str, float] = {}
    for kept in found.kept:
        load[parse_cell(kept.cell).stack] = load.get(parse_cell(kept.cell).stack, START_S) + kept.seconds
    assert makespan(load.values(), jobs) <= budget or not found.kept


@given(TASKS)
def test_with_time_enough_nothing_is_left_out(tasks: list[Task]) -> None:
    """This is a budget above the sum of all durations."""
    assert cut(tasks, sum(t.seconds for t in tasks) + 3 * START_S + 1, 1, splits=False).left_out == ()


def test_a_cell_that_does_not_fit_makes_room_for_a_smaller_one() -> None:
    """A cell that is too long does not end the selection."""
    long, short = task("a", 100.0, Why.CHANGED), task("b", 1.0)
    found = cut([long, short], START_S + 5, 1, splits=False)
    assert (found.kept, found.left_out) == ((short,), (long,))


def test_more_fits_on_several_workers() -> None:
    """Twenty cells of 3 s on one stack take one worker 60 s after its start, and two workers 30 s."""
    tasks = [Task(f"a/f[{number}]@cpu", 3.0, frozenset()) for number in range(20)]
    assert len(cut(tasks, START_S + 30, 2, splits=False).kept) == 10
    assert len(cut(tasks, START_S + 30, 2, splits=True).kept) == 20


def test_an_edge_is_where_neighbours_have_other_issues_listed() -> None:
    """Both sides of the edge count: the last release with the old issues and the first with the new ones."""
    assert edges({"0.18": [], "0.19": [], "0.20": ["bug"], "0.21": ["bug"], "0.22": []}) == {
        "0.19",
        "0.20",
        "0.21",
        "0.22",
    }
    assert edges({"0.18": ["bug"], "0.19": ["bug"]}) == frozenset()


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("1h30m", 5400), ("90s", 90), ("90", 90), ("0.5h", 1800), (" 2m ", 120)]
)
def test_a_duration_is_parsed(text: str, seconds: float) -> None:
    """Hours, minutes and seconds have their letter; a number alone is seconds."""
    assert parse_span(text, "--budget") == seconds


@pytest.mark.parametrize("text", ["", "soon", "30x", "m", "0m", "-5m", "1m2h"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    """The message says what to write."""
    with pytest.raises(CompatError) as raised:
        parse_span(text, "--budget")
    assert str(raised.value) == f"--budget: {text!r} is not a valid duration\nWrite it as 30m, 1h30m or 90s."


@pytest.mark.parametrize(
    ("seconds", "told"), [(45, "45 s"), (89.4, "89 s"), (100, "2 min"), (3599, "1 h 0 min"), (3900, "1 h 5 min")]
)
def test_a_duration_is_formatted_in_a_suitable_unit(seconds: float, told: str) -> None:
    """It is in seconds up to a minute and a half, then in minutes, then in hours and minutes."""
    assert format_span(seconds) == told
