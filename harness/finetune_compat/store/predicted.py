"""What a missing environment would hold: stored cells are found in 2.4 s of wall time, with the environment in 7.7 s.

One stack, packages in uv's cache, 0.6 s and 2.4 s of a core; measured on 2026-11-29. Without that cache an environment
is a download of gigabytes. Host side.

Two things of an address are the machine's: the interpreter, which is the one that nox would take, and torch with what
hangs below it, which is what uv would resolve with the same settings that it installs with. Where either cannot be
told, or turns out to be another, the address is another too, and the session looks again in the environment it made.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from finetune_compat.contract.errors import InstallError
from finetune_compat.stacks.locks import Lock
from finetune_compat.stacks.supply import Supply
from finetune_compat.stacks.uv_tool import run_uv
from finetune_compat.store.addresses import Installed, beside


@dataclass(frozen=True, slots=True)
class Foretold:
    """What environments on one Python would hold."""

    python: str
    """In full, such as `3.11.7`."""
    versions: Mapping[str, str]
    """Of torch and of what it needs, by canonical name."""

    def installed(self, lock: Lock) -> Installed:
        """What the environment made from `lock` would hold. What is locked is of the version that is locked."""
        return Installed(self.python, self.versions["torch"], "triton" in self.versions, beside(self.versions, lock))


@functools.cache
def foretell(python: str, torch: str, supply: Supply) -> Foretold | None:
    """What environments on `python` would hold with this torch, asked once; None where it cannot be told: the Python is
    not here, the registry does not answer, or torch is to be that of another Python.
    """
    interpreter = shutil.which(f"python{python}")
    if interpreter is None or supply.base is not None:
        return None
    version = subprocess.run(
        [interpreter, "-c", "import platform; print(platform.python_version())"],
        capture_output=True,
        text=True,
        check=False,
    )
    arguments = ["pip", "compile", "-", "--quiet", "--no-header", "--no-annotate", "--python", interpreter]
    try:
        answer = run_uv([*arguments, *supply.options], environ=supply.environ(), stdin=f"torch=={torch}")
    except InstallError:
        return None
    pairs = (line.partition(";")[0].strip().partition("==") for line in answer.output.splitlines())
    versions = {str(canonicalize_name(name)): found for name, _, found in pairs if found}
    if version.returncode or not answer.ok or "torch" not in versions:
        return None
    return Foretold(version.stdout.strip(), versions)
