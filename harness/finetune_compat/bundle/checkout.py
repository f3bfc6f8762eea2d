"""The harness itself, as git tracks it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from finetune_compat.contract.errors import CompatError

LEFT_OUT = ("reports/", "tests/golden/", ".git")
"""What no cell needs: measured baselines, and runs that only the harness's own tests read."""

_LOCKS = PurePosixPath("matrices/locks")


@dataclass(frozen=True, slots=True)
class Checkout:
    """The files of a checkout that travel, and which commit they are of."""

    root: Path
    files: tuple[str, ...]
    """Relative to `root`."""
    commit: str
    changed: tuple[str, ...]
    """Tracked files that differ from the commit."""


def tracked(locks: Collection[str], root: Path) -> Checkout:
    """What git tracks in `root` and a run needs; of the locks, those whose file names are in `locks`.

    Raises:
        CompatError: `root` is no git checkout, or there is no git.
    """
    commit = _git(root, "rev-parse", "HEAD").strip()
    changed = tuple(filter(None, _git(root, "diff", "--name-only", "-z", "HEAD").split("\0")))
    names = filter(None, _git(root, "ls-files", "-z").split("\0"))
    files = tuple(name for name in names if _travels(PurePosixPath(name), locks) and (root / name).is_file())
    return Checkout(root, files, commit, changed)


def _travels(name: PurePosixPath, locks: Collection[str]) -> bool:
    return name.name in locks if name.parent == _LOCKS else not str(name).startswith(LEFT_OUT)


def _git(root: Path, *arguments: str) -> str:
    git = shutil.which("git")
    # A folder that merely lies inside some other checkout is not one.
    done = (git and (root / ".git").exists()) and subprocess.run(
        [git, "-C", str(root), *arguments], capture_output=True, text=True, check=False
    )
    if not done or done.returncode:
        raise CompatError(
            f"not a git checkout: {done.stderr.strip() if done else 'no git, or no .git'}",
            where=str(root),
            meaning="A bundle holds what git tracks of the harness, and says which commit that is.",
            todo="Make it from a clone of this project.",
        )
    return done.stdout
