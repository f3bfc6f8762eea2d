"""Issues that a project accepts for a time: `[[tool.finetune-compat.ignore]]` of its pyproject.toml, or `[[ignore]]` of
its finetune-compat.toml.

    [[tool.finetune-compat.ignore]]
    id = "trl#3926"
    reason = "we hand over peft_config"
    expires = 2027-01-31
    files = ["train.py"]      # compat audit: only there; left out: everywhere
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from finetune_compat.affected.notes import one_line
from finetune_compat.contract.errors import CompatError

OWN_FILE = "finetune-compat.toml"
PYPROJECT = "pyproject.toml"

_FIELDS = frozenset({"id", "reason", "expires", "files"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """One accepted issue."""

    id: str
    reason: str
    expires: datetime.date
    """The last day on which it is accepted."""
    files: tuple[str, ...] = ()
    """Patterns of file names, as in a shell. None: everywhere."""

    def covers(self, name: str, file: str, today: datetime.date) -> bool:
        """Whether issue `name` in `file` is accepted on this day."""
        here = not self.files or any(fnmatch(file, pattern) for pattern in self.files)
        return name == self.id and here and today <= self.expires

    def __str__(self) -> str:
        return f"{self.reason} (until {self.expires})"


def accepted(ignores: Sequence[Ignore], name: str, file: str, today: datetime.date) -> str:
    """Why issue `name` in `file` is accepted; empty if it is not."""
    return next((str(ignore) for ignore in ignores if ignore.covers(name, file, today)), "")


def expired(ignores: Sequence[Ignore], today: datetime.date) -> tuple[str, ...]:
    """One sentence for each entry that no longer applies."""
    return tuple(
        f"The entry that accepts {ignore.id} expired on {ignore.expires}."
        for ignore in ignores
        if ignore.expires < today
    )


def read_ignores(path: Path, known: Collection[str]) -> tuple[Ignore, ...]:
    """The accepted issues of the project at `path`, a file or directory. Both files are read.

    Raises:
        CompatError: a file is not TOML; an entry has no reason, no date, or an id that is not `known`.
    """
    directory = path if path.is_dir() else path.parent
    found: list[Ignore] = []
    for file, keys in (
        (directory / PYPROJECT, ("tool", "finetune-compat", "ignore")),
        (directory / OWN_FILE, ("ignore",)),
    ):
        if file.is_file():
            table = _table(file)
            for key in keys:
                table = table.get(key, {}) if isinstance(table, dict) else {}
            found += _entries(file, table, known)
    return tuple(found)


def _table(file: Path) -> Any:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise _invalid(file, f"cannot be read: {one_line(str(error))}") from None


def _entries(file: Path, entries: Any, known: Collection[str]) -> Iterator[Ignore]:
    if not entries:
        return
    if not isinstance(entries, list):
        raise _invalid(file, "`ignore` is not a list of tables")
    for place, entry in enumerate(entries):
        at = f"ignore[{place}]"
        if not isinstance(entry, dict) or entry.keys() - _FIELDS:
            raise _invalid(file, f"{at} may have {', '.join(sorted(_FIELDS))}, and nothing else")
        name, reason, expires, files = (entry.get(field) for field in ("id", "reason", "expires", "files"))
        if not isinstance(name, str) or name not in known:
            raise _invalid(file, f"{at}: there is no issue or pattern {name!r}")
        if not isinstance(reason, str) or not reason.strip():
            raise _invalid(file, f"{at} ({name}) has no reason")
        if not isinstance(expires, datetime.date) or isinstance(expires, datetime.datetime):
            raise _invalid(file, f"{at} ({name}) has no date `expires`, such as 2027-01-31")
        if files is not None and not (isinstance(files, list) and all(isinstance(one, str) for one in files)):
            raise _invalid(file, f"{at} ({name}): `files` is not a list of file names")
        yield Ignore(id=name, reason=one_line(reason), expires=expires, files=tuple(files or ()))


def _invalid(file: Path, problem: str) -> CompatError:
    return CompatError(
        problem,
        where=str(file),
        meaning="An issue is accepted for a reason, and for a time.",
        todo="An entry has id, reason and expires; docs/am-i-hit.md has an example.",
    )
