"""Each independent fault has the effect that it says, and is named by a check or listed as missed.

They run inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --faults
"""

from __future__ import annotations

import dataclasses
import importlib
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_compat.checks import Outcome, Verdict
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Observation
from registry import FAULTS, Fault
from truth import Truth, truth_of

for _module in ("in_reports", "of_gradients", "of_optimizers", "of_data", "of_models", "of_adapters", "of_preferences"):
    importlib.import_module(f"faults_{_module}")

MISSED = Path(__file__).parent / "missed.toml"
"""The faults that no check names, each with a reason. A fault that is missed and not listed fails: the score may fall
only with a reason.
"""

CELLS = tuple(dict.fromkeys(fault.cell for fault in FAULTS if fault.absent is None))

OfHealthy = Callable[[PlannedCell, int, int], Truth]
Judged = Callable[[PlannedCell], tuple[Observation, Verdict]]
Noted = Callable[[dict[str, Any], Observation | None], None]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_cell_is_healthy_without_a_fault(cell: PlannedCell, judged: Judged) -> None:
    """So a failing check is the fault's."""
    _, verdict = judged(cell)
    assert verdict.outcome is Outcome.PASS, verdict.reason


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_two_healthy_runs_agree(plan: Plan, cell: PlannedCell, of_healthy: OfHealthy) -> None:
    """So a difference is the fault's: weights, logs and logits are equal to the last bit."""
    one, other = of_healthy(cell, plan.seed, 1), truth_of(plan, cell, lambda: None)
    assert one.logs and one.logs == other.logs
    assert all(torch.equal(value, other.after[name]) for name, value in one.after.items())
    assert one.order == other.order
    assert one.reloaded and other.reloaded and torch.equal(one.reloaded.plain, other.reloaded.plain)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_has_its_effect(fault: Fault, plan: Plan, of_healthy: OfHealthy, judged: Judged, noted: Noted) -> None:
    """Or the release cannot have it, for a reason that follows from its version."""
    result: dict[str, Any] = {
        "fault": fault.name,
        "breaks": fault.breaks,
        "kind": fault.kind,
        "source": fault.source,
        "cell": str(fault.cell),
    }
    if fault.absent is not None:
        noted({**result, "absent": fault.absent, "effect": None, "outcome": None, "codes": [], "quick": []}, None)
        return
    effect = _effect(fault, plan, of_healthy)
    assert effect, "the fault has no effect"
    quick = dataclasses.replace(fault.cell, deep=False)
    seen, verdict = _with_fault(fault, quick, judged)
    codes = verdict.failing
    if verdict.outcome is Outcome.PASS and fault.cell.deep:
        seen, verdict = _with_fault(fault, fault.cell, judged)
    result |= {"absent": None, "effect": effect, "outcome": str(verdict.outcome)}
    noted({**result, "codes": list(verdict.failing), "quick": list(codes)}, seen)
    if verdict.outcome is Outcome.PASS:
        assert _may_be_missed(fault.name, plan.stack), f"no check names it, and {MISSED.name} does not list it"


def _with_fault(fault: Fault, cell: PlannedCell, judged: Judged) -> tuple[Observation, Verdict]:
    with pytest.MonkeyPatch.context() as patch:
        fault.plant(patch)
        return judged(cell)


def _may_be_missed(name: str, stack: str) -> bool:
    entry = tomllib.loads(MISSED.read_text(encoding="utf-8")).get(name)
    return entry is not None and stack in entry.get("stacks", [stack])


def _effect(fault: Fault, plan: Plan, of_healthy: OfHealthy) -> str | None:
    healthy, faulty = of_healthy(fault.cell, plan.seed, fault.micro_batches), _truth(fault, plan)
    assert faulty.error is None, f"the flow ends in {faulty.error}: the fault must be silent"
    if not fault.other_seed:
        return fault.effect(healthy, faulty)
    other = dataclasses.replace(plan, seed=plan.seed + 1)
    assert fault.effect(healthy, of_healthy(fault.cell, other.seed, fault.micro_batches)) is None
    return fault.effect(faulty, _truth(fault, other))


def _truth(fault: Fault, plan: Plan) -> Truth:
    with pytest.MonkeyPatch.context() as patch:
        return truth_of(plan, fault.cell, lambda: fault.plant(patch), micro_batches=fault.micro_batches)
