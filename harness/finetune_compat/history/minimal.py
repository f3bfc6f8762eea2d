"""The smallest set of changes that flips a result: delta debugging. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)

Flips = Callable[[frozenset[T]], bool | None]
"""Whether making only these changes flips the result. None where it cannot be tried: no versions go together, or the
run gives no result.
"""


def minimal(changes: Sequence[T], flips: Flips[T]) -> frozenset[T]:
    """A set of changes that flips the result, and of which no single change can be left out.

    Every change is tried alone first, in order: most results have one cause. `flips` is asked about each set once.
    All changes together must flip it, and none must not.
    """
    asked: dict[frozenset[T], bool] = {frozenset(changes): True, frozenset(): False}

    def does(chosen: Sequence[T]) -> bool:
        key = frozenset(chosen)
        if key not in asked:
            asked[key] = flips(key) is True
        return asked[key]

    for change in changes:
        if does([change]):
            return frozenset({change})
    return frozenset(_reduced(list(changes), does))


def _reduced(current: list[T], does: Callable[[Sequence[T]], bool]) -> list[T]:
    """Zeller's ddmin: keep a part, or leave a part out, in ever smaller parts."""
    parts = 2
    while len(current) > 1:
        pieces = _pieces(current, parts)
        smaller = next((piece for piece in pieces if does(piece)), None)
        if smaller is not None:
            current, parts = smaller, 2
            continue
        rests = ([item for item in current if item not in piece] for piece in pieces)
        rest = next((rest for rest in rests if does(rest)), None)
        if rest is not None:
            current, parts = rest, max(parts - 1, 2)
        elif parts >= len(current):
            break
        else:
            parts = min(len(current), 2 * parts)
    return current


def _pieces(items: list[T], parts: int) -> list[list[T]]:
    edges = [round(part * len(items) / parts) for part in range(parts + 1)]
    pieces = [items[first:last] for first, last in itertools.pairwise(edges)]
    return [piece for piece in pieces if piece]
