"""Where committed records come from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from finetune_compat.machine.places import places


def commit(project: Path | None = None) -> str:
    """The commit the checkout at `project` stands at, with `+` where files differ from it, or are new; `unknown`
    outside one.

    Reports are left out: of several records that are made one after another, each would call the next one's harness
    another.
    """
    project = project or places().the_checkout("the commit of a record")
    known = _git(project, "rev-parse", "HEAD")
    if known.returncode:
        return "unknown"
    differs = _git(project, "status", "--porcelain", "--", ".", ":(exclude)reports").stdout
    return known.stdout.strip() + ("+" if differs else "")


def short(known: str) -> str:
    """A commit as a page shows it: its first twelve digits, and its mark."""
    return known if known == "unknown" else known[:12] + ("+" if known.endswith("+") else "")


def _git(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments],  # noqa: S607 - git is found on the path, as everywhere
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
