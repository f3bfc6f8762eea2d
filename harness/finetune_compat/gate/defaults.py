"""Which defaults of configuration classes changed between two environments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finetune_compat.contract.errors import StackFailed
from finetune_compat.gate.decision import DefaultChange
from finetune_compat.stacks.ask import StackPython, ask

CLASSES = (
    "trl:SFTConfig",
    "trl:DPOConfig",
    "trl:KTOConfig",
    "trl:RewardConfig",
    "trl:GRPOConfig",
    "trl:RLOOConfig",
    "trl:ModelConfig",
    "transformers:TrainingArguments",
    "transformers:BitsAndBytesConfig",
    "peft:LoraConfig",
)
"""What users fill in, by module and name."""

_INHERITED = "TrainingArguments"

Fields = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Defaults:
    """The comparison, or why there is none."""

    changed: tuple[DefaultChange, ...]
    unknown: str = ""


def compared(before: StackPython, after: StackPython) -> Defaults:
    """What changed between two environments; both are asked."""
    try:
        one, other = (
            ask(side, "finetune_compat.cell.config_defaults", {"classes": list(CLASSES)}) for side in (before, after)
        )
    except StackFailed as error:
        return Defaults((), f"{error.where}: {error.what}")
    return Defaults(changes(one, other))


def changes(before: Fields, after: Fields) -> tuple[DefaultChange, ...]:
    """What changed, class by class; what a trainer's configuration takes from `TrainingArguments` is said there only.

    A class that only one side has is one change, of the class itself.
    """
    inherited = set(_of_class(_INHERITED, before, after))
    found: list[DefaultChange] = []
    for config in {**before, **after}:
        changed = _of_class(config, before, after)
        found += [
            item
            for item in changed
            if config == _INHERITED or DefaultChange(_INHERITED, item.field, item.before, item.after) not in inherited
        ]
    return tuple(found)


def _of_class(config: str, before: Fields, after: Fields) -> tuple[DefaultChange, ...]:
    if config not in before or config not in after:
        there = "the class is there"
        one, other = (there if config in side else None for side in (before, after))
        return (DefaultChange(config, "", one, other),) if one != other else ()
    one_side, other_side = before[config], after[config]
    return tuple(
        DefaultChange(config, field, one_side.get(field), other_side.get(field))
        for field in {**one_side, **other_side}
        if one_side.get(field) != other_side.get(field)
    )
