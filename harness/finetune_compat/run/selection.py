"""Selects cells: stacks by name, glob or axis; flows and variants; and an expression like pytest's -k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from packaging.version import Version

from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.errors import CompatError, UnknownName
from finetune_compat.contract.plan import PlannedCell
from finetune_compat.machine.places import places
from finetune_compat.run.keyword import selected
from finetune_compat.stacks.matrix import Matrix, Stack


@dataclass(frozen=True, slots=True)
class AskedCells:
    """Filters for cells. An empty filter selects all."""

    stacks: tuple[str, ...] = ()
    """Names or globs, with a Python (`trl0.2?-py311`) or without (`trl0.22`, `peft*`)."""
    axes: tuple[str, ...] = ()
    """Packages whose stacks are selected."""
    flows: tuple[str, ...] = ()
    """Names or globs."""
    variants: tuple[str, ...] = ()
    """Names or globs, such as `qwen2-nf4-gc` or `*-nf4-*`."""
    words: str = ""
    """Parts of a cell's name with `and`, `or`, `not` and parentheses, like pytest's -k."""


@dataclass(frozen=True, slots=True)
class On:
    """A stack on one of its Pythons: one session of nox."""

    stack: Stack
    python: str

    @property
    def name(self) -> str:
        """The `stack` part of cell ids, such as `trl0.22-py311`."""
        return self.stack.on(self.python)

    @property
    def session(self) -> str:
        """The name of the nox session."""
        return self.stack.session(self.python)


def stacks_of(matrix: Matrix, asked: AskedCells, python: str) -> tuple[On, ...]:
    """The selected stacks, in the order of the matrix; on `python`, unless a name contains another one.

    Raises:
        UnknownName: a name or glob matches no stack, an axis does not exist, or no stack is locked for that Python.
    """
    everything = [On(stack, version) for stack in matrix.stacks for version in stack.pythons]
    usual = [on for on in everything if on.python == python]
    packages = tuple(dict.fromkeys(on.stack.package for on in everything if on.stack.package))
    for axis in asked.axes:
        if axis not in packages:
            raise _unknown(axis, "axis", packages, "--axis")
    for pattern in asked.stacks:
        if not any(_names(pattern, on) for on in everything):
            names = [on.stack.name for on in everything]
            raise _unknown(
                pattern, "stack", names, places().shown(places().stacks), todo="`compat stacks` lists all of them."
            )
    pythons = tuple(sorted({on.python for on in everything}, key=Version))
    if python not in pythons:
        raise UnknownName(
            f"no stack is locked for Python {python}",
            where="--python",
            todo=f"There are: {', '.join(pythons)}. `compat stacks` lists the Pythons of each stack.",
        )
    found = tuple(
        on
        for on in everything
        if (not asked.axes or on.stack.package in asked.axes)
        and (any(_names(pattern, on) for pattern in asked.stacks) if asked.stacks else on in usual)
        and (on in usual or any(fnmatchcase(on.name, pattern) for pattern in asked.stacks))
    )
    if not found:
        raise _on_no_stack(asked, python, everything)
    return found


def _on_no_stack(asked: AskedCells, python: str, everything: Sequence[On]) -> UnknownName:
    named = [
        on
        for on in everything
        if (not asked.axes or on.stack.package in asked.axes)
        and (not asked.stacks or any(_names(pattern, on) for pattern in asked.stacks))
    ]
    pythons = ", ".join(sorted({on.python for on in named}, key=Version))
    what = " ".join((*asked.stacks, *(f"--axis {axis}" for axis in asked.axes)))
    if pythons:
        return UnknownName(
            f"not locked for Python {python}",
            where=what,
            todo=f"It is locked for: {pythons}. Give one of these with --python, or name the stack with its Python: "
            f"{named[-1].name}.",
        )
    return UnknownName(
        "no stack matches all of these", where=what, todo="Name a stack of that axis, or use fewer filters."
    )


def _names(pattern: str, on: On) -> bool:
    return fnmatchcase(on.stack.name, pattern) or fnmatchcase(on.name, pattern)


def _unknown(name: str, what: str, known: Sequence[str], where: str, todo: str = "") -> UnknownName:
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    return UnknownName(
        f"there is no {what} {name!r}",
        where=where,
        meaning=f"Names that look like it: {', '.join(near)}." if near else "No name looks like it.",
        todo=todo or f"There are: {', '.join(known)}.",
    )


def cells_of(cells: Sequence[PlannedCell], asked: AskedCells) -> tuple[PlannedCell, ...]:
    """The cells of `cells` that are selected.

    Raises:
        UnknownName: a name or glob matches no flow.
        CompatError: `asked.words` is not a valid expression.
    """
    names = [flow.name for flow in CATALOG]
    for pattern in asked.flows:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise _unknown(pattern, "flow", names, "--flows")
    named = selected(cells, ("-k", asked.words))
    if named is None:
        raise CompatError(
            f"{asked.words!r} is not a valid expression",
            where="-k",
            meaning="Two names need `and` or `or` between them, and every parenthesis must be closed.",
            todo="Write it like this: -k 'sft-peft-model and not (int8 or vision)'.",
        )
    return tuple(cell for cell in named if _any(cell.flow, asked.flows) and _any(str(cell.variant), asked.variants))


def _any(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
