"""Which cells are asked for: stacks by name, glob or axis; flows and variants; and words as pytest's -k has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from harness.catalog import CATALOG
from harness.errors import CompatError, UnknownName
from harness.matrix import Matrix, Stack


@dataclass(frozen=True, slots=True)
class Asked:
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


def stacks_of(matrix: Matrix, asked: Asked, python: str) -> tuple[On, ...]:
    """The stacks that are asked for, in the order of the matrix; on `python`, unless a name says another one.

    Raises:
        UnknownName: a name or glob matches no stack, or there is no such axis.
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
            raise _unknown(pattern, "stack", names, "matrices/stacks.toml", todo="`compat stacks` lists all of them.")
    return tuple(
        on
        for on in everything
        if (not asked.axes or on.stack.package in asked.axes)
        and (any(_names(pattern, on) for pattern in asked.stacks) if asked.stacks else on in usual)
        and (on in usual or any(fnmatchcase(on.name, pattern) for pattern in asked.stacks))
    )


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


def cell_filter(asked: Asked) -> Callable[[str, str, str], bool]:
    """A function of a cell's id, flow and variant that says whether the cell is asked for.

    Raises:
        UnknownName: a name or glob matches no flow.
        CompatError: the words are no expression.
    """
    names = [flow.name for flow in CATALOG]
    for pattern in asked.flows:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise _unknown(pattern, "flow", names, "--flows")
    words = parse_words(asked.words)

    def wanted(cell: str, flow: str, variant: str) -> bool:
        return (
            (not asked.flows or any(fnmatchcase(flow, pattern) for pattern in asked.flows))
            and (not asked.variants or any(fnmatchcase(variant, pattern) for pattern in asked.variants))
            and words(cell)
        )

    return wanted


_Match = Callable[[str], bool]
_TOKEN = re.compile(r"\(|\)|[^\s()]+")


def parse_words(text: str) -> _Match:
    """A function that says whether a name matches `text`: words that are part of it, whatever their case, with `and`,
    `or`, `not` and parentheses. Nothing matches everything.

    Raises:
        CompatError: `text` is no such expression.
    """
    tokens = _TOKEN.findall(text)
    if not tokens:
        return lambda _: True
    match, rest = _either(tokens, text)
    if rest:
        raise _no_words(text, rest[0])
    return match


def _either(tokens: Sequence[str], text: str) -> tuple[_Match, Sequence[str]]:
    left, rest = _both(tokens, text)
    while rest[:1] == ["or"]:
        right, rest = _both(rest[1:], text)
        left = _or(left, right)
    return left, rest


def _both(tokens: Sequence[str], text: str) -> tuple[_Match, Sequence[str]]:
    left, rest = _one(tokens, text)
    while rest[:1] == ["and"]:
        right, rest = _one(rest[1:], text)
        left = _and(left, right)
    return left, rest


def _one(tokens: Sequence[str], text: str) -> tuple[_Match, Sequence[str]]:
    if not tokens or tokens[0] in (")", "and", "or"):
        raise _no_words(text, tokens[0] if tokens else "its end")
    if tokens[0] == "not":
        inner, rest = _one(tokens[1:], text)
        return (lambda name: not inner(name)), rest
    if tokens[0] == "(":
        inner, rest = _either(tokens[1:], text)
        if rest[:1] != [")"]:
            raise _no_words(text, rest[0] if rest else "its end")
        return inner, rest[1:]
    word = tokens[0].lower()
    return (lambda name: word in name.lower()), tokens[1:]


def _or(left: _Match, right: _Match) -> _Match:
    return lambda name: left(name) or right(name)


def _and(left: _Match, right: _Match) -> _Match:
    return lambda name: left(name) and right(name)


def _no_words(text: str, at: str) -> CompatError:
    return CompatError(
        f"{text!r} cannot be read at {at}" if at == "its end" else f"{text!r} cannot be read at {at!r}",
        where="-k",
        meaning="Between two words stands `and` or `or`; every parenthesis is closed.",
        todo="Such as: -k 'sft-peft-model and not (int8 or vision)'.",
    )
