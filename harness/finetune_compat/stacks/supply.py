"""Where the packages of an environment come from, other than the registry: a folder of wheels, and the torch of another
Python on this machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from finetune_compat.contract.errors import CompatError, InstallError
from finetune_compat.stacks.uv_tool import bare_environ, install_environ

_VERSION_AND_PATH = "import json, sys; print(json.dumps([f'{sys.version_info[0]}.{sys.version_info[1]}', sys.path]))"


@dataclass(frozen=True, slots=True)
class BasePython:
    """A Python outside the environment, whose torch the environment uses."""

    executable: str
    version: str
    """Its minor version, for example `3.12`."""
    path: tuple[str, ...]
    """Its `sys.path`."""

    @property
    def where(self) -> str:
        """How error messages name it."""
        return f"--base-python {self.executable}"


@dataclass(frozen=True, slots=True)
class Supply:
    """Where packages come from. By default all of them, torch included, come from the registry."""

    offline: bool = False
    """Do not use a registry. Without a wheelhouse, only the packages in uv's cache are available."""
    wheelhouse: Path | None = None
    """A folder of wheels."""
    base: BasePython | None = None
    """Use the torch of this Python, whatever its version, instead of installing torch."""

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `uv pip install`."""
        if not self.offline:
            return ()
        return ("--offline", *(() if self.wheelhouse is None else ("--no-index",)))

    def environ(self) -> dict[str, str]:
        """The environment variables of uv."""
        environ = install_environ()
        if self.wheelhouse is None:
            return environ
        links = [str(self.wheelhouse), *filter(None, [environ.get("UV_FIND_LINKS")])]
        return {**environ, "UV_FIND_LINKS": ",".join(links)}

    def lacking(self, requirements: Mapping[str, str]) -> tuple[str, ...]:
        """Those of `requirements` that are not in the wheelhouse; empty unless offline with a wheelhouse.

        Args:
            requirements: version by canonical name.
        """
        if not self.offline or self.wheelhouse is None:
            return ()
        there = set(wheels_in(self.wheelhouse).values())
        return tuple(
            f"{name} {version}" for name, version in requirements.items() if (name, Version(version)) not in there
        )


REGISTRY = Supply()
"""The default: everything comes from the registry."""


def wheels_in(folder: Path) -> dict[Path, tuple[str, Version]]:
    """The wheels in `folder`, each with its canonical name and version."""
    found = {}
    for path in sorted(folder.glob("*.whl")):
        try:
            found[path] = parse_wheel_filename(path.name)[:2]
        except InvalidWheelFilename:
            # The name is not that of a wheel, so no installer uses the file.
            continue
    return {path: (str(name), version) for path, (name, version) in found.items()}


def supply_of(
    *,
    where: str,
    offline: bool = False,
    wheelhouse: Path | None = None,
    base_python: str | None = None,
    base_torch: bool = False,
) -> Supply:
    """The supply that command line options of the same names ask for.

    Args:
        where: the command or file that has the options, for messages.
        offline: use no registry.
        wheelhouse: a folder of wheels, or an unpacked bundle.
        base_python: use the torch of this Python.
        base_torch: use the torch of the Python that runs this command.

    Raises:
        CompatError: the folder has no wheels, or both `base_python` and `base_torch` are given.
        InstallError: the Python does not run.
    """
    if base_torch and base_python is not None:
        raise CompatError(
            "--base-torch and --base-python exclude each other",
            where=where,
            meaning="--base-torch uses the torch of this Python, --base-python that of the named one.",
            todo="Leave one of them out.",
        )
    lender = sys.executable if base_torch else base_python
    return Supply(
        offline,
        None if wheelhouse is None else wheels_folder(wheelhouse),
        None if lender is None else ask_base_python(lender),
    )


def wheels_folder(folder: Path) -> Path:
    """The absolute path of `folder/wheels` if `folder` is an unpacked bundle, else of `folder`.

    Raises:
        CompatError: the folder has no wheels.
    """
    for place in (folder / "wheels", folder):
        if wheels_in(place):
            return place.resolve()
    raise CompatError(
        "there is no wheel in it" if folder.is_dir() else "there is no such folder",
        where=f"--wheelhouse {folder}",
        meaning="--wheelhouse takes an unpacked bundle, or any folder of wheels.",
        todo="Unpack every part of the bundle, and name the folder that they unpack to.",
    )


def ask_base_python(name: str) -> BasePython:
    """The Python at `name`, a command or a path, with its version and `sys.path`.

    Raises:
        InstallError: there is no such program, or it is not a working Python.
    """
    found = shutil.which(name)
    if found is None:
        raise _unusable(name, "there is no such program")
    command = [found, "-c", _VERSION_AND_PATH]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=bare_environ())
    try:
        version, path = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines()
        raise _unusable(name, f"it is not a working Python: {lines[-1] if lines else 'stderr is empty'}") from None
    # Absolute, because sessions have another working directory. Not resolved: in a virtual environment, the link itself
    # selects the environment.
    return BasePython(str(Path(found).absolute()), version, tuple(entry for entry in path if entry))


def _unusable(name: str, problem: str) -> InstallError:
    return InstallError(
        problem,
        where=f"--base-python {name}",
        meaning="--base-python uses the torch of that Python, which must be on this machine.",
        todo="Name a Python in which `import torch` works (example: /usr/bin/python3).",
    )
