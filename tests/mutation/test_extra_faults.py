"""Plant faults into cells whose adapters train more than LoRA: magnitudes, whole modules, rows of the embedding.

Runs inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --faults
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import peft
import pytest
import trl
from finetune_compat.cell import runner
from finetune_compat.checks import Outcome, judge
from finetune_compat.contract.catalog import QWEN2, flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Precision, Variant

Plant = Callable[[pytest.MonkeyPatch], None]

FLOWS = ("sft-dora", "sft-modules-to-save", "sft-trainable-tokens")


def _cell(flow: str) -> PlannedCell:
    return PlannedCell(flow, Variant(QWEN2, Precision.FULL, False), ())


def _freeze(part: str) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        original = trl.SFTTrainer.__init__

        @functools.wraps(original)
        def faulty(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            for name, parameter in self.model.named_parameters():
                if part in name:
                    parameter.requires_grad = False

        patch.setattr(trl.SFTTrainer, "__init__", faulty)

    return plant


def _save_zeros_of(part: str) -> Plant:
    """What is saved has zeros in place of what was trained, as if it had been left out."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        original = peft.PeftModel.save_pretrained

        @functools.wraps(original)
        def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
            for name, parameter in self.named_parameters():
                if part in name and parameter.requires_grad:
                    parameter.data.zero_()
            return original(self, *args, **kwargs)

        patch.setattr(peft.PeftModel, "save_pretrained", faulty)

    return plant


# Not in the `FAULTS` of reports/faults: those are planted into one cell.
PLANTED: tuple[tuple[str, Plant, str], ...] = (
    ("sft-dora", _freeze("lora_magnitude_vector"), "C104"),
    ("sft-modules-to-save", _freeze("embed_tokens.modules_to_save"), "C104"),
    ("sft-trainable-tokens", _freeze("trainable_tokens"), "C104"),
    ("sft-dora", _save_zeros_of("lora_magnitude_vector"), "A202"),
    ("sft-modules-to-save", _save_zeros_of("lm_head.modules_to_save"), "A202"),
    ("sft-trainable-tokens", _save_zeros_of("trainable_tokens"), "A202"),
)


@pytest.mark.parametrize("flow", FLOWS)
def test_nothing_planted_nothing_found(plan: Plan, flow: str) -> None:
    """The cell is healthy."""
    verdict = judge(runner.run_cell(plan, _cell(flow)), flow_named(flow), ())
    assert verdict.outcome is Outcome.PASS, verdict.reason


@pytest.mark.parametrize(("flow", "plant", "code"), PLANTED, ids=[f"{fault[0]}-{fault[2]}" for fault in PLANTED])
def test_planted_fault_is_named(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, flow: str, plant: Plant, code: str
) -> None:
    """The cell fails, and exactly the fault's check is at the root of the verdict."""
    plant(monkeypatch)
    verdict = judge(runner.run_cell(plan, _cell(flow)), flow_named(flow), ())
    assert (verdict.outcome, verdict.failing) == (Outcome.FAIL, (code,)), verdict.reason
