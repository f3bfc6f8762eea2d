"""`compat doctor`: what of this machine the commands need, whether it is here, and how to get what is missing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.version import __version__
from finetune_compat.machine.gpus import GB, GpuFailed, read_gpus
from finetune_compat.machine.places import OUT, STORE, Places, places
from finetune_compat.stacks.matrix import Matrix, read_matrix
from finetune_compat.stacks.supply import REGISTRY
from finetune_compat.stacks.uv_tool import install_environ, run_uv
from finetune_compat.store.predicted import predict

SPACE = 10 * GB
"""Free disk space below which environments may not fit: one with a CPU build of torch takes about 1 GB, with CUDA 5."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing the commands use."""

    name: str
    found: str
    """What is here, in words."""
    missing: bool = False
    """Whether some command cannot work as it is."""
    todo: str = ""
    """How to get it, or what it is for."""


def doctor(*, as_json: bool) -> ExitCode:
    """Print every finding. COULD_NOT_TELL if something is missing that runs need, else HEALTHY."""
    found = tuple(findings())
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        width = max(len(finding.name) for finding in found)
        for finding in found:
            print(f"{'MISSING' if finding.missing else 'ok':<8}{finding.name:<{width}}  {finding.found}")
            if finding.todo:
                print(f"{'':<{width + 10}}{finding.todo}")
    return ExitCode.COULD_NOT_TELL if any(finding.missing for finding in found) else ExitCode.HEALTHY


def findings() -> Iterator[Item]:
    """What is looked at, in the order of the page."""
    here = places()
    yield Item("finetune-compat", f"{__version__}, {'installed' if here.checkout is None else here.checkout}")
    yield Item("host Python", f"{platform.python_version()}, {sys.executable}")
    uv = _uv()
    yield uv
    try:
        matrix = read_matrix()
    except CompatError as error:
        yield Item("matrix", f"{error}", missing=True)
    else:
        yield Item("matrix", f"{len(matrix.stacks)} stacks, {here.stacks}")
        for number, python in enumerate(matrix.pythons):
            yield _python(python, needed=number == 0)
        if not uv.missing:
            yield _torch(matrix)
    yield _gpus()
    yield from _directories(here)


def _uv() -> Item:
    try:
        answer = run_uv(["--version"], environ=install_environ())
    except CompatError as error:
        return Item("uv", error.what, missing=True, todo=error.todo)
    return Item("uv", answer.output.strip() or answer.cause, missing=not answer.ok)


def _python(version: str, *, needed: bool) -> Item:
    """A Python of the matrix, as nox looks for it."""
    found = shutil.which(f"python{version}")
    # pyenv leaves a command of that name for a version that is not installed.
    if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode:
        found = None
    use = "runs use it unless another is named" if needed else f"only needed with --python {version}"
    todo = "" if found else f"Install it: uv python install {version} ({use})."
    return Item(f"Python {version}", found or "not on the PATH", missing=needed and not found, todo=todo)


def _torch(matrix: Matrix) -> Item:
    """Which build of torch an environment would get, asked of the index that uv is configured for."""
    name, python = f"torch {matrix.torch}", matrix.pythons[0]
    build = predict(python, matrix.torch, REGISTRY)
    if build is None:
        return Item(
            name,
            "the package index offers none, or does not answer",
            missing=True,
            todo="Check the connection and uv's index; or take the torch of another Python: --base-python PY.",
        )
    version = build.versions["torch"]
    cuda = any(package.startswith("nvidia-") for package in build.versions)
    kind = "a CUDA build, about 5 GB in each environment" if cuda else "a CPU build"
    return Item(
        name,
        f"the index offers {version}, {kind}",
        todo="For a CPU build: PIP_FIND_LINKS=https://download.pytorch.org/whl/cpu/torch/" if cuda else "",
    )


def _gpus() -> Item:
    try:
        found = read_gpus()
    except GpuFailed as error:
        return Item("GPUs", error.what, missing=True, todo=error.todo)
    listed = ", ".join(f"{gpu} {gpu.name} {gpu.total / GB:.0f} GB" for gpu in found)
    return Item("GPUs", listed or "none: cells run on the CPU")


def _directories(here: Places) -> Iterator[Item]:
    used = {"environments": here.environments, "nox": here.nox, "store": here.store, "runs": here.runs}
    for name, path in used.items():
        variable = {"store": f" ({STORE})", "runs": f" ({OUT})"}.get(name, "")
        writable = os.access(_existing(path), os.W_OK)
        size = f"{_size(path) / 1e6:,.0f} MB" if path.exists() else "not there yet"
        problem = "" if writable else f"Let it be writable{', or name another directory' if variable else ''}."
        yield Item(name, f"{size}, {path}{variable}", missing=not writable, todo=problem)
    free = shutil.disk_usage(_existing(here.environments)).free
    small = "Environments may not fit." if free < SPACE else ""
    yield Item("disk space", f"{free / 1e9:,.0f} GB free", missing=bool(small), todo=small)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _size(folder: Path) -> int:
    """Bytes on disk, a file with several names once. uv's cache may share them."""
    sizes: dict[int, int] = {}
    for directory, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(f"{directory}/{name}")
            sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())
