"""A side that has its lock."""

from __future__ import annotations

import pytest
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.resolved import Resolved
from finetune_compat.stacks.locks import locked
from resolve_builders import MATRIX


@pytest.mark.parametrize(("python", "name"), [("3.11", "trl0.22-py311"), ("3.12", "trl0.22-py312")])
def test_a_side_is_called_after_its_stack_and_its_python(python: str, name: str) -> None:
    """Runs of one stack on two Pythons are two sides."""
    plan = MATRIX.plan(MATRIX.stack("trl0.22"), python)
    assert Resolved("trl0.22", Rule.ROW, plan, locked(plan), (), ()).stack == name
