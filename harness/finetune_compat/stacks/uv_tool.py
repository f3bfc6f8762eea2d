"""Run uv and interpret its errors. No other module does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from finetune_compat.contract.errors import InstallError
from finetune_compat.contract.redaction import redact_here
from finetune_compat.machine.interruption import run

_UNREACHABLE = (
    "error sending request",
    "Request failed after",
    "Failed to fetch",
    "client error (Connect)",
    "the network was disabled",
    "network connectivity is disabled",
    "Received some unexpected",
    "error decoding response body",
)
"""Parts of uv's errors that mean that a registry does not answer, or answers with something else than its packages: a
login page, or an error.
"""

_NOT_FOUND = re.compile(r"(\S+) was not found in the package registry")
_EXISTING = frozenset(
    {"trl", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "pytest", "pytest-xdist"}
)
"""Packages that every index has. One that lacks them answers with something else than its packages. Other names are a
user's, and may be on another index.
"""

_LACKING = "there is no version of"
"""The same about a pinned version. When versions are resolved, a user may have named one that does not exist."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one call of uv."""

    code: int
    output: str
    complaint: str
    """uv's stderr. Secrets are removed, because it may contain the URL of an index."""

    @property
    def ok(self) -> bool:
        """Whether uv succeeded."""
        return self.code == 0

    @property
    def unreachable(self) -> bool:
        """Whether a registry did not answer, so that nothing is known about the packages."""
        lied = not _EXISTING.isdisjoint(_NOT_FOUND.findall(self.complaint))
        return not self.ok and (lied or any(sign in self.complaint for sign in _UNREACHABLE))

    @property
    def lacking(self) -> bool:
        """Whether the index has no file of a version that an earlier answer of it had."""
        return not self.ok and _LACKING in self.complaint

    @property
    def unsolvable(self) -> bool:
        """Whether uv asked every index and found no compatible versions."""
        return not self.ok and not self.unreachable and "No solution found when resolving" in self.complaint

    @property
    def cause(self) -> str:
        """The error on one line."""
        return one_line(self.complaint)


def one_line(complaint: str) -> str:
    """The error in uv's stderr on one line, without the progress before it and the hints after it."""
    error = complaint[max(complaint.find("error: "), 0) :].partition("\nhint:")[0]
    return " ".join(error.split()).removeprefix("error: ") or "uv gave no reason"


def run_uv(arguments: Sequence[str], *, environ: Mapping[str, str], stdin: str = "") -> Answer:
    """Run uv and return its result, also if uv fails.

    Raises:
        InstallError: uv is not installed.
    """
    command = [_uv(), "--color", "never", "--no-progress", *arguments]
    done = run(command, environ, stdin)
    return Answer(done.returncode, done.stdout, redact_here(done.stderr.strip()))


@cache
def _uv() -> str:
    # Prefer the uv that this project depends on: the text of a lock depends on the version of uv.
    from uv import find_uv_bin

    try:
        return find_uv_bin()
    except FileNotFoundError:
        found = shutil.which("uv")
    if found is None:
        raise InstallError(
            "uv is not installed",
            where=sys.executable,
            meaning="uv makes the locks and the environments of all stacks.",
            todo="Install this project with its dependencies, which include uv: `pip install -e '.[host]'`.",
        )
    return found


def bare_environ() -> dict[str, str]:
    """This process's environment variables, without those that must not affect a stack's environment.

    uv must not install into the active virtual environment. With PYTHONDONTWRITEBYTECODE, every import of TRL takes
    10 s instead of 4 s.
    """
    dropped = {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
    return {name: value for name, value in os.environ.items() if name not in dropped}


def lock_environ() -> dict[str, str]:
    """`bare_environ` without the variables that would make a lock depend on the machine."""
    dropped = {"UV_FIND_LINKS", "UV_EXCLUDE_NEWER", "UV_PRERELEASE", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_TORCH_BACKEND"}
    return {name: value for name, value in bare_environ().items() if name not in dropped}


def install_environ() -> dict[str, str]:
    """`bare_environ` with pip's `find-links` as UV_FIND_LINKS: it may offer a CPU build of torch, and uv ignores it."""
    environ = bare_environ()
    links = environ.get("UV_FIND_LINKS") or ",".join(_pip_find_links(environ))
    return {**environ, "UV_FIND_LINKS": links} if links else environ


def _pip_find_links(environ: Mapping[str, str]) -> list[str]:
    if "PIP_FIND_LINKS" in environ:
        return environ["PIP_FIND_LINKS"].split()
    pip = shutil.which("pip")
    if pip is None:
        return []
    found = subprocess.run([pip, "config", "get", "global.find-links"], capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []
