"""The other side with some packages moved, and everything else where it can stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from finetune_compat.gate.asked import Move, Upgrade, Wanted
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.move_pins import releases_of
from finetune_compat.gate.pins import version_of
from finetune_compat.gate.project_lock import of_project
from finetune_compat.gate.resolved import Context, Resolved
from finetune_compat.stacks.locks import Lock, Unsolvable
from finetune_compat.stacks.matrix import Matrix


def upgraded(side: Upgrade, asked: str, before: Resolved, context: Context) -> Resolved:
    """The other side with these packages moved."""
    names = {canonicalize_name(pin.name) for pin in before.pins}
    moves = side.moves or tuple(Move(name) for name in context.matrix.packages if name in names or not names)
    # `latest` moves the first exactly, and the resolver finds the newest of the others that goes with it.
    exactly = moves if side.moves else moves[:1]
    pins, wheels = releases_of(exactly, context)
    free = () if side.moves else tuple(move.name for move in moves[1:])
    context.progress(f"{asked}: resolving, {', '.join(map(str, pins))} and what must follow")
    found = moved(before, pins, asked, context, free, wheels)
    return replace(found, not_followed=(*found.not_followed, *side.not_followed))


def moved(
    before: Resolved,
    pins: Sequence[Requirement],
    asked: str,
    context: Context,
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
    name = "-".join((before.plan.stack.name, *(f"{pin.name}{version_of(pin)}" for pin in pins), *free[:1]))
    side = replace(_without_pins(wanted, pins, moving, context.matrix), name=name)
    side = replace(side, wheels=(*side.wheels, *wheels))
    if side.rule not in (Rule.FILE, Rule.LIVE):
        side = replace(side, rule=Rule.FILE)
    versions = {} if isinstance(before.lock, Unsolvable) else before.lock.requirements
    kept = tuple(f"{name}=={version}" for name, version in sorted(versions.items()) if name not in moving)
    found = of_project(side, asked, kept, context)
    if isinstance(found.lock, Unsolvable) and _limits(side, moving):
        wider = of_project(_without_ranges(side, moving), asked, kept, context)
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
