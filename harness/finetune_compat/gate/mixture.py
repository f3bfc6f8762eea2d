"""Versions between two sides: one side with some packages moved to the other side's version, and what must follow."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.contract.errors import CompatError, LockError, RegistryUnreachable
from finetune_compat.contract.names import shortened
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.resolved import Resolved
from finetune_compat.machine.places import places
from finetune_compat.stacks.locks import Lock, Outcome, Unsolvable, locked, make_locks
from finetune_compat.stacks.matrix import LockPlan, Matrix, Stack


@dataclass(frozen=True, slots=True)
class Two:
    """Two sides with locks for the same Python."""

    matrix: Matrix
    device: DeviceKind
    before: Resolved
    after: Resolved

    @property
    def locks(self) -> tuple[Lock, Lock]:
        """Both locks.

        Raises:
            CompatError: a side cannot be solved, or they are for different Pythons.
        """
        for side in (self.before, self.after):
            if isinstance(side.lock, Unsolvable):
                raise CompatError(
                    f"no versions go together: {side.lock.cause}", where=side.asked, todo="Name another side."
                )
        if self.before.plan.python != self.after.plan.python:
            raise CompatError(
                f"one side is for Python {self.before.plan.python}, the other for {self.after.plan.python}",
                where=f"{self.before.asked}, {self.after.asked}",
                todo="Give --python, so that only packages differ.",
            )
        one, other = self.before.lock, self.after.lock
        assert isinstance(one, Lock)  # noqa: S101 - checked above
        assert isinstance(other, Lock)  # noqa: S101 - likewise
        return one, other

    @property
    def changed(self) -> tuple[str, ...]:
        """The packages whose versions differ: those of the matrix first, in its order."""
        one, other = (lock.requirements for lock in self.locks)
        different = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
        main = [name for name in self.matrix.packages if name in different]
        return (*main, *(name for name in different if name not in main))

    def moved(self, names: Collection[str]) -> Resolved:
        """The first side with `names` at the second side's versions.

        What a side asks for by name has exactly these versions. Of the rest only those packages move that must.

        Raises:
            RegistryUnreachable: the index does not answer.
        """
        one, other = (lock.requirements for lock in self.locks)
        if not {*names} & {*self.changed}:
            return self.before
        if {*names} >= {*self.changed}:
            return self.after
        wanted = {name: (other if name in names else one).get(name) for name in {*one, *other}}
        versions = {name: version for name, version in wanted.items() if version is not None}
        plan = self._plan(versions, names)
        moved = ", ".join(f"{name} {versions.get(name, '-')}" for name in sorted(names))
        asked = f"{self.before.asked} with {moved}"
        return Resolved(asked, Rule.FILE, plan, _lock(plan), (), ())

    def _plan(self, versions: dict[str, str], names: Collection[str]) -> LockPlan:
        kept = tuple(f"{name}=={version}" for name, version in sorted(versions.items()))
        day = max(self.before.plan.as_of, self.after.plan.as_of)
        python = self.before.plan.python
        digest = hashlib.sha256("\n".join((*kept, *sorted(names))).encode()).hexdigest()[:8]
        name = shortened(f"{self.before.plan.stack.name}-{'-'.join(sorted(names))}")
        stack = Stack("", f"{name}-{digest}", "", day, day, "", (python,))
        base = self.matrix.plan(stack, python, self.device)
        return replace(base, requirements=self._pins(versions), preferences=kept, again="compat blame")

    def _pins(self, versions: Mapping[str, str]) -> tuple[str, ...]:
        """What the sides ask for by name, with these versions."""
        asked = [Requirement(text) for side in (self.before, self.after) for text in side.plan.requirements]
        pins: dict[str, str] = {}
        for item in asked:
            name = canonicalize_name(item.name)
            if name in versions:
                extras = f"[{','.join(sorted(item.extras))}]" if item.extras else ""
                pins.setdefault(name, f"{name}{extras}=={versions[name]}")
        return tuple(pins.values())

    def followed(self, of: Resolved, names: Collection[str]) -> tuple[str, ...]:
        """The packages that moved in `of` though they are not among `names` (example: `tokenizers 0.21 -> 0.22`)."""
        if isinstance(of.lock, Unsolvable):
            return ()
        one, mixed = self.locks[0].requirements, of.lock.requirements
        return tuple(
            f"{name} {one.get(name, '-')} -> {mixed.get(name, '-')}"
            for name in sorted({*one, *mixed} - {*names})
            if not _same(one.get(name), mixed.get(name))
        )


def _same(one: str | None, other: str | None) -> bool:
    return one == other or (one is not None and other is not None and Version(one) == Version(other))


def _lock(plan: LockPlan) -> Lock | Unsolvable:
    """The lock of a plan, made on first use.

    Raises:
        RegistryUnreachable: the index does not answer.
    """
    try:
        return locked(plan, places().gate_locks)
    except LockError:
        (result,) = make_locks([plan], lambda _: None, places().gate_locks)
    if result.outcome is Outcome.COULD_NOT_ASK:
        raise RegistryUnreachable(
            f"no lock could be made: {result.detail}",
            where=plan.name,
            meaning="The package index did not answer, or uv itself failed.",
            todo="Check the connection and run the command again.",
        )
    return locked(plan, places().gate_locks)
