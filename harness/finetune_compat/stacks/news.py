"""What the package index has and the matrix lacks: new minors, newer patches, and the releases that are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from packaging.version import Version

from finetune_compat.stacks.index import Release
from finetune_compat.stacks.matrix import Matrix, Stack


@dataclass(frozen=True, slots=True)
class Row:
    """A row that the matrix lacks: the newest patch of a minor."""

    package: str
    release: Release
    before: str = ""
    """The patch that the minor's row pins now; empty if there is no row."""

    def __str__(self) -> str:
        what = f"row moves from {self.before}" if self.before else "new row"
        return f"{self.package} {self.release.version}: {what}, uploaded {self.release.day}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A release that the matrix does not take, and why."""

    package: str
    version: Version
    why: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}: left out, {self.why}"


@dataclass(frozen=True, slots=True)
class News:
    """What the index has and the matrix lacks."""

    rows: tuple[Row, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def __add__(self, other: News) -> News:
        return News(self.rows + other.rows, self.left_out + other.left_out)


def news_of(
    matrix: Matrix,
    package: str,
    releases: Sequence[Release],
    yanked: Mapping[Version, str],
    today: date,
    elsewhere: Mapping[str, Version],
) -> News:
    """What the index has of one package and its axis lacks.

    A minor from the axis's `since` on has a row for its newest patch that is older than the cool-down, unless a row
    of another axis is locked to that minor, or the axis is `without` it. A row with a label pins its patch for
    good. A row with a reason for its day does not move: the day was chosen for its patch.

    Args:
        matrix: the matrix.
        package: the package of an axis.
        releases: all releases that can be installed.
        yanked: the withdrawn releases, with the reasons.
        today: the day on which the cool-down ends.
        elsewhere: the locked version of the package in the rows of the other axes, by stack name.
    """
    since = matrix.since.get(package)
    if since is None:
        return News()
    rows = {_minor(Version(stack.pin)): stack for stack in matrix.stacks if _follows_its_minor(stack, package)}
    ripe = today - timedelta(days=matrix.cool_down_days)
    newest: dict[tuple[int, int], Release] = {}
    left: list[LeftOut] = []
    for release in releases:
        if release.version.is_prerelease or release.version < since:
            continue
        if release.day > ripe:
            left.append(LeftOut(package, release.version, f"uploaded {release.day}, until the cool-down is over"))
        else:
            newest[_minor(release.version)] = max(release, newest.get(_minor(release.version), release), key=_version)
    left += [
        LeftOut(package, version, f"yanked: {why or 'no reason given'}")
        for version, why in sorted(yanked.items())
        if version >= since and not version.is_prerelease and _would_be_taken(version, rows, newest)
    ]
    held = {_minor(locked): f"the stack {name} holds this minor" for name, locked in elsewhere.items()}
    unwanted = {_minor(Version(minor)): why for minor, why in matrix.without.get(package, {}).items()}
    wanted, no_row = _rows(package, rows, newest, held | unwanted)
    return News(wanted, (*no_row, *left))


def _follows_its_minor(stack: Stack, package: str) -> bool:
    return stack.package == package and stack.label == "{}.{}".format(*_minor(Version(stack.pin)))


def _rows(
    package: str,
    rows: Mapping[tuple[int, int], Stack],
    newest: Mapping[tuple[int, int], Release],
    needless: Mapping[tuple[int, int], str],
) -> tuple[tuple[Row, ...], tuple[LeftOut, ...]]:
    wanted: list[Row] = []
    no_row: list[LeftOut] = []
    for minor, release in sorted(newest.items()):
        row = rows.get(minor)
        if row is None and minor in needless:
            no_row.append(LeftOut(package, release.version, needless[minor]))
        elif row is None:
            wanted.append(Row(package, release))
        elif Version(row.pin) >= release.version:
            continue
        elif row.why:
            no_row.append(LeftOut(package, release.version, f"the row of {row.pin} has a day of its own: {row.why}"))
        else:
            wanted.append(Row(package, release, row.pin))
    return tuple(wanted), tuple(no_row)


def _would_be_taken(
    version: Version, rows: Mapping[tuple[int, int], Stack], newest: Mapping[tuple[int, int], Release]
) -> bool:
    """Whether a yanked release is newer than all else of its minor."""
    minor = _minor(version)
    pinned = [Version(rows[minor].pin)] if minor in rows else []
    found = [newest[minor].version] if minor in newest else []
    return all(version > other for other in (*pinned, *found))


def _minor(version: Version) -> tuple[int, int]:
    return version.major, version.minor


def _version(release: Release) -> Version:
    return release.version
