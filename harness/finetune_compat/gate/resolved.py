"""A side with its lock, and what the lock of every side depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packaging.requirements import Requirement

from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.asked import Wanted
from finetune_compat.gate.decision import Rule
from finetune_compat.stacks.locks import Lock, Unsolvable
from finetune_compat.stacks.matrix import LockPlan, Matrix

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A side with its lock, or with the reason of the resolver why there is none."""

    asked: str
    rule: Rule
    plan: LockPlan
    lock: Lock | Unsolvable
    not_followed: tuple[str, ...]
    pins: tuple[Requirement, ...]
    """The side's own requirements on packages of the matrix; for an upgrade those that move."""
    wanted: Wanted | None = None
    """What was resolved, without what is left out; None for a row."""

    @property
    def stack(self) -> str:
        """Name of the stack with its Python."""
        return self.plan.stack.on(self.plan.python)


@dataclass(frozen=True, slots=True)
class Context:
    """What the lock of every side depends on."""

    matrix: Matrix
    device: DeviceKind
    progress: Progress
    fresh: bool = False
    """Whether to build again what did not build before."""
