"""The order in which stacks are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache

from packaging.version import Version

AXES = ("trl", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")
"""Axes in the order of reports, which is that of a search for the package at fault: the likeliest first.

Stacks with any other name come last.
"""

_STACK = re.compile(r"(?P<axis>[a-z]+)(?P<version>[0-9]+(\.[0-9]+)*)(-py3(?P<python>[0-9]+))?")


@cache  # called for every pair of neighbouring stacks
def stack_order(name: str) -> tuple[int, Version, bool, Version, int, str]:
    """Sort key of a stack's name: axis, then version as numbers, then Python version.

    A stack of a minor version, for example `trl0.22`, follows those of its patches, because it is the newest patch.
    """
    found = _STACK.match(name)
    if found is None:
        return len(AXES), Version("0"), False, Version("0"), 0, name
    version = Version(found["version"])
    axis = AXES.index(found["axis"]) if found["axis"] in AXES else len(AXES)
    minor = Version(f"{version.major}.{version.minor}")
    return axis, minor, version.release == minor.release, version, int(found["python"] or 0), name


def same_axis(left: str, right: str) -> bool:
    """Whether two stacks vary the same package."""
    return stack_order(left)[0] == stack_order(right)[0]


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive stacks of one axis, from `first` to `last` inclusive."""

    first: str
    last: str
    stacks: int


def spans_of(stacks: Collection[str], order: Sequence[str]) -> tuple[Span, ...]:
    """`stacks` as spans of consecutive stacks in `order`. A span has stacks of one axis only."""
    return tuple(Span(run[0], run[-1], len(run)) for run in runs_of(stacks, order, same_axis))


def runs_of(
    names: Collection[str], order: Sequence[str], joined: Callable[[str, str], bool] = lambda _, __: True
) -> list[list[str]]:
    """`names` as runs of what is consecutive in `order`. Neighbours are in one run only if they are `joined`."""
    runs: list[list[str]] = []
    for before, name in zip((None, *order), order, strict=False):
        if name in names and runs and runs[-1][-1] == before and joined(before, name):
            runs[-1].append(name)
        elif name in names:
            runs.append([name])
    return runs
