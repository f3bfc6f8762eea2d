"""The input of a flow: the variant to build, the model, and the training settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from finetune_compat.cell.models import Model
from finetune_compat.contract.catalog import BATCH_ROWS
from finetune_compat.contract.records import DeviceKind, LoraShape, Variant


@dataclass(frozen=True, slots=True)
class AdamWSettings:
    """The optimizer that every flow asks for: Trainer's defaults."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    """Gradients with a larger norm are scaled to it."""


ADAMW = AdamWSettings()


@dataclass(frozen=True, slots=True)
class Setup:
    """The input of one cell. `dropped` collects the options that the installed version does not accept by any name."""

    variant: Variant
    device: DeviceKind
    emulates: DeviceKind | None
    """The device that 4-bit weights report to TRL; None if they report their real device."""
    model: Model
    lora: LoraShape
    attention: str
    """Attention implementation of the model, by Transformers' name."""
    scratch: Path
    """An empty directory that only this cell uses."""
    learning_rate: float
    steps: int
    seed: int
    rows: int = BATCH_ROWS
    """Rows of one forward pass in training."""
    accumulation: int = 1
    """Forward passes per optimizer step."""
    dropped: list[str] = field(default_factory=list)

    @property
    def quantized(self) -> bool:
        """Whether the base weights are stored by bitsandbytes."""
        return self.variant.precision.quantized

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed in the backward pass."""
        return self.variant.gradient_checkpointing
