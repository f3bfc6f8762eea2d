"""Plant faults into a preference cell: faults that only its objective can have, and faults that every flow can have.

Runs inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --faults
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

# Before, this flow ends in an error (trl#1885, and on a CPU trl#2275): there is no healthy cell to plant a fault into.
pytestmark = pytest.mark.skipif(Version(trl.__version__) < Version("0.12"), reason="DPOTrainer does not run there")

CELL = PlannedCell("dpo-peft-config", Variant(QWEN2, Precision.FULL, False), ())

WHOLE = Version(trl.__version__) >= Version("0.29.0")
"""Whether a batch holds whole sequences, the chosen ones first; before, prompts and completions are separate."""

LOSS = "compute_loss" if WHOLE else "get_batch_loss_metrics"


def _after_construction(change: Change) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        original = trl.DPOTrainer.__init__

        @functools.wraps(original)
        def faulty(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            change(self)

        patch.setattr(trl.DPOTrainer, "__init__", faulty)

    return plant


def _freeze_the_adapters(trainer: Any) -> None:
    for name, parameter in trainer.model.named_parameters():
        if is_adapter(name):
            parameter.requires_grad = False


def _mask_all_labels(trainer: Any) -> None:
    collate = trainer.data_collator
    masks = ("completion_mask",) if WHOLE else ("chosen_attention_mask", "rejected_attention_mask")

    def masked(rows: Any) -> Any:
        batch = collate(rows)
        return {**batch, **{name: torch.zeros_like(batch[name]) for name in masks}}

    trainer.data_collator = masked


def _start_with_an_effect(trainer: Any) -> None:
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)


def _take_the_policy_as_reference(patch: pytest.MonkeyPatch) -> None:
    """The adapters stay active in the reference's forward: every margin stays 0, and the gradients are not 0."""

    @contextmanager
    def on(*_: Any, **__: Any) -> Iterator[None]:
        yield

    if WHOLE:
        patch.setattr("trl.trainer.dpo_trainer.use_adapter", on)
    else:
        patch.setattr(trl.DPOTrainer, "null_ref_context", on)


def _prefer_the_rejected(patch: pytest.MonkeyPatch) -> None:
    original = getattr(trl.DPOTrainer, LOSS)

    @functools.wraps(original)
    def faulty(self: Any, model: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, model, _swapped(batch), *args, **kwargs)

    patch.setattr(trl.DPOTrainer, LOSS, faulty)


def _swapped(batch: dict[str, Any]) -> dict[str, Any]:
    if WHOLE:
        return {name: torch.cat(value.chunk(2)[::-1]) for name, value in batch.items()}
    other = {"chosen": "rejected", "rejected": "chosen"}
    sides = {name: name.partition("_") for name in batch}
    return {f"{other.get(side, side)}{dash}{rest}": batch[name] for name, (side, dash, rest) in sides.items()}


# Not in the `FAULTS` of reports/faults, whose oldest stack cannot run this flow.
PLANTED: tuple[tuple[str, Plant, str], ...] = (
    ("freeze-the-adapters", _after_construction(_freeze_the_adapters), "C104"),
    ("mask-all-labels", _after_construction(_mask_all_labels), "L501"),
    ("start-with-an-effect", _after_construction(_start_with_an_effect), "E806"),
    ("take-the-policy-as-reference", _take_the_policy_as_reference, "G406"),
    ("prefer-the-rejected", _prefer_the_rejected, "G406"),
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
