"""Validation of names that become part of a path. Standard library only.

A name from a file, an archive, the environment or the command line is checked here before it is joined to a path. So
nothing is read or written outside the intended directory.
"""

from __future__ import annotations

import hashlib
import re

from finetune_compat.contract.errors import CompatError

LATEST = "latest"
"""Name of the link to the newest run, in the directory of runs. No run can have this name."""

LONGEST = 200
"""Maximum length of a name in bytes. File systems allow 255; the harness adds suffixes for its files."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_STACK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
"""The characters of versions: local versions have a plus sign, and versions with an epoch an exclamation mark."""


def is_plain(name: object) -> bool:
    """Whether `name` is a valid single path component: text without separators, drives or control characters, not
    empty, not `.` or `..`, and not longer than `LONGEST` bytes.
    """
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and name.isprintable()
        and not any(sign in name for sign in "/\\:")
        and len(name.encode()) <= LONGEST
    )


def is_run_id(name: object) -> bool:
    """Whether `name` is a valid run id: letters, digits, dots, dashes and underscores, and not `latest`."""
    return is_plain(name) and name != LATEST and _RUN_ID.fullmatch(str(name)) is not None


def is_stack(name: object) -> bool:
    """Whether `name` is a valid stack name (example: `trl0.22-py311`). Files of a run are named after stacks."""
    return is_plain(name) and _STACK.fullmatch(str(name)) is not None


def check_run_id(name: str, where: str) -> None:
    """Check that `name` is a valid run id. `where` is the place that the error message names.

    Raises:
        CompatError: `name` is not a valid run id.
    """
    if not is_run_id(name):
        raise CompatError(
            f"{name!r} cannot be the name of a run",
            where=where,
            meaning=f"It becomes a directory below reports/runs, where `{LATEST}` is the link to the newest run.",
            todo="Use letters, digits, dots, dashes and underscores, such as nightly-42.",
        )


def shortened(name: str) -> str:
    """`name`; if it is too long, its beginning and a digest of the whole name."""
    longest = LONGEST - len("-py311")
    if len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: longest - len(digest) - 1]}-{digest}"
