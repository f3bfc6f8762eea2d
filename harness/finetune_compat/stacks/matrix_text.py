"""Edit the text of `matrices/stacks.toml`: add rows, move rows to another patch, and set the day of unpinned stacks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

from packaging.version import Version

from finetune_compat.contract.errors import Fault, MatrixError
from finetune_compat.stacks.news import Row

_AXIS = '[[axes]]\npackage = "{}"\n'
_LINE = re.compile(r'  \{ pin = "(?P<pin>[^"]+)", +(?P<rest>released = .+) \},')


def with_rows(text: str, rows: Sequence[Row]) -> str:
    """The text of stacks.toml with `rows`, each in the order of the versions of its axis. Comments stay.

    Raises:
        MatrixError: the rows of an axis are not one a line.
    """
    for package in dict.fromkeys(row.package for row in rows):
        text = _with_rows_of(text, package, [row for row in rows if row.package == package])
    return text


def _with_rows_of(text: str, package: str, rows: Sequence[Row]) -> str:
    head, axis, rest = text.partition(_AXIS.format(package))
    before, opening, body = rest.partition("stacks = [\n")
    inner, closing, tail = body.partition("\n]\n")
    if not (axis and opening and closing):
        raise _unreadable(package, "its rows are not in a list `stacks = [` with one row a line")
    lines: dict[Version, tuple[str, str]] = {}
    for line in inner.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            raise _unreadable(package, f"not a row: {line.strip()}")
        lines[Version(found["pin"])] = (found["pin"], found["rest"])
    for row in rows:
        old = lines.pop(Version(row.before), None) if row.before else None
        kept = old[1].partition(", ")[2] if old else ""
        released = f"released = {row.release.day}"
        lines[row.release.version] = (str(row.release.version), f"{released}, {kept}" if kept else released)
    width = max(len(pin) for pin, _ in lines.values()) + len('"",')
    ordered = [lines[version] for version in sorted(lines)]
    written = "\n".join("  { pin = " + f'"{pin}",'.ljust(width) + f" {options} }}," for pin, options in ordered)
    return head + axis + before + opening + written + closing + tail


def as_of_today(text: str, today: date) -> str:
    """The text of stacks.toml with `today` as the day of every unpinned stack."""
    head, *tables = re.split(r"(?m)^(?=\[\[?[a-z])", text)
    moved = [
        re.sub(r"(?m)^as_of = \S+$", f"as_of = {today}", table) if table.startswith("[[unpinned]]") else table
        for table in tables
    ]
    return "".join((head, *moved))


def _unreadable(package: str, problem: str) -> MatrixError:
    return MatrixError(
        "matrices/stacks.toml", (Fault(f"axes ({package})", problem),), todo="Write one row a line, as the others are."
    )
