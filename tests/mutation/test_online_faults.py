"""Plant faults into a cell whose model generates its completions: faults that only its objective can have.

Runs inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --faults
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import trl
from finetune_compat.cell import runner
from finetune_compat.cell.instruments.census import is_adapter
from finetune_compat.checks import Outcome, judge
from finetune_compat.contract.catalog import QWEN2, flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Precision, Variant
from packaging.version import Version

Plant = Callable[[pytest.MonkeyPatch], None]

pytestmark = pytest.mark.skipif(Version(trl.__version__) < Version("0.18"), reason="the flow begins with TRL 0.18")

CELL = PlannedCell("grpo-peft-config", Variant(QWEN2, Precision.FULL, False), ())


def _freeze_the_adapters(patch: pytest.MonkeyPatch) -> None:
    original = trl.GRPOTrainer.__init__

    @functools.wraps(original)
    def faulty(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        for name, parameter in self.model.named_parameters():
            if is_adapter(name):
                parameter.requires_grad = False

    patch.setattr(trl.GRPOTrainer, "__init__", faulty)


def _with(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Plant:
    """Every batch is changed before its loss is computed."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        original = trl.GRPOTrainer.compute_loss

        @functools.wraps(original)
        def faulty(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            return original(self, model, change(inputs), *args, **kwargs)

        patch.setattr(trl.GRPOTrainer, "compute_loss", faulty)

    return plant


def _turned(inputs: dict[str, Any]) -> dict[str, Any]:
    """Low rewards are wanted."""
    return {**inputs, "advantages": -inputs["advantages"]}


def _of_other_completions(inputs: dict[str, Any]) -> dict[str, Any]:
    """Each completion gets the advantage of another one."""
    return {**inputs, "advantages": inputs["advantages"].roll(1)}


def _without_reference(inputs: dict[str, Any]) -> dict[str, Any]:
    """The reference answers as if every token were certain."""
    return {**inputs, "ref_per_token_logps": torch.zeros_like(inputs["ref_per_token_logps"])}


# Not in the `FAULTS` of reports/faults, whose oldest stack does not have this flow.
PLANTED: tuple[tuple[str, Plant, str], ...] = (
    ("freeze-the-adapters", _freeze_the_adapters, "C104"),
    ("want-low-rewards", _with(_turned), "G406"),
    ("reward-other-completions", _with(_of_other_completions), "G406"),
    ("ignore-the-reference", _with(_without_reference), "G406"),
)


def test_nothing_planted_nothing_found(plan: Plan) -> None:
    """The cell is healthy."""
    verdict = judge(runner.run_cell(plan, CELL), flow_named(CELL.flow), ())
    assert verdict.outcome is Outcome.PASS, verdict.reason


@pytest.mark.parametrize(("plant", "code"), [fault[1:] for fault in PLANTED], ids=[fault[0] for fault in PLANTED])
def test_planted_fault_is_named(plan: Plan, monkeypatch: pytest.MonkeyPatch, plant: Plant, code: str) -> None:
    """The cell fails, and exactly the fault's check is at the root of the verdict."""
    plant(monkeypatch)
    verdict = judge(runner.run_cell(plan, CELL), flow_named(CELL.flow), ())
    assert (verdict.outcome, verdict.failing) == (Outcome.FAIL, (code,)), verdict.reason
