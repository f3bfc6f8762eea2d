"""The git commit that committed records were made at."""

from __future__ import annotations

import subprocess
from pathlib import Path

from finetune_compat.machine.places import places


def commit(project: Path | None = None) -> str:
    """The current commit of the checkout at `project`, with `+` if files are changed or new; `unknown` without git.

    Changes in reports/ are ignored. Otherwise each of several new records would mark the next with `+`.
    """
    project = project or places().the_checkout("the commit of a record")
    known = _git(project, "rev-parse", "HEAD")
    if known.returncode:
        return "unknown"
    differs = _git(project, "status", "--porcelain", "--", ".", ":(exclude)reports").stdout
    return known.stdout.strip() + ("+" if differs else "")


def short(known: str) -> str:
    """A commit for a page: its first twelve digits, and `+` if it has one."""
    return known if known == "unknown" else known[:12] + ("+" if known.endswith("+") else "")


def _git(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments],  # noqa: S607 - git is found on the path, as everywhere
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
