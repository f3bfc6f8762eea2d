"""Which cells are asked for: stacks by name, glob or axis; flows and variants; and words as pytest's -k has them."""

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
    """What was asked for. What is empty asks for all."""

    stacks: tuple[str, ...] = ()
    """Names or globs, with a Python (`trl0.2?-py311`) or without (`trl0.22`, `peft*`)."""
    axes: tuple[str, ...] = ()
    """Packages whose rows are asked for."""
    flows: tuple[str, ...] = ()
    """Names or globs."""
    variants: tuple[str, ...] = ()
    """Names or globs, such as `qwen2-nf4-gc` or `*-nf4-*`."""
    words: str = ""
    """Parts of a cell's name with `and`, `or`, `not` and parentheses, as pytest's -k."""


@dataclass(frozen=True, slots=True)
class On:
    """A stack on one of its Pythons: one session of nox."""

    stack: Stack
    python: str

    @property
    def name(self) -> str:
        """Such as `trl0.22-py311`: the `stack` of every cell id."""
        return self.stack.on(self.python)

    @property
    def session(self) -> str:
        """What nox calls it."""
        return f"compat-{self.python}({self.stack.package}='{self.stack.label}')"


def stacks_of(matrix: Matrix, asked: AskedCells, python: str) -> tuple[On, ...]:
    """The stacks that are asked for, in the order of the matrix; on `python`, unless a name says another one.

    Raises:
        UnknownName: a name or glob matches no stack, there is no such axis, or nothing on that Python.
    """
    everything = [On(stack, version) for stack in matrix.stacks for version in stack.pythons]
    usual = [on for on in everything if on.python == python]
    packages = tuple(dict.fromkeys(on.stack.package for on in everything))
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
            todo=f"There are: {', '.join(pythons)}. `compat stacks` says which stack is locked for which.",
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
            todo=f"It is for: {pythons}. Name one of these with --python, or the stack with its Python: "
            f"{named[-1].name}.",
        )
    return UnknownName("no stack is on all of these", where=what, todo="Ask for a stack of that axis, or for less.")


def _names(pattern: str, on: On) -> bool:
    return fnmatchcase(on.stack.name, pattern) or fnmatchcase(on.name, pattern)


def _unknown(name: str, what: str, known: Sequence[str], where: str, todo: str = "") -> UnknownName:
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    return UnknownName(
        f"there is no {what} {name!r}",
        where=where,
        meaning=f"Names that look like it: {', '.join(near)}." if near else "No name looks like it.",
        todo=todo or f"There are: {', '.join(known)}.",
    )


def cells_of(cells: Sequence[PlannedCell], asked: AskedCells) -> tuple[PlannedCell, ...]:
    """Those of `cells` that are asked for.

    Raises:
        UnknownName: a name or glob matches no flow.
        CompatError: the words are no expression.
    """
    names = [flow.name for flow in CATALOG]
    for pattern in asked.flows:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise _unknown(pattern, "flow", names, "--flows")
    named = selected(cells, ("-k", asked.words))
    if named is None:
        raise CompatError(
            f"{asked.words!r} is no expression",
            where="-k",
            meaning="Between two words stands `and` or `or`; every parenthesis is closed.",
            todo="Such as: -k 'sft-peft-model and not (int8 or vision)'.",
        )
    return tuple(cell for cell in named if _any(cell.flow, asked.flows) and _any(str(cell.variant), asked.variants))


def _any(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
