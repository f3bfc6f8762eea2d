"""Stacks that have more than one worker."""

from __future__ import annotations

from finetune_compat.run.workers import WORTH_CELLS, workers_of
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 40), st.integers(1, 16), st.integers(0, 64))
def test_no_core_is_idle_in_the_last_round_unless_memory_is_short(stacks: int, jobs: int, most: int) -> None:
    """Every other round has a stack on each core."""
    names = [f"s{number}" for number in range(stacks)]
    found = workers_of(dict.fromkeys(names, 999), jobs, most)
    last = names[len(names) - len(names) % jobs :]
    assert list(found) == names
    assert all(found[name] == 1 for name in names if name not in last)
    used = sum(found[name] for name in last)
    assert not last or used >= min(jobs, most - len(last) + 1)
    assert used <= max(most, len(last))


def many(stacks: str) -> dict[str, int]:
    """Stacks with many cells each."""
    return dict.fromkeys(stacks, 111)


def test_the_stacks_of_the_last_round_have_as_many_each() -> None:
    """The number is rounded up if memory allows it."""
    assert workers_of(many("a"), 4, 9) == {"a": 4}
    assert workers_of(many("abc"), 2, 9) == {"a": 1, "b": 1, "c": 2}
    assert workers_of(many("abc"), 4, 9) == {"a": 2, "b": 2, "c": 2}
    assert workers_of(many("abc"), 4, 5) == {"a": 1, "b": 1, "c": 1}
    assert workers_of(many("ab"), 2, 9) == {"a": 1, "b": 1}
    assert workers_of(many("a"), 4, 0) == {"a": 1}


def test_a_few_cells_have_one_worker() -> None:
    """Starting another worker would take longer than the remaining cells."""
    assert workers_of({"a": WORTH_CELLS - 1}, 4, 9) == {"a": 1}
    assert workers_of({"a": WORTH_CELLS}, 4, 9) == {"a": 2}
