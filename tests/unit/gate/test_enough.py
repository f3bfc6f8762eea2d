"""A gate that blocks ends when nothing that is left could say anything new."""

from __future__ import annotations

from finetune_compat.gate.enough import Enough

TELLS, ALSO, OTHER = (f"sft-full[qwen2-{kind}]" for kind in ("full-gc", "full-nogc", "bf16-nogc"))


def cell(stack: str, test: str) -> str:
    """An id."""
    return f"{stack}/{test}@cpu"


def planned() -> Enough:
    """Two sides, of which the second has one cell more that tells something."""
    enough = Enough()
    enough.planned([cell("a", TELLS), cell("a", ALSO), cell("a", OTHER)], [cell("a", TELLS)])
    enough.planned([cell("b", TELLS), cell("b", ALSO), cell("b", OTHER)], [cell("b", TELLS), cell("b", ALSO)])
    return enough


def test_what_tells_something_on_one_side_ends_on_both() -> None:
    """Otherwise it could not be compared. The others are named, and those that ended are not."""
    enough = planned()
    for one in (cell("a", TELLS), cell("b", TELLS), cell("b", OTHER)):
        enough.ended(one)
    assert enough.blocks() == [cell("a", OTHER)]
    assert not enough.stop.is_set()
    enough.ended(cell("b", ALSO))
    assert not enough.stop.is_set()
    enough.ended(cell("a", ALSO))
    assert enough.stop.is_set()


def test_without_a_block_every_cell_runs() -> None:
    """ALLOW and HOLD rest on all of them."""
    enough = planned()
    for one in (cell(stack, test) for stack in "ab" for test in (TELLS, ALSO, OTHER)):
        enough.ended(one)
    assert not enough.stop.is_set()


def test_a_block_after_the_last_cell_that_tells_ends_at_once() -> None:
    """Nothing is waited for."""
    enough = planned()
    for one in (cell(stack, test) for stack in "ab" for test in (TELLS, ALSO)):
        enough.ended(one)
    assert set(enough.blocks()) == {cell("a", OTHER), cell("b", OTHER)}
    assert enough.stop.is_set()


def test_where_every_cell_tells_something_none_is_left_out() -> None:
    """As on versions that no baseline holds."""
    enough = Enough()
    cells = [cell("a", TELLS), cell("b", TELLS)]
    enough.planned(cells, cells)
    assert enough.blocks() == []
    assert not enough.stop.is_set()
