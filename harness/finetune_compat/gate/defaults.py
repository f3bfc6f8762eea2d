"""Which defaults of configuration classes changed between two environments."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from finetune_compat.contract.errors import CompatError
from finetune_compat.gate.decision import DefaultChange
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import PACKAGE, places
from finetune_compat.stacks.ask import StackPython, ask
from finetune_compat.stacks.environments import environment_of

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
"""Configuration classes of users, as `module:name`."""

_INHERITED = "TrainingArguments"

Fields = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Defaults:
    """The comparison, or in `unknown` why there is none."""

    changed: tuple[DefaultChange, ...]
    unknown: str = ""


def compared(before: StackPython, after: StackPython) -> Defaults:
    """The defaults that changed between two environments."""
    try:
        return Defaults(changes(read_defaults(before), read_defaults(after)))
    except CompatError as error:
        return Defaults((), f"{error.where}: {error.what}")


def read_defaults(stack: StackPython) -> Fields:
    """The defaults of the configuration classes of an environment, cached by its lock: reading them imports the stack.

    Raises:
        StackFailed: the libraries of the stack cannot be imported.
        InstallError, EnvironmentMismatch: as for `environment_of`.
    """
    file = places().environments / "defaults" / f"{stack.name}-{stack.lock.sha256[:16]}-{_digest()}.json"
    if file.exists():
        with contextlib.suppress(ValueError):  # it was cut off: read them again
            known: Fields = json.loads(file.read_text(encoding="utf-8"))
            return known
    environment_of(stack.lock)  # where all results are cached, nothing verified it
    found: Fields = ask(stack, _MODULE, {"classes": list(CLASSES)})
    write_atomically(file, json.dumps(found))
    return found


_MODULE = "finetune_compat.cell.config_defaults"


def _digest() -> str:
    """Of what is asked and who reads it."""
    source = PACKAGE / "cell" / "config_defaults.py"
    return hashlib.sha256(source.read_bytes() + " ".join(CLASSES).encode()).hexdigest()[:8]


def changes(before: Fields, after: Fields) -> tuple[DefaultChange, ...]:
    """The changed defaults by class. A change inherited from `TrainingArguments` is listed for that class only.

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
