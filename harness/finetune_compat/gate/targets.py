"""What the search for a safe target searches: the suspected package, and its releases around the two sides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.checks.ledger import Ledger
from finetune_compat.gate.decision import Moved
from finetune_compat.results.order import AXES
from finetune_compat.stacks.index import Release


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
    both = {item.package: item for item in moved if item.before and item.after and item.package in AXES}
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
