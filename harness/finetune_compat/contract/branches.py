"""Which sides of device-dependent branches the cells of a stack took. Standard library only, because both sides use it.

A guard is a condition whose value depends on the device: `torch.cuda.is_available()`, `param.device.type == "cpu"`, or
a local variable with such a value. A record holds facts: which cells saw a guard true, and which saw it false.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

PACKAGES = ("trl", "peft", "transformers", "accelerate", "bitsandbytes")
"""The packages whose guards are recorded."""


class Accelerator(StrEnum):
    """Whose absence or presence decides a guard."""

    CUDA = "cuda"
    """A CUDA GPU, an accelerator of any kind, or what only runs on one (Triton, bfloat16 kernels)."""
    OTHER = "other"
    """Only accelerators of other makers. A machine with a CUDA GPU takes the same side as one without a GPU."""


@dataclass(frozen=True, slots=True)
class TracedCell:
    """A cell that ran under the tracer."""

    name: str
    """Flow and variant (example: `sft-peft-model[qwen2-nf4-gc]`)."""
    emulates: bool
    """Whether its weights reported an accelerator to TRL."""
    error: str
    """Type and stage of the error that ended it; empty if it reached its end."""

    @property
    def flow(self) -> str:
        """The cell's flow."""
        return self.name.partition("[")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """One device-dependent condition in a function that at least one cell executed."""

    file: str
    """Relative to site-packages."""
    line: int
    function: str
    """Qualified name."""
    condition: str
    """Its source on one line, without the `and`, `or` and `not` around it."""
    accelerator: Accelerator
    true: tuple[int, ...]
    """Indices of the cells in which it was true at least once."""
    false: tuple[int, ...]
    """Indices of the cells in which it was false at least once."""

    def took(self, side: bool) -> tuple[int, ...]:  # noqa: FBT001 - a side is a truth value
        """Indices of the cells that took `side`."""
        return self.true if side else self.false


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchTrace:
    """The guards of one stack on one device."""

    stack: str
    lock_sha256: str
    versions: Mapping[str, str]
    python: str
    device: str
    harness_version: str
    measured: str
    """Start time of the first cell."""
    cells: tuple[TracedCell, ...]
    guards: tuple[Guard, ...]
    commit: str = ""
    """Commit of the harness, with `+` if files differed from it. The host adds it."""
