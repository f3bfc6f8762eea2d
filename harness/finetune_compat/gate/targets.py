"""The nearest safe target: other releases of the package that moved, run on the regressed cells until one passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.checks.ledger import Ledger
from finetune_compat.gate.decision import Moved, SafeTarget, Tried
from finetune_compat.gate.index import Release

FOLLOWED = ("trl", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")
"""Packages whose other releases can be run in place of the one that moved, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A package that moved between the two sides, and from what to what."""

    package: str
    before: Version
    after: Version


def suspect(
    moved: Iterable[Moved], pinned: Sequence[str], issues: Sequence[str], files: Sequence[str], ledger: Ledger
) -> Suspect | None:
    """The package whose release is to be searched; None where nothing says which.

    Args:
        moved: what differs between the sides.
        pinned: packages that the asked side states itself; if only one of them moved, it is that.
        issues: what is listed of the cells: their windows name packages.
        files: what froze or raised in the cells, as paths below site-packages.
        ledger: for the windows.
    """
    both = {item.package: item for item in moved if item.before and item.after and item.package in FOLLOWED}
    windows = [name for issue in ledger.issues if issue.id in issues for shows in issue.shows for name in shows.windows]
    stated = [canonicalize_name(name) for name in pinned if canonicalize_name(name) in both]
    named = [*windows, *(stated if len(stated) == 1 else ()), *(file.partition("/")[0] for file in files)]
    chosen = next((name for name in named if name in both), None)
    if chosen is None:
        return None
    item = both[chosen]
    return Suspect(chosen, Version(str(item.before)), Version(str(item.after)))


def candidates(of: Suspect, there: Sequence[Release]) -> tuple[tuple[Release, ...], tuple[Release, ...]]:
    """Releases to run: above the one asked for, the nearest first, and between the two sides, the nearest first.

    Pre-releases are left out, and so is the release in use, which is known to pass.
    """
    final = [release for release in there if not release.version.is_prerelease and release.version != of.before]
    above = [release for release in final if release.version > of.after]
    if of.after < of.before:  # a step back: beyond the release in use nothing is nearer
        above = [release for release in above if release.version < of.before]
    below = [release for release in final if of.before < release.version < of.after]
    return tuple(above), tuple(reversed(below))


@dataclass(frozen=True, slots=True)
class Bench:
    """How releases are held to be safe or not."""

    passes: Callable[[Release], Tried | None]
    """Runs the regressed cells on one; None where the machine failed."""
    listed: Callable[[Release], bool]
    """Whether the ledger lists a deviation of one of these cells for it."""
    bound: int
    """How many may be run."""


def search(of: Suspect, there: Sequence[Release], bench: Bench) -> SafeTarget:
    """The nearest release above the one asked for that passes; where none does, the nearest below.

    What the ledger lists is not run first. What passes is always run, and so is the release before it on the way there,
    until one does not pass: a window of the ledger that is too wide cannot hide a nearer release.
    """
    above, below = candidates(of, there)
    walk = _Walk(bench)
    found = walk.along(above) or walk.along(below)
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
    """Whether a release lies between the one asked for and the one found."""
    low, high = sorted((found.version, of.after))
    return low < release.version < high


@dataclass(slots=True)
class _Walk:
    """Releases run so far."""

    bench: Bench
    seen: list[Release] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)

    def along(self, way: Sequence[Release]) -> Release | None:
        """The first release on `way` that passes, as far as the bound lets it be known."""
        for place, release in enumerate(way):
            if not self.bench.listed(release) and self._passes(release):
                return self._nearer(way[:place], release)
        return None

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
