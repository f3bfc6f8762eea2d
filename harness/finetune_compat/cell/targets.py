"""Which modules and parameters each target pattern of a LoRA configuration matches, by PEFT's own matching."""

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
"""Options of LoraConfig that decide which parameters train, and that older releases of PEFT lack."""

UNSET: tuple[Any, ...] = (None, False, "none", "", [], {})
"""Values of unused options in a saved adapter_config.json."""


def lora_config(asked: Mapping[str, Any]) -> LoraConfig | Refusal:
    """The LoraConfig of this PEFT. Unknown options that do not decide which parameters train are left out, as PEFT does
    when it reads a file of a newer release. Otherwise a Refusal is returned.
    """
    known = {field.name for field in dataclasses.fields(LoraConfig)}
    foreign = [name for name, value in asked.items() if name in DECISIVE - known and value not in UNSET]
    if foreign:
        return Refusal("TypeError", f"LoraConfig of PEFT {peft.__version__} has no option {', '.join(foreign)}")
    try:
        return LoraConfig(**{name: value for name, value in asked.items() if name in known})
    except Exception as error:  # noqa: BLE001 - every error of PEFT is a refusal
        return Refusal(type(error).__name__, str(error))


@dataclass(frozen=True, slots=True)
class Targets:
    """The target patterns of a request, in its order, and PEFT's matching for each."""

    modules: Mapping[str, LoraConfig]
    """By pattern of `target_modules`: the configuration with only this pattern."""
    parameters: tuple[str, ...]
    whole: LoraConfig | None
    """None if the matches depend on the model: PEFT resolves `all-linear` and defaults when it gets the model."""
    ranks: tuple[str, ...]

    def matching_module(self, name: str) -> tuple[str, ...]:
        """The patterns that match the module called `name`."""
        return tuple(pattern for pattern, alone in self.modules.items() if check_target_module_exists(alone, name))

    def matching_parameter(self, name: str) -> tuple[str, ...]:
        """The patterns that match the parameter called `name`. PEFT has no function for this comparison."""
        return tuple(wanted for wanted in self.parameters if name == wanted or name.endswith(f".{wanted}"))

    def told_apart(self, name: str) -> Hashable:
        """How PEFT treats `name`: a value that may differ for the same name in another layer."""
        found = self.whole is not None and bool(check_target_module_exists(self.whole, name))
        rank = next((key for key in self.ranks if re.match(rf"(.*\.)?({key})$", name)), None)
        return found, rank, self.matching_module(name), self.matching_parameter(name)

    @property
    def tells_layers_apart(self) -> bool:
        """Whether the index of a layer can decide what matches. Suffixes without digits match in every layer."""
        if self.ranks or (self.whole is not None and getattr(self.whole, "layers_to_transform", None) is not None):
            return True
        literal = self.whole is None or not isinstance(self.whole.target_modules, str)
        return not literal or any(re.search(r"\d", pattern) for pattern in (*self.modules, *self.parameters))


def targets_of(asked: Mapping[str, Any], config: LoraConfig | Refusal) -> Targets:
    """The targets of the keyword arguments `asked`, from which `config` was created."""
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
