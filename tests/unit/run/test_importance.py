"""Why cells are important."""

from __future__ import annotations

import pytest
from finetune_compat.run import importance
from finetune_compat.run import request as requested
from finetune_compat.run.importance import was_red
from finetune_compat.run.selection import AskedCells
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store.store import Past
from run_builders import request


@pytest.mark.parametrize(
    ("outcome", "lost", "red"),
    [
        ("pass", None, False),
        ("fail", None, True),
        ("pass", "2026-02", True),
        ("fail", "2025", True),
        ("pass", "2025", False),
    ],
)
def test_a_cell_was_red_if_it_or_the_machine_failed_last(outcome: str, lost: str | None, red: bool) -> None:
    """An observation after an infrastructure failure counts."""
    assert was_red(Past("0", 1.0, outcome, "2026-01-01"), lost) is red
    assert was_red(None, lost) is (lost is not None)


def test_an_edge_is_one_though_its_neighbour_was_not_asked_for() -> None:
    """Two requested stacks with others between them are no neighbours."""
    from finetune_compat.checks.ledger_file import load_ledger

    def at_edges(*stacks: str) -> set[str]:
        asked = request(asked=AskedCells(stacks=stacks, flows=("sft-peft-model",), variants=("qwen2-nf4-gc",)))
        selection = requested.select(asked, ())
        return set(importance.edge_cells(selection, load_ledger(), read_matrix())) & set(selection.cells)

    cell = "sft-peft-model[qwen2-nf4-gc]@cpu"
    assert at_edges("trl0.20") == {f"trl0.20-py311/{cell}"}
    assert at_edges("trl0.22", "trl0.24") == set()
