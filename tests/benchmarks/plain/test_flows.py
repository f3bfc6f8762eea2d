"""The flows as tests of a project without a harness: train a little, and check that eval loss falls."""

from __future__ import annotations

import pytest
import straight_line
from finetune_compat.contract.plan import PlannedCell

PLAN = straight_line.planned()


@pytest.mark.parametrize("cell", PLAN.cells, ids=str)
def test_eval_loss_falls(cell: PlannedCell) -> None:
    """Ten steps are enough for these models."""
    told = straight_line.run(PLAN, cell)
    assert told.after < told.before
