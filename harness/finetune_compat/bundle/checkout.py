"""The files of the harness that git tracks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from finetune_compat.contract.errors import CompatError

LEFT_OUT = ("reports/", "tests/golden/", ".git")
"""Paths that no cell needs: committed baselines, and runs that only the tests of the harness read."""

_LOCKS = PurePosixPath("matrices/locks")


@dataclass(frozen=True, slots=True)
class Checkout:
    """The files of a checkout that a bundle contains, and their commit."""

    root: Path
    files: tuple[str, ...]
    """Relative to `root`."""
    commit: str
    changed: tuple[str, ...]
    """Tracked files that differ from the commit."""


def tracked(locks: Collection[str], root: Path) -> Checkout:
    """The tracked files of `root` that a run needs, with only those locks whose file names are in `locks`.

    Raises:
        CompatError: `root` is not a git checkout, or git is not installed.
    """
    commit = _git(root, "rev-parse", "HEAD").strip()
    changed = tuple(filter(None, _git(root, "diff", "--name-only", "-z", "HEAD").split("\0")))
    names = filter(None, _git(root, "ls-files", "-z").split("\0"))
    files = tuple(name for name in names if _included(PurePosixPath(name), locks) and (root / name).is_file())
    return Checkout(root, files, commit, changed)


def _included(name: PurePosixPath, locks: Collection[str]) -> bool:
    return name.name in locks if name.parent == _LOCKS else not str(name).startswith(LEFT_OUT)


def _git(root: Path, *arguments: str) -> str:
    git = shutil.which("git")
    # git would also accept a folder inside another checkout.
    done = (git and (root / ".git").exists()) and subprocess.run(
        [git, "-C", str(root), *arguments], capture_output=True, text=True, check=False
    )
    if not done or done.returncode:
        raise CompatError(
            f"not a git checkout: {done.stderr.strip() if done else 'no git, or no .git'}",
            where=str(root),
            meaning="A bundle contains the tracked files of the harness, and names their commit.",
            todo="Make the bundle from a clone of this project.",
        )
    return done.stdout
