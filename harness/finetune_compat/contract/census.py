"""The contract of a census between the two sides: the request to a stack, and the stage table in its response.

Standard library only. A stage table records what the stack's libraries did to a model without weights.
`finetune_compat.census.verdicts` judges whether this is what the user means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from finetune_compat.contract.records import Area, AreaCount, Stage

ALL_LINEAR = "all-linear"
"""The value of `target_modules` that means every linear layer except the head."""


class Quantization(StrEnum):
    """How bitsandbytes stores the linear layers."""

    NF4 = "nf4"
    INT8 = "int8"
    NONE = "none"


class LoadDtype(StrEnum):
    """The dtype of unquantized weights, as passed to `from_pretrained`."""

    BF16 = "bf16"
    FP32 = "fp32"


@dataclass(frozen=True, slots=True)
class StageTableRequest:
    """The request to a stack: the census of one model, with one quantization, dtype and LoRA configuration."""

    config: Mapping[str, Any]
    """A model's `config.json`."""
    lora: Mapping[str, Any]
    """Keyword arguments of PEFT's `LoraConfig`."""
    quantization: Quantization
    dtype: LoadDtype
    layers_alike: bool
    """Whether all decoder layers of this config are the same except for their index: then only one is built."""


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
    """Adapter counts by the area of the adapted module."""
    dtypes: Mapping[str, int]
    """Stored elements by dtype."""


class WeightKind(StrEnum):
    """The kind of module that holds a weight, as LoRA distinguishes them."""

    LINEAR = "linear"
    EMBEDDING = "embedding"
    CONVOLUTION = "convolution"
    PARAMETER = "parameter"
    """A tensor of two or more dimensions on any other module: experts in one tensor, or a router."""


class AdapterKind(StrEnum):
    """What PEFT adds to a weight."""

    LORA = "lora"
    COPY = "copy"
    """A full copy of the module, from `modules_to_save`."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """What PEFT adds to a weight. `a` and `b` are the shapes of `lora_A` and `lora_B`; both are empty for a copy."""

    kind: AdapterKind
    a: tuple[int, ...]
    b: tuple[int, ...]
    trainable: int
    """Trainable elements that PEFT adds to one weight."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A group of equal weights: the same place in equal layers."""

    path: str
    """Path of the module (example: `model.layers.[0-27].self_attn.q_proj`); of the parameter if `kind` is PARAMETER."""
    kind: WeightKind
    area: Area
    shape: tuple[int, ...]
    count: int
    quantized: bool
    patterns: tuple[str, ...]
    """The target patterns of the request that PEFT matches with the weight."""
    adapter: Adapter | None

    @property
    def leaf(self) -> str:
        """The last component of the path."""
        return self.path.rpartition(".")[2]

    @property
    def elements(self) -> int:
        """Elements of all weights of the group, unpacked."""
        return self.count * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Effective:
    """The targets that PEFT uses after it resolves `all-linear`, fills in defaults and converts renamed modules."""

    target_modules: tuple[str, ...]
    target_parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The exception with which PEFT refused the LoRA configuration."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class StageTable:
    """The response of a stack: counts by stage, and every weight matrix with its adapter."""

    model_class: str
    versions: Mapping[str, str]
    stages: tuple[StageCount, ...]
    weights: tuple[Weight, ...]
    effective: Effective | None
    """None if PEFT refused."""
    refusal: Refusal | None
    work_s: float
    """Seconds of work, without imports."""

    def count(self, stage: Stage) -> StageCount | None:
        """The counts at `stage`; None if the model does not reach it."""
        return next((count for count in self.stages if count.stage is stage), None)


class CannotBuild(StrEnum):
    """Why a stack has no stage table for a config."""

    NO_CLASS = "no class"
    """Its Transformers does not know the model type, or knows none of the architectures."""
    REJECTED = "rejected"
    """Its Transformers knows the class and rejects the config's values."""


@dataclass(frozen=True, slots=True)
class Inability:
    """The response of a stack that cannot build the model."""

    why: CannotBuild
    message: str
    transformers: str
