"""The plan of a side as of a day, and its lock: an existing one that answers it, or a new one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from packaging.utils import canonicalize_name

from finetune_compat.contract.errors import LockError, RegistryUnreachable
from finetune_compat.contract.names import shortened
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.asked import Wanted
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.left_out import left_out
from finetune_compat.gate.platform_layer import OF_A_BUILD
from finetune_compat.gate.resolved import Context
from finetune_compat.machine.places import places
from finetune_compat.stacks.locks import (
    Lock,
    Outcome,
    Unsolvable,
    as_of,
    lock_path,
    locked,
    make_locks,
    unsolvable_path,
)
from finetune_compat.stacks.matrix import LockPlan, Matrix, Stack


def today() -> date:
    """The day in UTC."""
    return datetime.now(UTC).date()


def of_today(side: Wanted, preferences: tuple[str, ...], context: Context) -> LockPlan:
    """The plan as of today, or as of the day of an earlier lock.

    The name holds a digest of the requirements, so the same file gets the same lock on a later day.
    """
    stated = (*map(str, (*side.requirements, *side.others)), *side.constraints, *preferences, *map(str, side.wheels))
    stated += tuple(f"override {text}" for text in side.overrides)
    name = shortened(f"{side.name}-{hashlib.sha256(chr(10).join(stated).encode()).hexdigest()[:8]}")
    day = today()
    plan = plan_of(context.matrix, side, name, (day, day), context.device, preferences)
    made = next((path for path in _files_of(plan) if path.exists()), None)
    if made is None:
        return plan
    first = date.fromisoformat(as_of(made))
    return plan_of(context.matrix, side, name, (first, first), context.device, preferences)


def _files_of(plan: LockPlan) -> tuple[Path, Path]:
    return lock_path(plan, places().gate_locks), unsolvable_path(plan, places().gate_locks)


def plan_of(
    matrix: Matrix,
    side: Wanted,
    name: str,
    days: tuple[date, date],
    device: DeviceKind,
    preferences: tuple[str, ...] = (),
) -> LockPlan:
    """The resolver's input for a row with these pins. `days` are that of the release and that of the other packages."""
    released, as_of_day = days
    pinned = side.rule is Rule.OF_ITS_DAY and side.requirements
    package = canonicalize_name(side.requirements[0].name) if pinned else ""
    label = name.removeprefix(package)
    stack = Stack(package, label, "", released, as_of_day, "", (side.python,))
    base = matrix.plan(stack, side.python, device)
    stated: dict[str, list[str]] = {name: [] for name in matrix.packages}
    for item in side.requirements:  # a file and the files it includes may each constrain the same package
        stated.setdefault(canonicalize_name(item.name), []).append(str(item))
    direct = (text for name, texts in stated.items() for text in texts or [name])
    return replace(
        base,
        requirements=(*direct, *map(str, side.others), *matrix.tools),
        constraints=side.constraints,
        overrides=side.overrides,
        preferences=preferences,
        wheels=side.wheels,
        again="compat gate",
    )


def lock_for_here(
    plan: LockPlan, device: DeviceKind, noted: Sequence[str] = ()
) -> tuple[LockPlan, Lock | Unsolvable, tuple[str, ...]]:
    """The lock of `plan`; on a CPU without the libraries that belong to a build of torch, each with a note.

    The wheels that the index has of them load libraries of CUDA. Where they are installed and cannot be imported,
    Transformers cannot be imported either.
    """
    lock = _locked(plan)
    bound = [] if isinstance(lock, Unsolvable) else [name for name in OF_A_BUILD if name in lock.requirements]
    if device is not DeviceKind.CPU or isinstance(lock, Unsolvable) or not bound:
        return plan, lock, ()
    reason = "a package needs it, and the index has it for CUDA builds of torch only"
    new = (name for name in bound if not any(note.startswith(name) for note in noted))
    notes = tuple(left_out(f"{name}=={lock.requirements[name]}", reason) for name in new)
    name = shortened(f"{plan.name}-without-{'-'.join(bound)}")
    without = replace(plan, name=name, excluded=(*plan.excluded, *bound))
    return without, _locked(without), notes


def _locked(plan: LockPlan) -> Lock | Unsolvable:
    """The existing lock if it answers `plan`, else a new one."""
    if lock_path(plan, places().gate_locks).exists() or unsolvable_path(plan, places().gate_locks).exists():
        try:
            return locked(plan, places().gate_locks)
        except LockError:
            pass  # from another matrix, or truncated: make it again
    (result,) = make_locks([plan], lambda _: None, places().gate_locks)
    if result.outcome is Outcome.COULD_NOT_ASK:
        raise RegistryUnreachable(
            f"no lock could be made: {result.detail}",
            where=plan.name,
            meaning="The package index did not answer, or uv itself failed.",
            todo="Check the connection and run the gate again, or name stacks of the matrix: they have locks.",
        )
    return locked(plan, places().gate_locks)
