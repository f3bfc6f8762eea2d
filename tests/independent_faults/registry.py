"""The table of independent faults: what each breaks, where it was reported, its cell, and its effect.

They are written from reports of other people, without reading the checks. So the share of them that the checks name
estimates what the checks name of a fault that their author did not think of.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trl
from finetune_compat.contract.catalog import QWEN2
from finetune_compat.contract.plan import PlannedCell
from finetune_compat.contract.records import Precision, Variant
from packaging.version import Version
from truth import Truth

Plant = Callable[[pytest.MonkeyPatch], None]
Effect = Callable[[Truth, Truth], str | None]
"""Of the truths of the healthy and of the faulty run: what the fault changed, in words; None if it changed nothing."""


def _cell(
    flow: str, precision: Precision = Precision.FULL, *, checkpointing: bool = False, deep: bool = True
) -> PlannedCell:
    return PlannedCell(flow, Variant(QWEN2, precision, checkpointing), (), deep=deep)


ADAPTER = _cell("sft-peft-config")
CHECKPOINTED = _cell("sft-peft-config", checkpointing=True)
WHOLE_MODEL = _cell("sft-full")
PLAIN_TRAINER = _cell("trainer-peft-model")
COMPLETIONS = _cell("rft-all-linear", deep=False)
PREFERENCES = _cell("dpo-peft-config", deep=False)
FOUR_BIT = _cell("sft-peft-config", Precision.NF4, checkpointing=True)


PREFERENCES_SINCE = "0.12.0"
WHY_SINCE = "before TRL 0.12 DPOTrainer does not train with the Transformers release that is locked with it"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, as a broken release would bring it."""

    name: str
    breaks: str
    """One sentence."""
    kind: str
    source: str
    """URL of a report, or of a paper, of such a fault."""
    cell: PlannedCell
    plant: Plant
    effect: Effect
    since: str
    """The first TRL release on which the fault can exist; 0: every release."""
    why_since: str
    micro_batches: int
    """Forward passes per step in the runs that show the effect. A cell of the quick tier has one."""
    other_seed: bool
    """Whether the effect shows between two seeds of the faulty stack, instead of against the healthy one."""

    @property
    def absent(self) -> str | None:
        """Why the installed TRL cannot have the fault; None if it can."""
        return self.why_since if Version(trl.__version__) < Version(self.since) else None


FAULTS: list[Fault] = []


def fault(
    *,
    kind: str,
    source: str,
    cell: PlannedCell,
    effect: Effect,
    since: str = "0",
    why_since: str = "",
    micro_batches: int = 1,
    other_seed: bool = False,
) -> Callable[[Plant], Plant]:
    """Add the decorated function to the table. Its docstring says what the fault breaks."""

    def add(plant: Plant) -> Plant:
        name = plant.__name__.replace("_", "-")
        first, why = (PREFERENCES_SINCE, WHY_SINCE) if cell == PREFERENCES else (since, why_since)
        breaks = (plant.__doc__ or "").strip()
        assert breaks, f"{name} does not say what it breaks"
        FAULTS.append(Fault(name, breaks, kind, source, cell, plant, effect, first, why, micro_batches, other_seed))
        return plant

    return add


def around(patch: pytest.MonkeyPatch, owner: Any, name: str, change: Callable[..., Any]) -> None:
    """Replace a function of a library by `change`, which is called with the original in front of the arguments."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def changed(*args: Any, **kwargs: Any) -> Any:
        return change(original, *args, **kwargs)

    patch.setattr(owner, name, changed)
