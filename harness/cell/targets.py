"""What a LoRA configuration names, asked of PEFT's own matching, one pattern at a time."""

from __future__ import annotations

import copy
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists

ALL_LINEAR = "all-linear"


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


def targets_of(asked: Mapping[str, Any], config: LoraConfig | None) -> Targets:
    """The targets of the keyword arguments `asked`, of which `config` was made (None if PEFT refused them)."""
    modules = asked.get("target_modules")
    parameters = tuple(asked.get("target_parameters") or ())
    if config is None or modules in (None, ALL_LINEAR):
        return Targets({}, parameters, None, ())
    patterns = [modules] if isinstance(modules, str) else list(modules)
    ranks = (*(config.rank_pattern or ()), *(config.alpha_pattern or ()))
    return Targets({pattern: _alone(config, modules, pattern) for pattern in patterns}, parameters, config, ranks)


def _alone(config: LoraConfig, modules: Any, pattern: str) -> LoraConfig:
    alone = copy.copy(config)
    alone.target_modules = pattern if isinstance(modules, str) else {pattern}
    return alone
