"""Guess the new name of an argument that a release does not have, from the signatures of releases. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from types import MappingProxyType

from finetune_compat.contract.script import UnknownArgument

ALIKE = 0.6
"""Minimum similarity of two names. Of the renames of TRL and Transformers that kept a word, `warmup_ratio` and
`warmup_steps` are the least alike, with 0.67.
"""


def described(unknown: Sequence[UnknownArgument], earlier: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    """One clause for each class: its unknown arguments, each with its new name or the closest one.

    Args:
        unknown: the arguments.
        earlier: the arguments of the classes in a release that accepts them, in order.
    """
    clauses = []
    for callee, of_it in groupby(unknown, lambda one: one.callee):
        package, _, name = callee.partition(":")
        before = earlier.get(callee, ())
        parts = [_part(one, before) for one in of_it]
        clauses.append(f"{name} of this {package} has no {', and no '.join(parts)}")
    return "; ".join(clauses)


def _part(one: UnknownArgument, before: Sequence[str]) -> str:
    new = new_name(one.name, before, one.accepts)
    if new:
        return f"{one.name} (new name: {new})"
    close = closest(one.name, one.accepts)
    return f"{one.name} (closest name: {close})" if close else f"{one.name} (no name is close to it)"


def new_name(name: str, before: Sequence[str], after: Sequence[str]) -> str:
    """The new name of an argument that only the signature `before` has; empty if none is found.

    It is an argument that only `after` has: one with a similar name, else the one at the same place.
    """
    if name not in before:
        return ""
    return closest(name, [other for other in after if other not in before]) or _at_its_place(name, before, after)


def _at_its_place(name: str, before: Sequence[str], after: Sequence[str]) -> str:
    place = before.index(name)
    for kind, first, last, begin, end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "replace" and first <= place < last and last - first == end - begin:
            return after[begin + place - first]
    return ""


def closest(name: str, names: Sequence[str]) -> str:
    """The most similar of `names`; empty if none is similar."""
    ranked = [(SequenceMatcher(None, name, other).ratio(), other) for other in names]
    likeness, best = max(ranked, default=(0.0, ""))
    return best if likeness >= ALIKE else ""
