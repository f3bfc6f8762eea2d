"""The lock of a side: the committed lock of a row, or a new one in `places().gate_locks`."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.asked import Row, Target, Upgrade, Wanted
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.move_pins import releases_of, with_built
from finetune_compat.gate.pins import named_after, of_its_day, row_of, version_of
from finetune_compat.gate.project_lock import of_project
from finetune_compat.gate.resolved import Context, Progress, Resolved
from finetune_compat.gate.side_lock import lock_for_here, plan_of, today
from finetune_compat.gate.upgraded import moved, upgraded
from finetune_compat.machine.places import places
from finetune_compat.stacks import index
from finetune_compat.stacks.locks import locked
from finetune_compat.stacks.matrix import Matrix


def resolve(
    side: Target,
    asked: str,
    matrix: Matrix,
    device: DeviceKind,
    python: str | None,
    progress: Progress,
    before: Resolved | None = None,
    *,
    fresh: bool = False,
) -> Resolved:
    """The lock of a side. Read it if it exists, else make it.

    Args:
        side: the parsed side.
        asked: the side as it was typed.
        matrix: for rows, packages, the floor and exemptions.
        device: locks may differ between a CPU and a GPU.
        python: the Python to run a row on. If None, the row's own.
        progress: called with each line of progress.
        before: the other side, in which an upgrade moves packages.
        fresh: build again what did not build before.

    Raises:
        CompatError: a pin names no existing release, or a row is not locked for that Python.
        InstallError: a package of the training stack is built from source, and does not build.
        RegistryUnreachable: a lock must be made, and the index does not answer.
    """
    context = Context(matrix, device, progress, fresh)
    if isinstance(side, Upgrade):
        if side.in_project and before is not None:
            return upgraded(side, asked, before, context)
        side = _settled(side, context)
    if isinstance(side, Row):
        return _of_row(side, asked, matrix, device, python)
    if side.built:
        side = with_built(side, context)
    if side.rule is Rule.OF_ITS_DAY:
        return _of_its_day(side, asked, context)
    progress(f"{asked}: resolving, {describe_rule(side.rule, today())}")
    return of_project(side, asked, (), context)


def _settled(side: Upgrade, context: Context) -> Row | Wanted:
    """The side of moves that are not in a project: exact pins of the releases that they mean."""
    python = side.python or context.matrix.pythons[0]
    if not side.moves:
        return Wanted(Rule.OF_ITS_DAY, f"latest-{today():%Y%m%d}", (), (), side.not_followed, python)
    pins, wheels = releases_of(side.moves, context)
    row = row_of(pins, context.matrix, side.not_followed)
    return row or replace(of_its_day(pins, python, side.not_followed), wheels=wheels)


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
    pins = (Requirement(row.stack.pinned),) if row.stack.pinned else ()
    return Resolved(asked, Rule.ROW, plan, locked(plan), row.not_followed, pins)


def _of_its_day(side: Wanted, asked: str, context: Context) -> Resolved:
    """Bare pins, with the other packages as of the latest of their release days. What was built is of today."""
    built = [pin for pin in side.requirements if version_of(pin).local]
    released = [
        index.release_day(canonicalize_name(pin.name), version_of(pin)) for pin in side.requirements if pin not in built
    ]
    day = today() if built or not released else max(released)
    plan = plan_of(context.matrix, side, side.name, (day, max(day, context.matrix.floor)), context.device)
    context.progress(f"{asked}: resolving, {describe_rule(side.rule, plan.as_of)}")
    plan, lock, notes = lock_for_here(plan, context.device, side.not_followed)
    return Resolved(asked, side.rule, plan, lock, (*side.not_followed, *notes), side.requirements, side)


def of_release(
    resolved: Resolved, package: str, version: Version, day: date, matrix: Matrix, device: DeviceKind
) -> Resolved:
    """The same side with another release of one package.

    For pins and rows, the other packages are those of the release's row, or as of its day. For a file or a live
    environment, the other versions stay where they can.

    Raises:
        RegistryUnreachable: a lock must be made, and the index does not answer.
    """
    pin = Requirement(f"{package}=={version}")
    pin.extras = {extra for item in resolved.pins if canonicalize_name(item.name) == package for extra in item.extras}
    others = tuple(item for item in resolved.pins if canonicalize_name(item.name) != package)
    python, asked = resolved.plan.python, str(pin)
    if resolved.wanted is not None and resolved.rule in (Rule.FILE, Rule.LIVE):
        return moved(resolved, (pin,), asked, Context(matrix, device, lambda _: None))
    row = next((stack for stack in matrix.stacks if stack.package == package and Version(stack.pin) == version), None)
    if not others and not pin.extras and row is not None and python in row.pythons:
        return _of_row(Row(row, python), asked, matrix, device, None)
    name = named_after((pin, *others))
    wanted = Wanted(Rule.OF_ITS_DAY, name, (pin, *others), (), (), python)
    newest = max(day, resolved.plan.stack.released) if others else day
    plan = plan_of(matrix, wanted, name, (newest, max(newest, matrix.floor)), device)
    plan, lock, notes = lock_for_here(plan, device)
    return Resolved(asked, wanted.rule, plan, lock, notes, wanted.requirements, wanted)
