"""What a flow is given: the variant to build, the model, and how long to train."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from finetune_compat.cell.models import Model
from finetune_compat.contract.catalog import BATCH_ROWS
from finetune_compat.contract.records import DeviceKind, LoraShape, Variant


@dataclass(frozen=True, slots=True)
class Setup:
    """The givens of one cell. `dropped` collects options that no name of the installed version accepts."""

    variant: Variant
    device: DeviceKind
    emulates: DeviceKind | None
    """The device that 4-bit weights present to TRL, where it is not the one they are on."""
    model: Model
    lora: LoraShape
    attention: str
    """Attention implementation to load the model with, by Transformers' name."""
    scratch: Path
    """An empty directory of this cell's own."""
    learning_rate: float
    steps: int
    seed: int
    rows: int = BATCH_ROWS
    """Rows of one forward in training."""
    accumulation: int = 1
    """Forwards whose gradients make one step."""
    dropped: list[str] = field(default_factory=list)

    @property
    def quantized(self) -> bool:
        """Whether the base weights are stored by bitsandbytes."""
        return self.variant.precision.quantized

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed in the backward pass."""
        return self.variant.gradient_checkpointing
