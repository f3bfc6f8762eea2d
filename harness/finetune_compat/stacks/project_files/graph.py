"""Who brings a locked package: the groups of the project, and the Python versions on Linux where it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from packaging.markers import Marker

from finetune_compat.stacks.project_files.value import holds

PYTHONS = tuple(f"3.{minor}" for minor in range(8, 17))
"""Python versions that are told apart."""
_ALL = (1 << len(PYTHONS)) - 1
NOWHERE = "sys_platform == 'win32' and sys_platform == 'linux'"
"""A marker that never holds: the package is needed on other platforms only."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A dependency: the index of a locked package, its extras, and the marker under which it is needed."""

    to: int
    extras: tuple[str, ...] = ()
    marker: str = ""


@dataclass(frozen=True, slots=True)
class Reached:
    """A package's groups, and the marker under which it is needed; no groups if it is always needed."""

    groups: tuple[str, ...]
    marker: str


def reached(starts: Mapping[str, Sequence[Edge]], edges: Callable[[int, str], Sequence[Edge]]) -> dict[int, Reached]:
    """The packages that are reached.

    Args:
        starts: the dependencies of the project by group; the group `` is always installed.
        edges: the dependencies of a package that an extra brings; those of the extra `` it has always.
    """
    masks: dict[tuple[int, str], dict[str, int]] = {}
    todo = [(group, edge, _ALL) for group, found in starts.items() for edge in found]
    while todo:
        group, edge, above = todo.pop()
        mask = above & mask_of(edge.marker)
        for extra in ("", *edge.extras):
            known = masks.setdefault((edge.to, extra), {})
            if mask & ~known.get(group, 0):
                known[group] = known.get(group, 0) | mask
                todo += [(group, below, known[group]) for below in edges(edge.to, extra)]
            else:
                known.setdefault(group, 0)
    return {place: _summed(found) for (place, extra), found in masks.items() if not extra}


def _summed(masks: Mapping[str, int]) -> Reached:
    used = {group: mask for group, mask in masks.items() if mask}
    if used.get(""):
        return Reached((), marker_of(used[""]))
    whole = 0
    for mask in used.values():
        whole |= mask
    return Reached(tuple(sorted(used)), marker_of(whole))


@cache
def mask_of(marker: str, groups: frozenset[str] = frozenset(), extras: tuple[str, ...] = ()) -> int:
    """A bit for each of `PYTHONS` where the marker holds on Linux with these groups and extras."""
    if not marker:
        return _ALL
    parsed = Marker(marker)
    return sum(1 << place for place, python in enumerate(PYTHONS) if holds(parsed, python, groups, extras))


@cache
def marker_of(mask: int) -> str:
    """The marker that holds on the Python versions of a mask; empty for all of them."""
    if mask == _ALL:
        return ""
    runs: list[str] = []
    for place, python in enumerate(PYTHONS):
        if mask >> place & 1 and not (place and mask >> (place - 1) & 1):
            end = next((later for later in range(place, len(PYTHONS)) if not mask >> later & 1), len(PYTHONS))
            low = [f'python_version >= "{python}"'] if place else []
            high = [f'python_version < "{PYTHONS[end]}"'] if end < len(PYTHONS) else []
            runs.append(" and ".join((*low, *high)))
    return " or ".join(runs) or NOWHERE
