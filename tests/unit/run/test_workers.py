"""Stacks that have more than one worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from finetune_compat.run import workers
from finetune_compat.run.workers import WORTH_CELLS, Pool, workers_of
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


class TestPool:
    def test_two_stacks_share_the_cores(self) -> None:
        """Together they have as many workers as there are cores."""
        pool = Pool(8, ["a", "b"])
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(lambda stack: pool.take(stack, 99), ["a", "b"]))
        assert found == [4, 4]

    def test_a_stack_with_nothing_to_run_leaves_its_cores(self) -> None:
        """All its cells are cached."""
        pool = Pool(2, ["a", "b"])
        assert pool.take("a", 0) == 1
        assert pool.take("b", 99) == 2

    def test_a_stack_that_cannot_run_leaves_its_cores(self) -> None:
        """It has no environment."""
        pool = Pool(2, ["a", "b"])
        pool.leave("a")
        assert pool.take("b", 99) == 2

    def test_a_slow_stack_is_not_waited_for_longer_than_is_worth_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The other starts with its share."""
        monkeypatch.setattr(workers, "PATIENCE_S", 0.01)
        assert Pool(2, ["a", "b"]).take("a", 99) == 1
