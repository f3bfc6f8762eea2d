"""Plant faults into a cell with desirable and undesirable rows: faults that only its objective can have.

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
Change = Callable[[Any], None]

# Before, Trainer calls a get_batch_samples of the trainer's own: there is no healthy cell to plant a fault into.
pytestmark = pytest.mark.skipif(Version(trl.__version__) < Version("0.12"), reason="KTOTrainer does not run there")

CELL = PlannedCell("kto-peft-config", Variant(QWEN2, Precision.FULL, False), ())

LOSS = "get_batch_loss_metrics" if hasattr(trl.KTOTrainer, "get_batch_loss_metrics") else "compute_loss"


def _after_construction(change: Change) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        original = trl.KTOTrainer.__init__

        @functools.wraps(original)
        def faulty(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            change(self)

        patch.setattr(trl.KTOTrainer, "__init__", faulty)

    return plant


def _freeze_the_adapters(trainer: Any) -> None:
    for name, parameter in trainer.model.named_parameters():
        if is_adapter(name):
            parameter.requires_grad = False


def _start_with_an_effect(trainer: Any) -> None:
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)


def _weight_the_undesirable(trainer: Any) -> None:
    trainer.undesirable_weight = 3.0


def _want_the_undesirable(patch: pytest.MonkeyPatch) -> None:
    original = getattr(trl.KTOTrainer, LOSS)

    @functools.wraps(original)
    def faulty(self: Any, model: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        label = batch["label"]
        turned = ~label if isinstance(label, torch.Tensor) else [not each for each in label]
        return original(self, model, {**batch, "label": turned}, *args, **kwargs)

    patch.setattr(trl.KTOTrainer, LOSS, faulty)


# Not in the `FAULTS` of reports/faults, whose oldest stack cannot run this flow.
PLANTED: tuple[tuple[str, Plant, str], ...] = (
    ("freeze-the-adapters", _after_construction(_freeze_the_adapters), "C104"),
    ("start-with-an-effect", _after_construction(_start_with_an_effect), "E806"),
    ("weight-the-undesirable", _after_construction(_weight_the_undesirable), "G406"),
    ("want-the-undesirable", _want_the_undesirable, "G406"),
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
