"""Who is given the cores that no stack waits for."""

from __future__ import annotations

from finetune_compat.run.workers import shared_out
from hypothesis import given
from hypothesis import strategies as st

STACKS = st.sampled_from(["a", "b", "c", "d"])


@given(
    st.dictionaries(STACKS, st.floats(0, 1e4)),
    st.dictionaries(STACKS, st.integers(1, 5)),
    st.integers(1, 16),
)
def test_every_core_is_used_and_nothing_is_taken_back(
    left: dict[str, float], given: dict[str, int], at_once: int
) -> None:
    """A stack at work has one at least; more than there are cores are in use only where so many were given before."""
    found = shared_out(left, given, at_once)
    before = {stack: given.get(stack, 1) for stack in left}
    assert found.keys() == left.keys() and all(found[stack] >= before[stack] for stack in left)
    assert sum(found.values()) == (max(at_once, sum(before.values())) if left else 0)


def test_a_core_goes_where_most_is_left_for_one_worker() -> None:
    """Half of 90 is more than 40, a third of it is not."""
    assert shared_out({"a": 90.0, "b": 40.0}, {}, 3) == {"a": 2, "b": 1}
    assert shared_out({"a": 90.0, "b": 40.0}, {}, 4) == {"a": 3, "b": 1}
    assert shared_out({"a": 90.0, "b": 40.0}, {"b": 2}, 4) == {"a": 2, "b": 2}
    assert shared_out({"a": 90.0, "b": 40.0}, {}, 5) == {"a": 3, "b": 2}
