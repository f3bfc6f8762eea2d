"""Parts of cells: whole, balanced, and never longer than parts of whole stacks."""

from __future__ import annotations

import pytest
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.results.run_files import RowState, StackRow
from finetune_compat.run.estimate import START_S, least, loads, makespan
from finetune_compat.run.parts import SHORTEST_S, Part, by_stack, merged_row, split, whole_stacks
from hypothesis import given
from hypothesis import strategies as st

SECONDS = st.dictionaries(
    st.builds("trl0.{}-py311/sft-full[v{}]@cpu".format, st.integers(0, 8), st.integers(0, 30)),
    st.floats(0.01, 60),
    min_size=1,
    max_size=150,
)
"""Expected seconds of the cells of a few stacks."""

NUMBERS = st.integers(1, 40)


def load(cells: tuple[str, ...], seconds: dict[str, float]) -> float:
    """Return the duration of these cells on one core: each stack is started once."""
    stacks = {parse_cell(cell).stack for cell in cells}
    return sum(seconds[cell] for cell in cells) + START_S * len(stacks)


def longest(parts: list[Part] | tuple[Part, ...]) -> float:
    """Return the duration of the longest part."""
    return max(part.seconds for part in parts)


@given(seconds=SECONDS, number=NUMBERS)
def test_every_cell_is_in_exactly_one_part(seconds: dict[str, float], number: int) -> None:
    """No part is empty, and no stack is started twice in a part."""
    for parts, most in (
        (split(seconds, number), number),
        (whole_stacks(seconds, number), number),
        (by_stack(seconds, number), number * len(loads(seconds))),
    ):
        assert sorted(cell for part in parts for cell in part.cells) == sorted(seconds)
        assert 1 <= len(parts) <= most
        for part in parts:
            stacks = [parse_cell(cell).stack for cell in part.cells]
            assert part.seconds == pytest.approx(load(part.cells, seconds))
            assert list(part.stacks) == [stack for i, stack in enumerate(stacks) if i == 0 or stacks[i - 1] != stack]


@given(seconds=SECONDS, number=NUMBERS)
def test_the_longest_part_is_between_the_bound_and_that_of_whole_stacks(seconds: dict[str, float], number: int) -> None:
    """Whole stacks are a valid split, so cells cannot do worse."""
    found = longest(split(seconds, number))
    assert least(loads(seconds).values(), max(seconds.values()), number) <= found + 1e-6
    assert found <= longest(whole_stacks(seconds, number)) + 1e-6


@given(seconds=SECONDS, number=NUMBERS)
def test_no_part_is_much_longer_than_it_must_be(seconds: dict[str, float], number: int) -> None:
    """In this order, a part is left with less room than one cell, and a stack is cut once for each part."""
    stacks = len({parse_cell(cell).stack for cell in seconds})
    work = sum(seconds.values()) + START_S * (stacks + 2 * number)
    assert longest(split(seconds, number)) <= max(SHORTEST_S, work / number + 2 * max(seconds.values())) * 1.01


@given(seconds=SECONDS, cores=NUMBERS)
def test_the_parts_of_a_cluster_start_no_stack_more_often(seconds: dict[str, float], cores: int) -> None:
    """Each has one stack, and together they are as long as one part for each core."""
    parts = by_stack(seconds, cores)
    assert all(len(part.stacks) == 1 for part in parts)
    assert list(parts) == sorted(parts, key=lambda part: -part.seconds)
    assert sum(part.seconds for part in parts) == pytest.approx(sum(part.seconds for part in split(seconds, cores)))


def test_one_long_cell_makes_no_other_part_longer() -> None:
    """With parts as long as that cell, five cores ran six of them."""
    seconds = {f"trl0.{stack}-py311/sft-full[v{cell}]@cpu": 1.0 for stack in range(8) for cell in range(51)}
    seconds["trl0.9-py311/sft-full[v0]@cpu"] = 90.0
    parts = [part.seconds for part in by_stack(seconds, 5)]
    assert makespan(parts, 5) <= 1.1 * least(loads(seconds).values(), 90.0, 5)


def test_one_long_stack_is_divided() -> None:
    """Each part starts it once, and the parts are equally long."""
    seconds = {f"trl0.1-py311/sft-full[v{number}]@cpu": 1.0 for number in range(120)}
    parts = split(seconds, 4)
    assert [part.seconds for part in parts] == [30 + START_S] * 4


def test_a_few_short_cells_are_not_scattered() -> None:
    """Starting a stack for each would be most of the work."""
    seconds = {f"trl0.1-py311/sft-full[v{number}]@cpu": 0.5 for number in range(10)}
    (part,) = split(seconds, 10)
    assert part.seconds == 5 + START_S


def test_the_cells_of_a_part_are_in_the_given_order() -> None:
    """Stacks stay together, as their processes need."""
    seconds = {f"trl0.{number % 2}-py311/sft-full[v{number}]@cpu": 1.0 for number in range(6)}
    (part,) = split(seconds, 1)
    numbers = [int(cell.partition("[v")[2][0]) for cell in part.cells]
    assert numbers == [0, 2, 4, 1, 3, 5]


def test_nothing_has_no_parts() -> None:
    """There is nothing to run."""
    assert split({}, 3) == ()
    assert least([], 0.0, 3) == 0


RAN = StackRow("a", RowState.RAN, "", ("x",))
FAILED = StackRow("a", RowState.INFRASTRUCTURE, "no registry", ())
ABSENT = StackRow("a", RowState.UNINSTALLABLE, "no solution", ())


@pytest.mark.parametrize(
    ("rows", "state", "reason", "cells"),
    [
        ([RAN, FAILED], RowState.RAN, "", ("x", "y")),
        ([ABSENT, RAN], RowState.RAN, "", ("x", "y")),
        ([FAILED, FAILED], RowState.INFRASTRUCTURE, "no registry", ("x", "y")),
        ([ABSENT, FAILED], RowState.INFRASTRUCTURE, "no registry", ("x", "y")),
        ([], RowState.INFRASTRUCTURE, "its machine left no results: it never started, or was lost", ("x", "y")),
        ([ABSENT, ABSENT], RowState.UNINSTALLABLE, "no solution", ()),
    ],
)
def test_rows_of_several_parts(rows: list[StackRow], state: RowState, reason: str, cells: tuple[str, ...]) -> None:
    """A stack is uninstallable only if all parts say so, and every cell of one that ran is expected."""
    assert merged_row("a", rows, ("x", "y")) == StackRow("a", state, reason, cells)
