"""Put back the files that existed before a watched script changed them. The script's processes set them aside."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.script import ORIGINALS, Original

_AFTER_S = 2.0
"""Seconds after the last sign of a killed watch in which its script may still have written."""

_REPLACED = "replaced"
"""Directory in the request's folder for what the script put in the way. The folder is deleted."""

_NAMED = 5
"""Directories that sentences name. A script may remove a directory with many others in it."""

KEPT = ".before-compat-watch"
"""End of the name of an original whose place has a newer file of the user."""


def read(folder: Path) -> list[Original]:
    """What the processes of a script noted in the request's `folder`, in the order of their changes."""
    try:
        lines = (folder / ORIGINALS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return list(_records(lines))


def _records(lines: Sequence[bytes]) -> Iterator[Original]:
    for line in lines:
        # A process may have been killed while it wrote: then it had not yet done what the line says.
        with contextlib.suppress(ValueError):
            yield Original(**json.loads(line))


def sentences(found: Sequence[Original]) -> tuple[str, ...]:
    """What the script did to files that existed before, one sentence for each of their directories."""
    changed = [Path(one.path) for one in found if one.aside or one.mode is not None]
    folders = dict.fromkeys(_shown(path.parent) for path in changed)
    named = tuple(
        f"files in {folder!r} that existed before are as they were: what the script wrote to them was deleted"
        for folder in list(folders)[:_NAMED]
    )
    more = len(folders) - len(named)
    return (*named, f"and files in {more} other directories") if more else named


def _shown(folder: Path) -> str:
    here = Path.cwd().resolve()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)


def put_back(folder: Path, ended_at: float | None = None) -> None:
    """Undo what the script did to files and directories that existed before, the last change first.

    Args:
        folder: the request's folder.
        ended_at: when the watch was killed, in seconds since the epoch; None for a watch that has just ended. A file
            that was written later is the user's: then both stay, the older one with a name that ends in `KEPT`.

    Raises:
        CompatError: a file cannot be put back. The message says where it is.
    """
    found = read(folder)
    failed: list[tuple[Original, OSError]] = []
    for number, one in enumerate(reversed(found)):
        try:
            _put_back(one, folder / _REPLACED / str(number), ended_at)
        except OSError as error:
            failed.append((one, error))
    for directory in {Path(one.aside).parent for one in found if one.aside}:
        left = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
        if not {name for name in left if name.isdecimal()}:  # what is not an original is a copy that was not finished
            shutil.rmtree(directory, ignore_errors=True)
    if failed:
        one, problem = failed[0]
        more = f", and {len(failed) - 1} more in the same way" if len(failed) > 1 else ""
        raise CompatError(
            f"it could not be put back: {problem.strerror}{more}",
            where=one.path,
            meaning="The script changed this file of yours under a watch, which had set the original aside.",
            todo=f"The original is {one.aside or 'an empty directory'}. Move it back.",
        )


def _put_back(one: Original, replaced: Path, ended_at: float | None) -> None:
    place, aside = Path(one.path), Path(one.aside)
    if one.mode is not None:
        if not place.is_dir():
            _clear(place, replaced)
            place.mkdir(parents=True)
        place.chmod(one.mode)
    if not one.aside or not os.path.lexists(aside):
        return
    if ended_at is not None and os.path.lexists(place) and place.lstat().st_mtime > ended_at + _AFTER_S:
        place = _free(place)
        print(f"{one.path}: newer than the watch that was killed; the file before it is {place}", file=sys.stderr)
    elif place.is_dir() and not place.is_symlink():
        _clear(place, replaced)
    place.parent.mkdir(parents=True, exist_ok=True)
    aside.replace(place)
    aside.unlink(missing_ok=True)  # two names of one file: then `replace` does nothing


def _free(place: Path) -> Path:
    """A name next to `place` that nothing has."""
    number, free = 2, place.with_name(f"{place.name}{KEPT}")
    while os.path.lexists(free):
        number, free = number + 1, place.with_name(f"{place.name}{KEPT}{number}")
    return free


def _clear(place: Path, replaced: Path) -> None:
    """Move what the script put in the way of a file or directory to `replaced`."""
    if os.path.lexists(place):
        replaced.parent.mkdir(exist_ok=True)  # made only now: on a full disk everything else can still be put back
        shutil.move(place, replaced)
