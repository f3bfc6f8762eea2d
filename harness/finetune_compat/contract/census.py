"""The contract of a census between the two sides: what is asked of a stack, and the stage table it answers with.

Standard library only. A stage table holds what the stack's own libraries did to a model without weights; whether that
is what a user wanted is said by `finetune_compat.census.verdicts`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from finetune_compat.contract.records import Area, AreaCount, Stage

ALL_LINEAR = "all-linear"
"""The word by which `target_modules` names every linear layer but the head."""


class Quantization(StrEnum):
    """How bitsandbytes stores the linear layers."""

    NF4 = "nf4"
    INT8 = "int8"
    NONE = "none"


class LoadDtype(StrEnum):
    """The dtype of what is not quantized, as handed to `from_pretrained`."""

    BF16 = "bf16"
    FP32 = "fp32"


@dataclass(frozen=True, slots=True)
class StageTableRequest:
    """What a stack is asked: the census of one model, loaded one way, with one LoRA configuration."""

    config: Mapping[str, Any]
    """A model's `config.json`."""
    lora: Mapping[str, Any]
    """Keyword arguments of PEFT's `LoraConfig`."""
    quantization: Quantization
    dtype: LoadDtype
    layers_alike: bool
    """Whether the decoder layers of this config differ in nothing but their index: one is then built for all."""


@dataclass(frozen=True, slots=True)
class StageCount:
    """Parameters at one stage. Counts are stored elements; `*_logical` unpacks 4-bit storage, as PEFT prints it."""

    stage: Stage
    trainable: int
    total: int
    trainable_logical: int
    total_logical: int
    by_area: Mapping[Area, AreaCount]
    adapters_on: Mapping[Area, AreaCount]
    """The area `adapter`, by the area of the module each adapter sits on."""
    dtypes: Mapping[str, int]
    """Stored elements by dtype."""


class WeightKind(StrEnum):
    """What a weight belongs to, as far as LoRA cares."""

    LINEAR = "linear"
    EMBEDDING = "embedding"
    CONVOLUTION = "convolution"
    PARAMETER = "parameter"
    """Two dimensions or more, directly on a module that is none of these: experts in one tensor, a router."""


class AdapterKind(StrEnum):
    """What trains beside a weight."""

    LORA = "lora"
    COPY = "copy"
    """A whole copy of the module, by `modules_to_save`."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """What PEFT put beside a weight. `a` and `b` are the shapes of `lora_A` and `lora_B`; empty for a copy."""

    kind: AdapterKind
    a: tuple[int, ...]
    b: tuple[int, ...]
    trainable: int
    """Trainable elements beside one weight."""


@dataclass(frozen=True, slots=True)
class Weight:
    """All weights that are alike: the same place in layers that are alike."""

    path: str
    """Of the module (of the parameter where `kind` is PARAMETER), such as `model.layers.[0-27].self_attn.q_proj`."""
    kind: WeightKind
    area: Area
    shape: tuple[int, ...]
    count: int
    quantized: bool
    patterns: tuple[str, ...]
    """Target patterns, as the request spells them, that PEFT's own matching finds it by."""
    adapter: Adapter | None

    @property
    def leaf(self) -> str:
        """The last component of the path."""
        return self.path.rpartition(".")[2]

    @property
    def elements(self) -> int:
        """Elements of all of them together, unpacked."""
        return self.count * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Effective:
    """The targets PEFT really worked with: it resolves `all-linear`, fills in defaults and converts what moved."""

    target_modules: tuple[str, ...]
    target_parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An exception by which PEFT refused the LoRA configuration."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class StageTable:
    """What a stack answers: counts by stage, every weight matrix, and what LoRA did to it."""

    model_class: str
    versions: Mapping[str, str]
    stages: tuple[StageCount, ...]
    weights: tuple[Weight, ...]
    effective: Effective | None
    """None where PEFT refused."""
    refusal: Refusal | None
    work_s: float
    """Seconds of work after everything was imported."""

    def count(self, stage: Stage) -> StageCount | None:
        """The counts at `stage`; None if the model does not get there."""
        return next((count for count in self.stages if count.stage is stage), None)


class CannotBuild(StrEnum):
    """Why a stack has no stage table for a config."""

    NO_CLASS = "no class"
    """Its Transformers does not know the model type, or none of the architectures."""
    REJECTED = "rejected"
    """Its Transformers knows the class and rejects the config's values."""


@dataclass(frozen=True, slots=True)
class Inability:
    """A stack's answer where it cannot build the model."""

    why: CannotBuild
    message: str
    transformers: str
