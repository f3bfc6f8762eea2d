"""The hook for pre-commit: compare each changed lock file with its last commit, by the committed baselines alone.

    python -m finetune_compat.gate.hook FILE...

It runs nothing and takes seconds. Only BLOCK refuses a commit: that the baselines do not hold a version says nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from finetune_compat.gate.command import GateRequest, gate_command
from finetune_compat.gate.decision import GateExit


def main(files: Sequence[str]) -> int:
    """1 if a change of one of `files` is known to break fine-tuning, else 0."""
    return int(any(_blocks(file) for file in files))


def _blocks(file: str) -> bool:
    git = shutil.which("git") or "git"
    done = subprocess.run([git, "show", f"HEAD:./{file}"], capture_output=True, check=False)
    if done.returncode:
        print(f"{file}: new, so there is nothing to compare it with")
        return False
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder, Path(file).name)
        before.write_bytes(done.stdout)
        return gate_command(GateRequest((str(before),), (file,), cached=True)) is GateExit.BLOCK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
