"""The lock of a side: the committed lock of a row, or a new one in `places().gate_locks`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.contract.errors import CompatError, InstallError, LockError, RegistryUnreachable
from finetune_compat.contract.names import shortened
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.asked import Move, Row, Target, Upgrade, Wanted
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.left_out import Obstacle, left_out, obstacle
from finetune_compat.gate.pins import named_after, of_its_day, pin_of, row_of
from finetune_compat.gate.platform_layer import OF_A_BUILD
from finetune_compat.machine.places import places
from finetune_compat.stacks import index
from finetune_compat.stacks.built import Built, build
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

Progress = Callable[[str], None]

_MOST_ROUNDS = 40
"""Maximum number of packages that are left out one after the other. Each costs a call of the resolver."""


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
class _Context:
    """What the lock of every side depends on."""

    matrix: Matrix
    device: DeviceKind
    progress: Progress
    fresh: bool = False
    """Whether to build again what did not build before."""


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
    context = _Context(matrix, device, progress, fresh)
    if isinstance(side, Upgrade):
        if side.in_project and before is not None:
            return _upgraded(side, asked, before, context)
        side = _settled(side, context)
    if isinstance(side, Row):
        return _of_row(side, asked, matrix, device, python)
    if side.built:
        side = _with_built(side, context)
    if side.rule is Rule.OF_ITS_DAY:
        return _of_its_day(side, asked, context)
    progress(f"{asked}: resolving, {describe_rule(side.rule, _today())}")
    return _of_project(side, asked, (), context)


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


def _today() -> date:
    return datetime.now(UTC).date()


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


def _of_its_day(side: Wanted, asked: str, context: _Context) -> Resolved:
    """Bare pins, with the other packages as of the latest of their release days. What was built is of today."""
    built = [pin for pin in side.requirements if _version(pin).local]
    released = [
        index.release_day(canonicalize_name(pin.name), _version(pin)) for pin in side.requirements if pin not in built
    ]
    day = _today() if built or not released else max(released)
    plan = _plan(context.matrix, side, side.name, (day, max(day, context.matrix.floor)), context.device)
    context.progress(f"{asked}: resolving, {describe_rule(side.rule, plan.as_of)}")
    plan, lock, notes = _lock_for_here(plan, context.device, side.not_followed)
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
        return _moved(resolved, (pin,), asked, _Context(matrix, device, lambda _: None))
    row = next((stack for stack in matrix.stacks if stack.package == package and Version(stack.pin) == version), None)
    if not others and not pin.extras and row is not None and python in row.pythons:
        return _of_row(Row(row, python), asked, matrix, device, None)
    name = named_after((pin, *others))
    wanted = Wanted(Rule.OF_ITS_DAY, name, (pin, *others), (), (), python)
    newest = max(day, resolved.plan.stack.released) if others else day
    plan = _plan(matrix, wanted, name, (newest, max(newest, matrix.floor)), device)
    plan, lock, notes = _lock_for_here(plan, device)
    return Resolved(asked, wanted.rule, plan, lock, notes, wanted.requirements, wanted)


def _version(pin: Requirement) -> Version:
    return Version(next(iter(pin.specifier)).version)


# -------------------------------------------------------------------------------------------------------------- moves


def _settled(side: Upgrade, context: _Context) -> Row | Wanted:
    """The side of moves that are not in a project: exact pins of the releases that they mean."""
    python = side.python or context.matrix.pythons[0]
    if not side.moves:
        return Wanted(Rule.OF_ITS_DAY, f"latest-{_today():%Y%m%d}", (), (), side.not_followed, python)
    pins, wheels = _releases(side.moves, context)
    row = row_of(pins, context.matrix, side.not_followed)
    return row or replace(of_its_day(pins, python, side.not_followed), wheels=wheels)


def _releases(moves: Iterable[Move], context: _Context) -> tuple[tuple[Requirement, ...], tuple[Path, ...]]:
    """The pins of the releases that moves mean, and the folders of the wheels that were built for them.

    Raises:
        CompatError: there is no such release.
        InstallError: it does not build.
    """
    pins, wheels = [], []
    for move in moves:
        if move.secret_address:
            context.progress(f"{move}: building its wheel")
            made = _built(move, context)
            wheels.append(made.folder)
            pins.append(pin_of(move, Version(made.version)))
        else:
            pins.append(pin_of(move, _release(move)))
    return tuple(pins), tuple(wheels)


def _release(move: Move) -> Version:
    """The release of the index that a move means: exact, or the newest that its specifier accepts.

    Raises:
        CompatError: there is no such release.
    """
    if move.exact is not None:
        return move.exact
    allowed = SpecifierSet(move.specifier)
    there = [release.version for release in index.releases(move.name)]
    found = max(allowed.filter(there), default=None)
    if found is None:
        raise CompatError(
            f"{move.name} has no release {move.specifier} with a wheel",
            where=index.index_url(),
            meaning=f"Its newest release is {there[-1]}." if there else "It has no release with a wheel.",
            todo="Name an existing release.",
        )
    return found


def _built(move: Move, context: _Context) -> Built:
    """The wheel of a move.

    Raises:
        InstallError: it does not build, or is another package.
    """
    extras = f"[{','.join(move.extras)}]" if move.extras else ""
    remote = "://" in move.secret_address
    source = f"{move.name}{extras} @ {move.secret_address}" if remote else move.secret_address
    made = build(source, mark=True, fresh=context.fresh)
    if made.name != move.name:
        raise CompatError(
            f"it is {made.name}, and not {move.name}",
            where=str(move),
            meaning="The address belongs to another package.",
            todo="Correct the name or the address.",
        )
    return made


def _with_built(side: Wanted, context: _Context) -> Wanted:
    pins, wheels = _releases(side.built, context)
    return replace(side, requirements=(*side.requirements, *pins), built=(), wheels=(*side.wheels, *wheels))


def _upgraded(side: Upgrade, asked: str, before: Resolved, context: _Context) -> Resolved:
    """The other side with these packages moved."""
    names = {canonicalize_name(pin.name) for pin in before.pins}
    moves = side.moves or tuple(Move(name) for name in context.matrix.packages if name in names or not names)
    # `latest` moves the first exactly, and the resolver finds the newest of the others that goes with it.
    exactly = moves if side.moves else moves[:1]
    pins, wheels = _releases(exactly, context)
    free = () if side.moves else tuple(move.name for move in moves[1:])
    context.progress(f"{asked}: resolving, {', '.join(map(str, pins))} and what must follow")
    found = _moved(before, pins, asked, context, free, wheels)
    return replace(found, not_followed=(*found.not_followed, *side.not_followed))


def _moved(
    before: Resolved,
    pins: Sequence[Requirement],
    asked: str,
    context: _Context,
    free: tuple[str, ...] = (),
    wheels: tuple[Path, ...] = (),
) -> Resolved:
    """The other side with other releases of some packages. All other versions stay where they can.

    Exact pins of the other side may move, because a lock pins everything. Ranges hold, unless nothing goes together.

    Args:
        before: the other side.
        pins: the packages that move.
        asked: the side as it was typed.
        context: what locks depend on.
        free: packages whose newest version is taken.
        wheels: folders of wheels that were built for the pins.
    """
    wanted = before.wanted or Wanted(Rule.FILE, before.plan.stack.name, before.pins, (), (), before.plan.python)
    moving = {canonicalize_name(pin.name) for pin in pins} | {*free}
    name = "-".join((before.plan.stack.name, *(f"{pin.name}{_version(pin)}" for pin in pins), *free[:1]))
    side = replace(_without_pins(wanted, pins, moving, context.matrix), name=name)
    side = replace(side, wheels=(*side.wheels, *wheels))
    if side.rule not in (Rule.FILE, Rule.LIVE):
        side = replace(side, rule=Rule.FILE)
    versions = {} if isinstance(before.lock, Unsolvable) else before.lock.requirements
    kept = tuple(f"{name}=={version}" for name, version in sorted(versions.items()) if name not in moving)
    found = _of_project(side, asked, kept, context)
    if isinstance(found.lock, Unsolvable) and _limits(side, moving):
        wider = _of_project(_without_ranges(side, moving), asked, kept, context)
        if not isinstance(wider.lock, Unsolvable):
            outside = _outside(_limits(side, moving), wider.lock)
            found = replace(wider, not_followed=(*wider.not_followed, *outside))
    return replace(found, pins=tuple(pins))


def _without_pins(wanted: Wanted, pins: Sequence[Requirement], moving: set[str], matrix: Matrix) -> Wanted:
    """A side with these pins, and with its other exact pins as names alone."""
    extras = {canonicalize_name(item.name): item.extras for item in (*wanted.requirements, *wanted.others)}
    new = [Requirement(str(pin)) for pin in pins]
    for pin in new:
        pin.extras |= extras.get(canonicalize_name(pin.name), set())
    pinned = {canonicalize_name(pin.name) for pin in new}

    def loosened(items: Iterable[Requirement]) -> Iterator[Requirement]:
        for item in items:
            name = canonicalize_name(item.name)
            if name not in pinned:
                stays = _is_range(item) or any(made.name.startswith(f"{name}-") for made in wanted.wheels)
                yield item if stays and name not in moving else _bare(item)

    direct = [pin for pin in new if canonicalize_name(pin.name) in matrix.packages]
    others = [pin for pin in new if pin not in direct]
    constraints, overrides = (
        [text for text in texts if canonicalize_name(Requirement(text).name) not in moving]
        for texts in (wanted.constraints, wanted.overrides)
    )
    return replace(
        wanted,
        requirements=(*loosened(wanted.requirements), *direct),
        others=(*loosened(wanted.others), *others),
        constraints=tuple(text for text in constraints if _is_range(Requirement(text))),
        overrides=tuple(overrides),
    )


def _bare(item: Requirement) -> Requirement:
    found = Requirement(str(item))
    found.specifier = SpecifierSet()
    return found


def _is_range(item: Requirement) -> bool:
    return bool(item.specifier) and not any(one.operator in ("==", "===") for one in item.specifier)


def _limits(side: Wanted, moving: set[str]) -> tuple[Requirement, ...]:
    """The ranges of a side for packages that do not move."""
    stated = (*side.requirements, *side.others, *map(Requirement, side.constraints))
    return tuple(item for item in stated if _is_range(item) and canonicalize_name(item.name) not in moving)


def _without_ranges(side: Wanted, moving: set[str]) -> Wanted:
    limits = _limits(side, moving)
    return replace(
        side,
        requirements=tuple(_bare(item) if item in limits else item for item in side.requirements),
        others=tuple(_bare(item) if item in limits else item for item in side.others),
        constraints=(),
    )


def _outside(limits: Iterable[Requirement], lock: Lock) -> Iterator[str]:
    """A note for each range that the lock is outside of."""
    for item in limits:
        version = lock.requirements.get(canonicalize_name(item.name))
        if version is not None and not item.specifier.contains(version, prereleases=True):
            yield f"{item}: your project's range does not allow the upgrade, which needs {item.name} {version}"


# ----------------------------------------------------------------------------------------------------------- projects


def _of_project(side: Wanted, asked: str, preferences: tuple[str, ...], context: _Context) -> Resolved:
    """The lock of a project, without the packages that cannot be installed here.

    A package is left out only if the reason is this machine or the index. Where versions do not go together, the
    resolver's reason is the answer.
    """
    tried: set[str] = set()
    for _ in range(_MOST_ROUNDS):
        plan = _of_today(side, preferences, context)
        known = lock_path(plan, places().gate_locks).exists()
        plan, lock, notes = _lock_for_here(plan, context.device, side.not_followed)
        if isinstance(lock, Unsolvable):
            _refuse_unknown_release(side, lock.reason)
            found = obstacle(lock.reason, side.others, context.matrix.torch)
        else:
            found = None if known else _without_wheel(side, tried)
        if found is None:
            break
        side = _without(side, found, tried, context)
        if not isinstance(lock, Unsolvable):
            lock.path.unlink()  # with releases that are years old, because only they have wheels
    return Resolved(asked, side.rule, plan, lock, (*side.not_followed, *notes), side.requirements, side)


def _refuse_unknown_release(side: Wanted, reason: str) -> None:
    """Refuse a pin of the training stack that the index has no release of: another version would be measured.

    Raises:
        CompatError: there is such a pin.
    """
    for pin in side.requirements:
        if _is_pin(pin) and f"there is no version of {pin.name}{pin.specifier}" in " ".join(reason.split()):
            index.release_day(canonicalize_name(pin.name), _version(pin))


def _without_wheel(side: Wanted, tried: set[str]) -> Obstacle | None:
    """A package that the project does not pin, and whose newest release has no wheel."""
    open_ = [item for item in side.others if not _is_pin(item) and canonicalize_name(item.name) not in tried]
    with ThreadPoolExecutor(8) as pool:
        newest = pool.map(lambda item: index.newest_without_wheel(canonicalize_name(item.name), item.specifier), open_)
        found = next(((item, version) for item, version in zip(open_, newest, strict=True) if version), None)
    if found is None:
        return None
    name = canonicalize_name(found[0].name)
    return Obstacle(name, "it has no wheel", f"{name}=={found[1]}")


def _is_pin(item: Requirement) -> bool:
    return any(one.operator == "==" for one in item.specifier)


def _without(side: Wanted, found: Obstacle, tried: set[str], context: _Context) -> Wanted:
    """The side with a wheel that was built, or without the package that cannot be installed."""
    reason = found.reason
    if found.source and found.source not in tried:
        tried |= {found.source, found.name}
        context.progress(f"{found.source}: building its wheel, because the index has none")
        try:
            made = build(found.source, mark=False, fresh=context.fresh)
        except InstallError as error:
            reason = f"{reason}, and {error.what}"
        else:
            pins = tuple(_built_pin(item, made) for item in side.others)
            return replace(side, others=pins, wheels=(*side.wheels, made.folder))
    gone = next(item for item in side.others if canonicalize_name(item.name) == found.name)
    context.progress(f"{gone}: left out, {reason}")
    kept = tuple(item for item in side.others if item is not gone)
    return replace(side, others=kept, not_followed=(*side.not_followed, left_out(str(gone), reason)))


def _built_pin(item: Requirement, made: Built) -> Requirement:
    """An open requirement on what was built, pinned to it: the index may have wheels of releases that are years old."""
    if canonicalize_name(item.name) != made.name or _is_pin(item):
        return item
    found = Requirement(str(item))
    found.specifier = SpecifierSet(f"=={made.version}")
    return found


def _of_today(side: Wanted, preferences: tuple[str, ...], context: _Context) -> LockPlan:
    """The plan as of today, or as of the day of an earlier lock.

    The name holds a digest of the requirements, so the same file gets the same lock on a later day.
    """
    stated = (*map(str, (*side.requirements, *side.others)), *side.constraints, *preferences, *map(str, side.wheels))
    stated += tuple(f"override {text}" for text in side.overrides)
    name = shortened(f"{side.name}-{hashlib.sha256(chr(10).join(stated).encode()).hexdigest()[:8]}")
    today = _today()
    plan = _plan(context.matrix, side, name, (today, today), context.device, preferences)
    made = next((path for path in _files_of(plan) if path.exists()), None)
    if made is None:
        return plan
    first = date.fromisoformat(as_of(made))
    return _plan(context.matrix, side, name, (first, first), context.device, preferences)


def _files_of(plan: LockPlan) -> tuple[Path, Path]:
    return lock_path(plan, places().gate_locks), unsolvable_path(plan, places().gate_locks)


def _plan(
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


def _lock_for_here(
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
