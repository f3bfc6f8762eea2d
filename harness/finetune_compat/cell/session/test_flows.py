"""Every planned cell: run the flow for real, write down what happened, and hold it against what its user was entitled
to.
"""

from __future__ import annotations

import pytest

from finetune_compat.checks import Outcome, judge
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.plan import Plan, PlannedCell


def test_flow(plan: Plan, planned: PlannedCell) -> None:
    """The cell is as stated, or deviates exactly as listed."""
    from finetune_compat.cell import runner, storing

    runner.mark_started(plan, planned)
    seen = runner.run_cell(plan, planned)
    try:
        verdict = judge(seen, flow_named(planned.flow), planned.listed)
        # First, so that no moment is left at which a finished cell could be lost to the next run.
        storing.keep(plan, planned, seen, verdict)
    finally:
        runner.append(plan, seen)
    if verdict.outcome is Outcome.XFAIL:
        pytest.xfail(verdict.reason)
    if verdict.outcome is not Outcome.PASS:
        pytest.fail(f"{verdict.outcome}: {verdict.reason}", pytrace=False)
