"""The lock of a project, without the packages that cannot be installed here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from finetune_compat.contract.errors import InstallError
from finetune_compat.gate.asked import Wanted
from finetune_compat.gate.left_out import Obstacle, left_out, obstacle
from finetune_compat.gate.pins import version_of
from finetune_compat.gate.resolved import Context, Resolved
from finetune_compat.gate.side_lock import lock_for_here, of_today
from finetune_compat.machine.places import places
from finetune_compat.stacks import index
from finetune_compat.stacks.built import Built, build
from finetune_compat.stacks.locks import Unsolvable, lock_path

_MOST_ROUNDS = 40
"""Maximum number of packages that are left out one after the other. Each costs a call of the resolver."""


def of_project(side: Wanted, asked: str, preferences: tuple[str, ...], context: Context) -> Resolved:
    """The lock of a project, without the packages that cannot be installed here.

    A package is left out only if the reason is this machine or the index. Where versions do not go together, the
    resolver's reason is the answer.
    """
    tried: set[str] = set()
    for _ in range(_MOST_ROUNDS):
        plan = of_today(side, preferences, context)
        known = lock_path(plan, places().gate_locks).exists()
        plan, lock, notes = lock_for_here(plan, context.device, side.not_followed)
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
            index.release_day(canonicalize_name(pin.name), version_of(pin))


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


def _without(side: Wanted, found: Obstacle, tried: set[str], context: Context) -> Wanted:
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
