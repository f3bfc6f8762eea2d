"""The one way this project calls uv, and the one place that reads its complaints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from finetune_compat.contract.errors import InstallError
from finetune_compat.contract.redaction import redact

_UNREACHABLE = (
    "error sending request",
    "Request failed after",
    "Failed to fetch",
    "client error (Connect)",
    "the network was disabled",
    "network connectivity is disabled",
)
"""What uv says when a registry, and not a package, is the problem."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call of uv said."""

    code: int
    output: str
    complaint: str
    """Without secrets: it may quote the address of an index."""

    @property
    def ok(self) -> bool:
        """Whether uv did what it was asked."""
        return self.code == 0

    @property
    def unreachable(self) -> bool:
        """Whether a registry was out of reach, so that nothing is known about the packages."""
        return not self.ok and any(sign in self.complaint for sign in _UNREACHABLE)

    @property
    def unsolvable(self) -> bool:
        """Whether uv looked at everything there is and found no versions that go together."""
        return not self.ok and not self.unreachable and "No solution found when resolving" in self.complaint

    @property
    def cause(self) -> str:
        """The complaint on one line."""
        return one_line(self.complaint)


def one_line(complaint: str) -> str:
    """The error in uv's complaint on one line, without the progress before it and the hints after it."""
    error = complaint[max(complaint.find("error: "), 0) :].partition("\nhint:")[0]
    return " ".join(error.split()).removeprefix("error: ") or "uv gave no reason"


def run_uv(arguments: Sequence[str], *, environ: Mapping[str, str], stdin: str = "") -> Answer:
    """Run uv and return its answer, whatever it is.

    Raises:
        InstallError: there is no uv to run.
    """
    command = [_uv(), "--color", "never", "--no-progress", *arguments]
    done = subprocess.run(command, env=dict(environ), input=stdin, capture_output=True, text=True, check=False)
    return Answer(done.returncode, done.stdout, redact(done.stderr.strip()))


@cache
def _uv() -> str:
    # The uv this project depends on, before any other: the locks' text is the work of that version.
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
            todo="Install this project with its dependencies (`pip install -e '.[host]'`), uv is one of them.",
        )
    return found


def bare_environ() -> dict[str, str]:
    """This process's environment without what must not reach a stack's environment.

    A virtual environment that happens to be active is nobody's target, and with PYTHONDONTWRITEBYTECODE every import of
    TRL costs 10 s instead of 4 s.
    """
    dropped = {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
    return {name: value for name, value in os.environ.items() if name not in dropped}


def lock_environ() -> dict[str, str]:
    """`bare_environ` without what would make a lock depend on the machine it is made on."""
    dropped = {"UV_FIND_LINKS", "UV_EXCLUDE_NEWER", "UV_PRERELEASE", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_TORCH_BACKEND"}
    return {name: value for name, value in bare_environ().items() if name not in dropped}


def install_environ() -> dict[str, str]:
    """`bare_environ` with pip's `find-links` handed on, which uv does not read: it may offer a CPU build of torch."""
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
