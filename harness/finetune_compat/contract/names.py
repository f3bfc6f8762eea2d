"""Names that become part of a path, and which of them are allowed. Standard library only.

A name that is read from a file, an archive, the environment or the command line is checked here before it is joined to
a path. Nothing is then ever read or written outside the directory it was meant for.
"""

from __future__ import annotations

import hashlib
import re

from finetune_compat.contract.errors import CompatError

LATEST = "latest"
"""The link in the directory of runs that leads to the newest one: never the name of a run."""

LONGEST = 200
"""Bytes of a name. File systems take 255, and the harness adds endings and the marks of temporary files."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_STACK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
"""What versions are written with: a local one has a plus sign, and one with an epoch an exclamation mark."""


def is_plain(name: object) -> bool:
    """Whether `name` is one component of a path: text without separators, drives or control characters, not empty, not
    `.` or `..`, and not too long for a file system.
    """
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and name.isprintable()
        and not any(sign in name for sign in "/\\:")
        and len(name.encode()) <= LONGEST
    )


def is_run_id(name: object) -> bool:
    """Whether a run may be called `name`: letters, digits, dots, dashes and underscores, and not `latest`."""
    return is_plain(name) and name != LATEST and _RUN_ID.fullmatch(str(name)) is not None


def is_stack(name: object) -> bool:
    """Whether a stack may be called `name`, such as `trl0.22-py311`: files of a run are named after it."""
    return is_plain(name) and _STACK.fullmatch(str(name)) is not None


def check_run_id(name: str, where: str) -> None:
    """Refuse a name that no run may have. Messages say `where` it was found.

    Raises:
        CompatError: it is no such name.
    """
    if not is_run_id(name):
        raise CompatError(
            f"{name!r} cannot be the name of a run",
            where=where,
            meaning=f"It becomes a directory below reports/runs, where `{LATEST}` is the link to the newest run.",
            todo="Use letters, digits, dots, dashes and underscores, such as nightly-42.",
        )


def shortened(name: str) -> str:
    """`name`, or where it is too long its beginning and a digest of all of it."""
    longest = LONGEST - len("-py311")
    if len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: longest - len(digest) - 1]}-{digest}"
