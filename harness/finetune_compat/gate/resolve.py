"""The lock of a side: the committed lock of a row, or a new one in `places().gate_locks`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.contract.errors import CompatError, LockError, RegistryUnreachable
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.inputs import Row, Wanted, named_after
from finetune_compat.machine.places import places
from finetune_compat.stacks import index
from finetune_compat.stacks.locks import (
    Lock,
    Outcome,
    Unsolvable,
    lock_path,
    locked,
    make_locks,
    read_lock,
    unsolvable_path,
)
from finetune_compat.stacks.matrix import LockPlan, Matrix, Stack

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
    """The side's own requirements on packages of the matrix."""

    @property
    def stack(self) -> str:
        """Name of the stack with its Python."""
        return self.plan.stack.on(self.plan.python)


def resolve(
    side: Row | Wanted, asked: str, matrix: Matrix, device: DeviceKind, python: str | None, progress: Progress
) -> Resolved:
    """The lock of a side. Read it if it exists, else make it.

    Args:
        side: the parsed side.
        asked: the side as it was typed.
        matrix: for rows, packages, the floor and exemptions.
        device: locks may differ between a CPU and a GPU.
        python: the Python to run a row on. If None, the row's own.
        progress: called with each line of progress.

    Raises:
        CompatError: a pin names no existing release, or a row is not locked for that Python.
        RegistryUnreachable: a lock must be made, and the index does not answer.
    """
    if isinstance(side, Row):
        return _of_row(side, asked, matrix, device, python)
    if side.rule is Rule.OF_ITS_DAY:
        day = max(index.release_day(canonicalize_name(pin.name), _version(pin)) for pin in side.requirements)
        plan = _plan(matrix, side, side.name, (day, max(day, matrix.floor)), device)
    else:
        plan = _of_today(matrix, side, device)
    progress(f"{asked}: resolving, {describe_rule(side.rule, plan.as_of)}")
    return Resolved(asked, side.rule, plan, _locked(plan), side.not_followed, side.requirements)


def describe_rule(rule: Rule, as_of: date) -> str:
    """A clause that describes where the versions come from."""
    match rule:
        case Rule.ROW:
            return f"a row of the matrix, as of {as_of}"
        case Rule.OF_ITS_DAY:
            return f"the other packages as of {as_of}"
        case Rule.FILE:
            return f"the file's versions, packages it does not pin as of {as_of}"
        case Rule.LIVE:
            return f"the versions installed there, missing packages as of {as_of}"


def _of_row(row: Row, asked: str, matrix: Matrix, device: DeviceKind, python: str | None) -> Resolved:
    version = row.python or python or row.stack.pythons[0]
    if version not in row.stack.pythons:
        raise CompatError(
            f"{row.stack.name} is not locked for Python {version}",
            where=places().shown(places().stacks),
            meaning=f"Its row names {', '.join(row.stack.pythons)}.",
            todo="Leave --python out, or name one of these.",
        )
    plan = matrix.plan(row.stack, version, device)
    pin = Requirement(f"{row.stack.package}=={row.stack.pin}")
    return Resolved(asked, Rule.ROW, plan, locked(plan), row.not_followed, (pin,))


def of_release(
    resolved: Resolved, package: str, version: Version, day: date, matrix: Matrix, device: DeviceKind
) -> Resolved:
    """The same side with another release of one package.

    For pins and rows, the other packages are those of the release's row, or as of its day. For a file or a live
    environment, the other versions stay.

    Raises:
        RegistryUnreachable: a lock must be made, and the index does not answer.
    """
    pin = Requirement(f"{package}=={version}")
    pin.extras = {extra for item in resolved.pins if canonicalize_name(item.name) == package for extra in item.extras}
    others = tuple(item for item in resolved.pins if canonicalize_name(item.name) != package)
    python, asked = resolved.plan.python, str(pin)
    row = next((stack for stack in matrix.stacks if stack.package == package and Version(stack.pin) == version), None)
    if not others and not pin.extras and row is not None and python in row.pythons:
        return _of_row(Row(row, python), asked, matrix, device, None)
    if resolved.rule in (Rule.ROW, Rule.OF_ITS_DAY):
        name = named_after((pin, *others))
        wanted = Wanted(Rule.OF_ITS_DAY, name, (pin, *others), (), (), python)
        newest = max(day, resolved.plan.stack.released) if others else day
        days = (newest, max(newest, matrix.floor))
    else:
        name = f"{resolved.plan.stack.name}-{package}{version}"
        wanted = Wanted(resolved.rule, name, (pin, *others), resolved.plan.constraints, (), python)
        days = (resolved.plan.as_of, resolved.plan.as_of)
    plan = _plan(matrix, wanted, name, days, device)
    return Resolved(asked, wanted.rule, plan, _locked(plan), (), wanted.requirements)


def _version(pin: Requirement) -> Version:
    return Version(next(iter(pin.specifier)).version)


def _of_today(matrix: Matrix, side: Wanted, device: DeviceKind) -> LockPlan:
    """The plan as of today, or as of the day of an earlier lock.

    The name holds a digest of the requirements, so the same file gets the same lock on a later day.
    """
    wanted = "\n".join((*map(str, side.requirements), *side.constraints))
    name = f"{side.name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
    today = datetime.now(UTC).date()
    plan = _plan(matrix, side, name, (today, today), device)
    made = lock_path(plan, places().gate_locks)
    if not made.exists():
        return plan
    first = date.fromisoformat(read_lock(made).facts["as-of"])
    return _plan(matrix, side, name, (first, first), device)


def _plan(matrix: Matrix, side: Wanted, name: str, days: tuple[date, date], device: DeviceKind) -> LockPlan:
    """The resolver's input for a row with these pins. `days` are that of the release and that of the other packages."""
    released, as_of = days
    package = canonicalize_name(side.requirements[0].name) if side.rule is Rule.OF_ITS_DAY else ""
    label = name.removeprefix(package)
    stack = Stack(package, label, "", released, as_of, "", (side.python,))
    base = matrix.plan(stack, side.python, device)
    stated: dict[str, list[str]] = {name: [] for name in matrix.packages}
    for item in side.requirements:  # a file and the files it includes may each constrain the same package
        stated.setdefault(canonicalize_name(item.name), []).append(str(item))
    return replace(
        base,
        requirements=(*(text for name, texts in stated.items() for text in texts or [name]), *matrix.tools),
        constraints=side.constraints,
        again="compat gate",
    )


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
