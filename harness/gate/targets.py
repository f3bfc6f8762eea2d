"""The nearest safe target: other releases of the package that moved, run on the regressed cells until one passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name
from packaging.version import Version

from harness.gate.decision import Moved, SafeTarget, Tried
from harness.gate.index import Release
from harness.ledger import Ledger

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


def search(
    of: Suspect, there: Sequence[Release], bound: int, passes: Callable[[Release], Tried | None]
) -> SafeTarget:
    """The nearest release above the one asked for that passes; where none does, the nearest below.

    Args:
        of: the package.
        there: its releases, the oldest first.
        bound: how many may be run.
        passes: runs one; None where the machine failed.
    """
    above, below = candidates(of, there)
    tried: list[Tried] = []
    # Half of the bound at most goes upwards if there is anything to find below.
    upwards = above[: bound if not below else max(1, bound - min(len(below), bound // 2))]
    for release in (*upwards, *below[: bound - len(upwards)]):
        answer = passes(release)
        if answer is None:
            continue
        tried.append(answer)
        if answer.passes:
            return SafeTarget(of.package, answer.version, release.version > of.after, tuple(tried), 0)
    return SafeTarget(of.package, None, False, tuple(tried), len(above) + len(below) - len(tried))
