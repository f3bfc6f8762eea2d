"""Remove files from a store: old ones, the oldest above a total size, and those that this checkout cannot use."""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.contract.catalog import CATALOG
from finetune_compat.machine.files import UNFINISHED
from finetune_compat.machine.places import places
from finetune_compat.stacks.locks import read_lock
from finetune_compat.store import stored_files
from finetune_compat.store.sources import sources
from finetune_compat.store.stored_files import Damaged

ABANDONED_S = 3600
"""Age in seconds above which a temporary file counts as left over from a killed process."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The facts of one file that decide about its removal. `reachable` is true if it was not determined."""

    name: str
    size: int
    recorded_at: str
    """UTC. Empty for a damaged file, so that it counts as the oldest."""
    reachable: bool


def survey(root: Path, *, unreachable: bool) -> list[Kept]:
    """All files of the store at `root`. Whether a file is reachable is determined only if `unreachable` is true."""
    reach = _reach() if unreachable else None
    return [_kept(root, name, reach) for names in stored_files.names(root).values() for name in names]


def _kept(root: Path, name: str, reach: tuple[frozenset[str], frozenset[str]] | None) -> Kept:
    size = stored_files.path_of(root, name).stat().st_size
    try:
        stored = stored_files.read(root, name)
    except Damaged:
        return Kept(name, size, "", reachable=False)
    here = reach is None or (stored.recipe.sources in reach[0] and stored.recipe.lock_sha256 in reach[1])
    return Kept(name, size, stored.recorded_at, reachable=here)


def _reach() -> tuple[frozenset[str], frozenset[str]]:
    """The digests of the sources and of the locks that cells and scripts of this checkout can have."""
    found = {sources().digest(flow, real=real) for flow in CATALOG for real in (False, True)} | {sources().watch()}
    locks = {read_lock(path).sha256 for path in places().locks.glob("*.txt") if ".unsolvable" not in path.name}
    return frozenset(found), frozenset(locks)


def doomed(
    kept: Iterable[Kept], *, before: datetime.datetime | None, most: int | None, unreachable: bool
) -> tuple[Kept, ...]:
    """The files to remove.

    These are files recorded before `before`, unreachable files if `unreachable`, and then the oldest of the rest until
    at most `most` bytes remain. No remaining file is older than one removed for its size.
    """
    limit = before.isoformat(timespec="microseconds") if before else ""
    ordered = sorted(kept, key=lambda each: (each.recorded_at, each.name), reverse=True)
    going = [each for each in ordered if each.recorded_at < limit or (unreachable and not each.reachable)]
    gone = {each.name for each in going}
    rest = [each for each in ordered if each.name not in gone]
    sizes = itertools.accumulate(each.size for each in rest)
    fitting = sum(most is None or size <= most for size in sizes)
    return (*going, *rest[fitting:])


def remove(root: Path, going: Collection[Kept]) -> None:
    """Remove these files, and temporary files of killed processes."""
    for each in going:
        stored_files.path_of(root, each.name).unlink(missing_ok=True)
    for part in (root / stored_files.OBJECTS).glob(f"*/{UNFINISHED}*"):
        if part.stat().st_mtime < time.time() - ABANDONED_S:
            part.unlink(missing_ok=True)
