"""What a LoRA configuration names, asked of PEFT's own matching, one pattern at a time."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import peft
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists

from finetune_compat.contract.census import ALL_LINEAR, Refusal

DECISIVE = frozenset(
    {
        "alora_invocation_tokens",
        "bias",
        "ensure_weight_tying",
        "exclude_modules",
        "layer_replication",
        "layers_pattern",
        "lora_bias",
        "modules_to_save",
        "rank_pattern",
        "target_parameters",
        "trainable_token_indices",
        "use_dora",
    }
)
"""Options of LoraConfig that decide what trains, and that older releases of PEFT lack."""

UNSET: tuple[Any, ...] = (None, False, "none", "", [], {})
"""Values by which a saved adapter_config.json says that an option is not used."""


def lora_config(asked: Mapping[str, Any]) -> LoraConfig | Refusal:
    """The LoraConfig of this PEFT. Options it does not know and that decide nothing are left out, as PEFT itself does
    when it reads the file of a newer release.
    """
    known = {field.name for field in dataclasses.fields(LoraConfig)}
    foreign = [name for name, value in asked.items() if name in DECISIVE - known and value not in UNSET]
    if foreign:
        return Refusal("TypeError", f"LoraConfig of PEFT {peft.__version__} has no option {', '.join(foreign)}")
    try:
        return LoraConfig(**{name: value for name, value in asked.items() if name in known})
    except Exception as error:  # noqa: BLE001 - whatever PEFT says to it is its answer
        return Refusal(type(error).__name__, str(error))


@dataclass(frozen=True, slots=True)
class Targets:
    """The target patterns of a request, in its order, and how to ask PEFT about each."""

    modules: Mapping[str, LoraConfig]
    """By pattern of `target_modules`: the configuration with this pattern alone."""
    parameters: tuple[str, ...]
    whole: LoraConfig | None
    """None where PEFT cannot yet tell what matches: it fills in `all-linear` and defaults when it sees the model."""
    ranks: tuple[str, ...]

    def matching_module(self, name: str) -> tuple[str, ...]:
        """The patterns that match the module called `name`."""
        return tuple(pattern for pattern, alone in self.modules.items() if check_target_module_exists(alone, name))

    def matching_parameter(self, name: str) -> tuple[str, ...]:
        """The patterns that match the parameter called `name`. PEFT compares so in the middle of a method."""
        return tuple(wanted for wanted in self.parameters if name == wanted or name.endswith(f".{wanted}"))

    def told_apart(self, name: str) -> Hashable:
        """What PEFT does with `name` that it may do otherwise with the same name in another layer."""
        found = self.whole is not None and bool(check_target_module_exists(self.whole, name))
        rank = next((key for key in self.ranks if re.match(rf"(.*\.)?({key})$", name)), None)
        return found, rank, self.matching_module(name), self.matching_parameter(name)

    @property
    def tells_layers_apart(self) -> bool:
        """Whether a name's index can decide what matches: suffixes without digits are the same in every layer."""
        if self.ranks or (self.whole is not None and getattr(self.whole, "layers_to_transform", None) is not None):
            return True
        literal = self.whole is None or not isinstance(self.whole.target_modules, str)
        return not literal or any(re.search(r"\d", pattern) for pattern in (*self.modules, *self.parameters))


def targets_of(asked: Mapping[str, Any], config: LoraConfig | Refusal) -> Targets:
    """The targets of the keyword arguments `asked`, of which `config` was made."""
    modules = asked.get("target_modules")
    parameters = tuple(asked.get("target_parameters") or ())
    if isinstance(config, Refusal) or modules in (None, ALL_LINEAR):
        return Targets({}, parameters, None, ())
    patterns = [modules] if isinstance(modules, str) else list(modules)
    ranks = (*(config.rank_pattern or ()), *(config.alpha_pattern or ()))
    return Targets({pattern: _alone(config, modules, pattern) for pattern in patterns}, parameters, config, ranks)


def _alone(config: LoraConfig, modules: Any, pattern: str) -> LoraConfig:
    alone = copy.copy(config)
    alone.target_modules = pattern if isinstance(modules, str) else {pattern}
    return alone
