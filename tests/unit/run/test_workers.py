"""Stacks that have more than one worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from finetune_compat.run import workers
from finetune_compat.run.workers import JOIN_S, WORTH_CELLS, Pool, shared_out, workers_alone
from hypothesis import given
from hypothesis import strategies as st


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0.1, 500), min_size=1), st.integers(1, 64))
def test_no_core_is_idle_while_a_worker_would_help(left: dict[str, float], cores: int) -> None:
    """No stack loses a worker, and together they have no more than there are cores."""
    now = dict.fromkeys(left, 1)
    found = shared_out(left, now, cores)
    assert all(found[stack] >= 1 for stack in left)
    assert sum(found.values()) <= max(cores, len(left))
    idle = cores - sum(found.values())
    assert idle <= 0 or all(seconds / found[stack] <= JOIN_S for stack, seconds in left.items())


def test_the_stack_that_would_end_last_gets_the_next_worker() -> None:
    """Five cores: 100 s of cells on three of them end after 33 s, and 40 s on two after 20 s."""
    assert shared_out({"long": 100.0, "short": 40.0}, {"long": 1, "short": 1}, 5) == {"long": 3, "short": 2}
    assert shared_out({"long": 100.0, "short": 40.0}, {"long": 2, "short": 1}, 3) == {"long": 2, "short": 1}


def test_a_worker_that_would_join_too_late_is_not_started() -> None:
    """The stack ends before its import."""
    assert shared_out({"a": JOIN_S}, {"a": 1}, 8) == {"a": 1}
    assert shared_out({}, {}, 8) == {}


@pytest.mark.parametrize(
    ("cells", "cores", "number"),
    [(0, 4, 1), (WORTH_CELLS - 1, 4, 1), (WORTH_CELLS, 4, 2), (111, 4, 4), (111, 1, 1)],
)
def test_a_stack_alone_has_as_many_as_are_worth_their_start(cells: int, cores: int, number: int) -> None:
    """For a few cells, an import takes longer than the cells."""
    assert workers_alone(cells, cores) == number


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
