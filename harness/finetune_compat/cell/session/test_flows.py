"""Run the flow of every planned cell, record the observation, and judge it against the catalog and the ledger."""

from __future__ import annotations

import pytest

from finetune_compat.cell.own_time import used_s
from finetune_compat.checks import Outcome, judge
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import DeviceKind


def test_flow(plan: Plan, planned: PlannedCell) -> None:
    """The cell passes every check, or deviates exactly as listed."""
    from finetune_compat.cell import runner, storing

    runner.mark_started(plan, planned)
    used = used_s()
    seen = runner.run_cell(plan, planned)
    # A cell on a GPU also waits for it, which is no time of the CPU.
    cpu_s = round(used_s() - used, 3) if plan.device is DeviceKind.CPU else None
    try:
        verdict = judge(seen, flow_named(planned.flow), planned.listed)
        # Stored before it is appended to the run: a finished cell is cached, even if the process is killed here.
        storing.keep(plan, planned, seen, verdict, cpu_s)
    finally:
        storing.record(plan, seen)
    if verdict.outcome is Outcome.XFAIL:
        pytest.xfail(verdict.reason)
    if verdict.outcome is not Outcome.PASS:
        pytest.fail(f"{verdict.outcome}: {verdict.reason}", pytrace=False)
