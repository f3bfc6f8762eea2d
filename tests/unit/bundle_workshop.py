"""A small checkout and a registry that is a folder, to make and start bundles with the real tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from finetune_compat.bundle.command import BundleRequest, make
from finetune_compat.contract.records import DeviceKind
from finetune_compat.stacks.matrix import parse_matrix
from stack_builders import document, row

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
MATRIX = parse_matrix(document(row(pythons=[HERE])))
STACK = MATRIX.stacks[0]
HEADER = "# Made by `nox -s lock`, from matrices/stacks.toml. Never edited by hand.\n"
LIMIT = 60_000
"""Size limit of a part. The checkout here has two files of 30,000 bytes, which do not fit in one part."""


@dataclass
class Workshop:
    """A checkout, a registry that is a folder, and the target folder of the bundle."""

    root: Path
    said: list[str] = field(default_factory=list)

    @property
    def checkout(self) -> Path:
        return self.root / "checkout"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def target(self) -> Path:
        """The folder that the parts unpack to."""
        return self.root / "target" / "compat-bundle"

    @property
    def lock(self) -> Path:
        return self.checkout / "matrices" / "locks" / f"{STACK.on(HERE)}.txt"

    def make(self, limit: int | None = LIMIT) -> list[Path]:
        """Make the bundle."""
        asked = BundleRequest((STACK,), HERE, DeviceKind.CPU, limit)
        return make(MATRIX, asked, self.out, self.said.append, self.checkout)

    def unpack(self, parts: list[Path]) -> None:
        """Unpack these parts, as `tar -xf` does."""
        for part in parts:
            with tarfile.open(part) as tar:
                tar.extractall(self.root / "target", filter="data")

    def start(self) -> subprocess.CompletedProcess[str]:
        """Run `python3 start.py` with a Python that does not see these tests."""
        environ = {"PATH": os.defpath, "HOME": str(self.root), "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
        command = [sys.executable, str(self.target / "start.py")]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)

    def left(self) -> list[str]:
        """List the folder in which the bundle is made."""
        return sorted(
            path.name for path in self.root.iterdir() if path.name not in {"checkout", "registry", "cache", "x"}
        )


def write(path: Path, text: str) -> None:
    """Write a file and its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def git(folder: Path, *arguments: str) -> str:
    """Run git with a fixed author."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        [shutil.which("git") or "git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
