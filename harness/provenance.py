"""Where committed records come from."""

from __future__ import annotations

import subprocess

from harness.matrix import ROOT


def commit() -> str:
    """The commit the harness stands at, with `+` where files differ from it; `unknown` outside a checkout."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=40"],  # noqa: S607 - git is found on the path, as everywhere
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"
