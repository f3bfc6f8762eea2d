"""Cells that `-k` selects, compared with pytest's own selection."""

from __future__ import annotations

import pytest
from _pytest.mark.expression import Expression
from builders import UNLISTED, VERSIONS
from finetune_compat.contract.plan import PlannedCell
from finetune_compat.contract.records import DeviceKind
from finetune_compat.run.keyword import PLACES, selected
from finetune_compat.run.stack_run import planned_cells
from hypothesis import given
from hypothesis import strategies as st

CELLS = planned_cells(UNLISTED, DeviceKind.CPU, VERSIONS)

WORDS = [
    "and",
    "or",
    "not",
    "(",
    ")",
    "nf4",
    "sft-peft-model",
    "[qwen2-nf4",
    "GC",
    "x",
    "llama-",
    "test_flow",
    "+",
    "=",
]


def selected_by_pytest(expression: str) -> tuple[PlannedCell, ...] | None:
    """Return pytest's own selection; None if it refuses the expression."""
    if not expression:
        return CELLS
    try:
        compiled = Expression.compile(expression)
    except SyntaxError:
        return None

    def matches(cell: PlannedCell) -> bool:
        names = [name.lower() for name in (*PLACES, f"test_flow[{cell}]")]
        return compiled.evaluate(lambda part, /, **_: any(part.lower() in name for name in names))

    return tuple(cell for cell in CELLS if matches(cell))


@given(st.lists(st.sampled_from(WORDS), max_size=7))
def test_an_expression_means_what_it_means_to_pytest(words: list[str]) -> None:
    """Invalid expressions are left to pytest's message."""
    expression = " ".join(words)
    assert selected(CELLS, ("-k", expression)) == selected_by_pytest(expression)


def test_without_arguments_every_cell_is_selected() -> None:
    """An empty expression selects every cell too."""
    assert selected(CELLS, ()) == selected(CELLS, ("-k", "")) == CELLS


@pytest.mark.parametrize("arguments", [("-knf4",), ("-k=nf4",), ("-k", "nf4"), ("-k", "int8", "-k", "nf4")])
def test_every_spelling_of_k_is_understood(arguments: tuple[str, ...]) -> None:
    """The last of several counts, as in pytest."""
    assert selected(CELLS, arguments) == tuple(cell for cell in CELLS if "nf4" in str(cell))


@pytest.mark.parametrize(
    "arguments", [("-x",), ("-k", "nf4", "--lf"), ("--deselect", "a"), ("tests/x.py",), ("-k", "nf4", "-m", "slow")]
)
def test_other_arguments_are_left_to_pytest(arguments: tuple[str, ...]) -> None:
    """Their selection is unknown."""
    assert selected(CELLS, arguments) is None
