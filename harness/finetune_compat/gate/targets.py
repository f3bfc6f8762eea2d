"""The nearest safe target: run the regressed cells on other releases of the changed package until one passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.checks.ledger import Ledger
from finetune_compat.gate.decision import Moved, SafeTarget, Tried
from finetune_compat.stacks.index import Release

FOLLOWED = ("trl", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")
"""Packages whose releases can be searched, the likeliest cause first."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A package whose version differs between the sides, with both versions."""

    package: str
    before: Version
    after: Version


def suspect(
    moved: Iterable[Moved],
    pinned: Sequence[str],
    issues: Sequence[str],
    files: Sequence[str],
    ledger: Ledger,
    froze: Sequence[str] = (),
) -> Suspect | None:
    """The package whose releases to search; None where it is unknown.

    Args:
        moved: packages whose version differs between the sides.
        pinned: packages that the requested side pins. If exactly one of them differs, it is a suspect.
        issues: listed issues of the cells. Their version windows name packages.
        files: files whose code froze parameters or raised, as paths below site-packages.
        ledger: the ledger with the version windows.
        froze: files of the library functions that the script called and that froze parameters.
    """
    both = {item.package: item for item in moved if item.before and item.after and item.package in FOLLOWED}
    windows = [name for issue in ledger.issues if issue.id in issues for shows in issue.shows for name in shows.windows]
    stated = [canonicalize_name(name) for name in pinned if canonicalize_name(name) in both]
    called, seen = ([file.partition("/")[0] for file in paths] for paths in (froze, files))
    named = [*windows, *called, *(stated if len(stated) == 1 else ()), *seen]
    chosen = next((name for name in named if name in both), None)
    if chosen is None:
        return None
    item = both[chosen]
    return Suspect(chosen, Version(str(item.before)), Version(str(item.after)))


def candidates(of: Suspect, there: Sequence[Release]) -> tuple[tuple[Release, ...], tuple[Release, ...]]:
    """Releases to run: those above the requested one, and those between the two sides, each the nearest first.

    Pre-releases are excluded. So is the release in use, which is known to pass.
    """
    final = [release for release in there if not release.version.is_prerelease and release.version != of.before]
    above = [release for release in final if release.version > of.after]
    if of.after < of.before:  # a downgrade: releases above the one in use are farther away
        above = [release for release in above if release.version < of.before]
    below = [release for release in final if of.before < release.version < of.after]
    return tuple(above), tuple(reversed(below))


@dataclass(frozen=True, slots=True)
class Bench:
    """Tests whether releases are safe."""

    passes: Callable[[Release], Tried | None]
    """Runs the regressed cells on a release; returns None where the machine failed."""
    listed: Callable[[Release], bool]
    """Whether the ledger lists a deviation of one of these cells for a release."""
    bound: int
    """Maximum number of releases to run."""


def search(of: Suspect, there: Sequence[Release], bench: Bench) -> SafeTarget:
    """The nearest passing release above the requested one; if there is none, the nearest below.

    The search first skips releases for which the ledger lists a deviation. After a release passes, it runs the skipped
    releases before it, the closest first, until one does not pass. So a too wide window of the ledger cannot hide a
    nearer release.

    Half of the runs are kept for the releases below. If there are more of these than runs, they are bisected: the
    release in use passes and the requested one does not.
    """
    above, below = candidates(of, there)
    walk = _Walk(bench)
    found = walk.along(above, bench.bound - min(len(below), bench.bound // 2)) or walk.below(below)
    left = [release for release in (*above, *below) if release not in walk.seen]
    listed = [release for release in left if bench.listed(release)]
    return SafeTarget(
        package=of.package,
        version=str(found.version) if found else None,
        above=found is not None and found.version > of.after,
        tried=tuple(walk.tried),
        untried=0 if found else len(left) - len(listed),
        listed=tuple(str(release.version) for release in listed if found is None or _before(release, found, of)),
    )


def _before(release: Release, found: Release, of: Suspect) -> bool:
    """Whether a release lies between the requested one and the one found."""
    low, high = sorted((found.version, of.after))
    return low < release.version < high


@dataclass(slots=True)
class _Walk:
    """A walk along releases, with those run so far."""

    bench: Bench
    seen: list[Release] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)

    def along(self, way: Sequence[Release], most: int) -> Release | None:
        """The nearest release on `way` that passes, after at most `most` runs in all; None if there is none."""
        for place, release in enumerate(way):
            if len(self.seen) < most and not self.bench.listed(release) and self._passes(release):
                return self._nearer(way[:place], release)
        return None

    def below(self, way: Sequence[Release]) -> Release | None:
        """The same within the bound; by bisection if `way` is longer than the runs that are left."""
        unlisted = [release for release in way if not self.bench.listed(release)]
        if len(unlisted) <= self.bench.bound - len(self.seen):
            return self.along(way, self.bench.bound)
        found, first, end = None, 0, len(unlisted)
        while first < end and len(self.seen) < self.bench.bound:
            middle = (first + end) // 2
            if self._passes(unlisted[middle]):
                found, end = unlisted[middle], middle
            else:
                first = middle + 1
        return found

    def _nearer(self, before: Sequence[Release], found: Release) -> Release:
        for release in reversed(before):
            if release in self.seen or not self._passes(release):
                break
            found = release
        return found

    def _passes(self, release: Release) -> bool:
        if len(self.seen) >= self.bench.bound:
            return False
        self.seen.append(release)
        answer = self.bench.passes(release)
        self.tried += [answer] if answer else []
        return answer is not None and answer.passes
