"""Consequences: which checks of a cell have a proof. `tests/unit/evidence/test_hidden.py` tries the proofs."""

from __future__ import annotations

from finetune_compat.checks.cell_checks import CHECKS
from finetune_compat.checks.consequences import FOLLOWS


def test_every_check_that_another_may_explain_has_a_proof() -> None:
    """Without one, the engine would block the check unseen."""
    asked = {check.code for check in CHECKS}
    assert set(FOLLOWS) == {check.code for check in CHECKS if asked & set(check.requires)}
