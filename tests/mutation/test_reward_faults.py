"""Plant faults into a reward cell: faults that only its objective can have, and faults that every flow can have.

Runs inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --faults
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import peft
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

# Before, Trainer passes compute_loss an argument that it does not take: there is no healthy cell to plant a fault into.
pytestmark = pytest.mark.skipif(Version(trl.__version__) < Version("0.12"), reason="RewardTrainer does not run there")

CELL = PlannedCell("reward-peft-config", Variant(QWEN2, Precision.FULL, False), ())

WHOLE = Version(trl.__version__) >= Version("0.24.0")
"""Whether a batch holds whole sequences, the chosen ones first; before, the sides are separate."""


def _after_construction(change: Change) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        original = trl.RewardTrainer.__init__

        @functools.wraps(original)
        def faulty(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            change(self)

        patch.setattr(trl.RewardTrainer, "__init__", faulty)

    return plant


def _freeze(part: str) -> Change:
    def freeze(trainer: Any) -> None:
        for name, parameter in trainer.model.named_parameters():
            if is_adapter(name) and part in name:
                parameter.requires_grad = False

    return freeze


def _forget_the_head(patch: pytest.MonkeyPatch) -> None:
    """The adapter is saved without the trained head, as if `modules_to_save` were ignored."""
    original = peft.PeftModel.save_pretrained

    @functools.wraps(original)
    def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        head = self.base_model.model.score
        head.modules_to_save["default"].weight.data = head.original_module.weight.data.clone()
        return original(self, *args, **kwargs)

    patch.setattr(peft.PeftModel, "save_pretrained", faulty)


def _change_the_loss(change: Callable[[Any], Any]) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        original = trl.RewardTrainer.compute_loss

        @functools.wraps(original)
        def faulty(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            return original(self, model, change(inputs), *args, **kwargs)

        patch.setattr(trl.RewardTrainer, "compute_loss", faulty)

    return plant


def _swapped(batch: Any) -> dict[str, Any]:
    """The rejected sequence is rewarded."""
    if WHOLE:
        return {name: torch.cat(value.chunk(2)[::-1]) for name, value in batch.items()}
    sides = ("chosen", "rejected")
    other = {f"{name}_{one}": f"{name}_{two}" for name in _NAMES for one, two in (sides, sides[::-1])}
    return {**batch, **{name: batch[other[name]] for name in other}}


_NAMES = ("input_ids", "attention_mask")


def _with_a_margin(batch: Any) -> dict[str, Any]:
    """A margin that no row has."""
    pairs = len(batch["input_ids"]) // 2 if WHOLE else len(batch["input_ids_chosen"])
    margin = torch.full((pairs,), 2.0)
    return {**batch, "margin": margin if WHOLE else margin.unsqueeze(-1)}


# Not in the `FAULTS` of reports/faults, whose oldest stack cannot run this flow.
PLANTED: tuple[tuple[str, Plant, str], ...] = (
    ("freeze-the-adapters", _after_construction(_freeze("lora_")), "C104"),
    ("freeze-the-head", _after_construction(_freeze("modules_to_save")), "C104"),
    ("forget-the-head", _forget_the_head, "A202"),
    ("reward-the-rejected", _change_the_loss(_swapped), "G406"),
    ("add-a-margin", _change_the_loss(_with_a_margin), "G406"),
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
