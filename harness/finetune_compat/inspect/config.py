"""`adapter_config.json` as frozen values. Host side.

Parsing reports every fault of the file at once, each with its place. Keys that no check uses are ignored here: a stack
decides which of them its PEFT knows. Defaults are those of PEFT's LoraConfig.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Strict, TypeAdapter, ValidationError

from finetune_compat.contract.errors import AdapterError, Fault, listed
from finetune_compat.machine.foreign import parsed

LORA = "LORA"
"""The `peft_type` of LoRA, rsLoRA and DoRA, the methods that the checks judge in depth."""

ALL_LINEAR = "all-linear"
"""Stands for every linear layer but the head. Some PEFT releases write it into the file unresolved."""

CONFIG = "adapter_config.json"


def _positive(value: int) -> int:
    if value < 1:
        raise ValueError(value)
    return value


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(text) from error
    return text


_Rank = Annotated[int, Strict(), AfterValidator(_positive)]
_Number = Annotated[float, Strict()]
_Flag = Annotated[bool, Strict()]
_Text = Annotated[str, Strict()]
_Pattern = Annotated[str, Strict(), AfterValidator(_pattern)]
_Layer = Annotated[int, Strict()]


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The keys of the file that are reported and judged, under their own names."""

    peft_type: _Text
    peft_version: _Text | None = None
    """Recorded by PEFT from 0.18 on."""
    task_type: _Text | None = None
    base_model_name_or_path: _Text | None = None
    inference_mode: _Flag = False
    r: _Rank = 8
    lora_alpha: _Number = 8
    use_rslora: _Flag = False
    use_dora: _Flag = False
    bias: _Text = "none"
    rank_pattern: dict[_Pattern, _Rank] | None = None
    alpha_pattern: dict[_Pattern, _Number] | None = None
    target_modules: tuple[_Text, ...] | _Pattern | None = None
    """Ends of module names, or one regular expression for whole names."""
    exclude_modules: tuple[_Text, ...] | _Pattern | None = None
    """Modules that PEFT does not adapt although a target names them; same form as `target_modules`."""
    target_parameters: tuple[_Text, ...] | None = None
    modules_to_save: tuple[_Text, ...] | None = None
    layers_to_transform: tuple[_Layer, ...] | _Layer | None = None
    layers_pattern: tuple[_Pattern, ...] | _Pattern | None = None
    trainable_token_indices: Any = None
    layer_replication: Any = None
    init_lora_weights: Any = True
    use_bdlora: Any = None
    ensure_weight_tying: _Flag = False

    @property
    def is_lora(self) -> bool:
        """Whether the method is LoRA, rsLoRA or DoRA, which the checks judge in depth."""
        return self.peft_type == LORA

    @property
    def start(self) -> str:
        """The initialization of updates, in lower case as PEFT compares it; `default` for true, `none` for false."""
        asked = self.init_lora_weights
        return asked.lower() if isinstance(asked, str) else "default" if asked else "none"

    @property
    def method(self) -> str:
        """The common name of the method."""
        if not self.is_lora:
            return self.peft_type
        base = "rsLoRA" if self.use_rslora else "LoRA"
        return f"DoRA ({base})" if self.use_dora and self.use_rslora else "DoRA" if self.use_dora else base


_CONFIG: TypeAdapter[AdapterConfig] = TypeAdapter(AdapterConfig)

_FLAG, _NUMBER, _TEXT, _NAMES = "true or false", "a number", "text", "a list of names"
_MUST_BE = {
    "peft_type": _TEXT,
    "peft_version": _TEXT,
    "task_type": _TEXT,
    "base_model_name_or_path": _TEXT,
    "inference_mode": _FLAG,
    "r": "a whole number above 0",
    "lora_alpha": _NUMBER,
    "use_rslora": _FLAG,
    "use_dora": _FLAG,
    "ensure_weight_tying": _FLAG,
    "bias": _TEXT,
    "rank_pattern": "whole numbers above 0 by regular expression",
    "alpha_pattern": "numbers by regular expression",
    "target_modules": "a list of names or a regular expression",
    "exclude_modules": "a list of names or a regular expression",
    "target_parameters": _NAMES,
    "modules_to_save": _NAMES,
    "layers_to_transform": "a whole number or a list of them",
    "layers_pattern": "a regular expression or a list of them",
}
"""The valid values of each validated key, as text for messages."""

_EVERYWHERE = ("peft_type", "peft_version", "task_type", "base_model_name_or_path", "inference_mode")
"""Keys with the same meaning in every method. Other keys share only the name: AdaLoRA's rank_pattern holds masks."""


def read_config(path: Path) -> tuple[AdapterConfig, dict[str, Any]]:
    """The parsed configuration in `path`, and the raw JSON object.

    Raises:
        AdapterError: the file is not a JSON object, or holds invalid values. The error lists every fault.
    """
    try:
        raw = parsed(path.read_bytes(), parse_float=_finite, parse_constant=_finite)
    except ValueError as error:
        raise _unreadable(path, str(error)) from None
    if not isinstance(raw, dict):
        raise _unreadable(path, "must hold a JSON object")
    if "peft_type" not in raw:
        raise AdapterError(
            "has no peft_type",
            where=str(path),
            meaning="PEFT did not write this file; other libraries write one of the same name.",
            todo="Convert the adapter to PEFT's format with the library that made it.",
        )
    lora = raw["peft_type"] == LORA
    try:
        return _CONFIG.validate_python(raw if lora else {key: raw[key] for key in _EVERYWHERE if key in raw}), raw
    except ValidationError as error:
        wrong = dict.fromkeys(str(item["loc"][0]) for item in error.errors())
        faults = tuple(Fault(key, f"must be {_MUST_BE[key]}, not {json.dumps(raw[key])}") for key in wrong)
        raise _unreadable(path, listed(faults)) from None


def _finite(text: str) -> float:
    """Parse `text` as a finite number. Python's JSON decoder also accepts NaN and Infinity, which are not JSON."""
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is not a finite number")
    return float(text)


def _unreadable(path: Path, problem: str) -> AdapterError:
    return AdapterError(
        problem,
        where=str(path),
        meaning="The file is damaged or was edited by hand. PEFT refuses it too, or loads something else.",
        todo="Take the file from the save it belongs to, or correct it.",
    )
