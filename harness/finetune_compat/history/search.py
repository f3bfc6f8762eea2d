"""Where a result changes along an ordered list of releases, in few runs. Pure.

A history need not be monotonic. First a sample of releases is run. Then every boundary, two neighbouring results that
differ, is bisected until nothing unknown lies between them. What lies between two equal results is not looked at, and
is listed.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)
"""A result: releases with equal results are not told apart."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Two neighbouring releases with different results, by their places in the list."""

    before: int
    after: int
    skipped: tuple[int, ...]
    """Releases between them that gave no result."""
    unseen: tuple[int, ...]
    """Releases between them that were not run. Empty where the boundary is refined."""


@dataclass(frozen=True, slots=True)
class History(Generic[S]):
    """What is known about a list of releases."""

    size: int
    sample: tuple[int, ...]
    """The releases to run first, in order."""
    answers: Mapping[int, S | None]
    """The result by place; None for a release that gives none: it cannot be solved, imported or run."""
    free: frozenset[int] = field(default=frozenset())
    """Places whose results were known without a run."""

    @property
    def results(self) -> dict[int, S]:
        """The results, in the order of the releases."""
        return {place: state for place in sorted(self.answers) if (state := self.answers[place]) is not None}

    @property
    def skipped(self) -> tuple[int, ...]:
        """Releases that gave no result."""
        return tuple(place for place in sorted(self.answers) if self.answers[place] is None)

    @property
    def unseen(self) -> tuple[int, ...]:
        """Releases that were not run and whose result is not known."""
        return tuple(place for place in range(self.size) if place not in self.answers)

    @property
    def boundaries(self) -> tuple[Boundary, ...]:
        """Every change between neighbouring results."""
        results = self.results
        return tuple(self._between(a, b) for a, b in itertools.pairwise(results) if results[a] != results[b])

    @property
    def stretches(self) -> tuple[tuple[int, int], ...]:
        """The first and last release of each stretch of equal results."""
        results = self.results
        same = (list(places) for _, places in itertools.groupby(results, key=results.__getitem__))
        return tuple((places[0], places[-1]) for places in same)

    def _between(self, before: int, after: int) -> Boundary:
        inside = range(before + 1, after)
        skipped = tuple(place for place in inside if place in self.answers)
        return Boundary(before, after, skipped, tuple(place for place in inside if place not in self.answers))


def bound(size: int) -> int:
    """The most runs that one boundary among `size` releases may cost beyond the sample: ceil(log2 size) + 2."""
    return max(size - 1, 0).bit_length() + 2


def sampled(groups: Sequence[Hashable], most: int) -> tuple[int, ...]:
    """The places of the first sample: the last release of each group, thinned out evenly to `most`.

    The first and the last release are always in it. `groups` has one entry per release, for example its minor version.
    """
    if not groups:
        return ()
    lasts = [place for place, group in enumerate(groups) if place + 1 == len(groups) or groups[place + 1] != group]
    wanted = sorted({0, *lasts})
    if len(wanted) <= max(most, 2):
        return tuple(wanted)
    steps = max(most, 2) - 1
    return tuple(wanted[round(step * (len(wanted) - 1) / steps)] for step in range(steps + 1))


def next_runs(history: History[S], width: int) -> tuple[int, ...]:
    """The releases to run next, which do not depend on each other; empty when the search has ended.

    These are the whole sample first, then one release for each boundary. Where that is fewer than `width`, which is how
    many can run at the same time, a boundary takes several, but only if its bound then still suffices.
    """
    waiting = tuple(place for place in history.sample if place not in history.answers)
    if waiting:
        return waiting
    gaps = [gap for gap in _gaps(history) if gap.open and gap.left]
    together = max(width // max(sum(len(gap.open) for gap in gaps), 1), 1)
    return tuple(sorted(place for gap in gaps for place in _of_gap(gap, together)))


def runs_left(history: History[S]) -> int:
    """How many runs the search still takes, if no release is skipped and no further boundary appears."""
    waiting = sum(place not in history.answers for place in history.sample)
    return waiting + sum(min(gap.left, sum(len(one.unseen).bit_length() for one in gap.open)) for gap in _gaps(history))


@dataclass(frozen=True, slots=True)
class _Gap:
    """Boundaries that share a budget: those between two neighbouring results of the sample."""

    open: tuple[Boundary, ...]
    """Those with releases between them that were not run."""
    left: int
    """Runs that they may still cost together."""


def _gaps(history: History[S]) -> list[_Gap]:
    given = {*history.sample, *history.free}
    anchors = [place for place in history.results if place in given]
    found = []
    for first, last in itertools.pairwise(anchors):
        inside = [one for one in history.boundaries if first <= one.before and one.after <= last]
        spent = sum(first < place < last and place not in given for place in history.answers)
        left = len(inside) * bound(history.size) - spent
        found.append(_Gap(tuple(one for one in inside if one.unseen), max(left, 0)))
    return found


def _of_gap(gap: _Gap, width: int) -> list[int]:
    """Places to run: one for each boundary; up to `width` for a boundary that is alone, where its budget allows."""
    if len(gap.open) == 1:
        unseen = gap.open[0].unseen
        return _split(unseen, next(count for count in range(width, 0, -1) if _fits(len(unseen), count, gap.left)))
    return [one.unseen[len(one.unseen) // 2] for one in gap.open[: gap.left]]


def _fits(unseen: int, together: int, left: int) -> bool:
    """Whether `together` runs at once leave enough of the budget to finish. One run needs no more than a budget."""
    if together == 1:
        return True
    rest = -(-(unseen - together) // (together + 1))
    return together <= unseen and together + rest.bit_length() <= left


def _split(unseen: Sequence[int], together: int) -> list[int]:
    """Places that divide `unseen` into equal parts."""
    return [unseen[(part * (len(unseen) - together)) // (together + 1) + part - 1] for part in range(1, together + 1)]
