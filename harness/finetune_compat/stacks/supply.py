"""Where the packages of an environment come from when it is not the registry: a folder of wheels, and a torch that is
already on the machine, in another Python.
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

_WHO = "import json, sys; print(json.dumps([f'{sys.version_info[0]}.{sys.version_info[1]}', sys.path]))"


@dataclass(frozen=True, slots=True)
class BasePython:
    """A Python outside the environment, whose torch is taken."""

    executable: str
    version: str
    """Its minor, such as `3.12`."""
    path: tuple[str, ...]
    """Where it imports from."""

    @property
    def where(self) -> str:
        """How errors name it."""
        return f"--base-python {self.executable}"


@dataclass(frozen=True, slots=True)
class Supply:
    """Where packages come from. By default the registry, torch included."""

    offline: bool = False
    """No registry is asked. Without a wheelhouse, what uv has in its cache is all there is."""
    wheelhouse: Path | None = None
    """A folder of wheels."""
    base: BasePython | None = None
    """Take the torch of this Python, whatever its version, instead of installing one."""

    @property
    def options(self) -> tuple[str, ...]:
        """What `uv pip install` is told."""
        if not self.offline:
            return ()
        return ("--offline", *(() if self.wheelhouse is None else ("--no-index",)))

    def environ(self) -> dict[str, str]:
        """The environment variables uv is run with."""
        environ = install_environ()
        if self.wheelhouse is None:
            return environ
        links = [str(self.wheelhouse), *filter(None, [environ.get("UV_FIND_LINKS")])]
        return {**environ, "UV_FIND_LINKS": ",".join(links)}

    def lacking(self, requirements: Mapping[str, str]) -> tuple[str, ...]:
        """The requirements, versions by canonical name, that can be had nowhere: offline, and not in the wheelhouse."""
        if not self.offline or self.wheelhouse is None:
            return ()
        there = set(wheels_in(self.wheelhouse).values())
        return tuple(
            f"{name} {version}" for name, version in requirements.items() if (name, Version(version)) not in there
        )


REGISTRY = Supply()
"""As a machine with a registry has it."""


def wheels_in(folder: Path) -> dict[Path, tuple[str, Version]]:
    """The wheels in `folder`, each with its canonical name and its version."""
    found = {}
    for path in sorted(folder.glob("*.whl")):
        try:
            found[path] = parse_wheel_filename(path.name)[:2]
        except InvalidWheelFilename:
            # Not a wheel, whatever it is called; no installer takes it for one.
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
    """What the options of these names ask for. Messages say `where` they were given.

    Raises:
        CompatError: the folder has no wheels, or two Pythons are to lend their torch.
        InstallError: the Python does not run.
    """
    if base_torch and base_python is not None:
        raise CompatError(
            "--base-torch does not go with --base-python",
            where=where,
            meaning="Each says whose torch to use: this Python's, or the named one's.",
            todo="Leave one of them out.",
        )
    lender = sys.executable if base_torch else base_python
    return Supply(
        offline,
        None if wheelhouse is None else wheels_folder(wheelhouse),
        None if lender is None else ask_base_python(lender),
    )


def wheels_folder(folder: Path) -> Path:
    """The folder of wheels that `folder` is, or, where it is an unpacked bundle, has.

    Raises:
        CompatError: there is no wheel in it.
    """
    for place in (folder / "wheels", folder):
        if wheels_in(place):
            return place.resolve()
    raise CompatError(
        "there is no wheel in it" if folder.is_dir() else "there is no such folder",
        where=f"--wheelhouse {folder}",
        meaning="It takes an unpacked bundle, or any folder of wheels.",
        todo="Unpack every part of the bundle, and name the folder that comes out of them.",
    )


def ask_base_python(name: str) -> BasePython:
    """The Python called or at `name`, asked where it imports from.

    Raises:
        InstallError: there is none, or it does not run.
    """
    found = shutil.which(name)
    if found is None:
        raise _unusable(name, "there is no such program")
    done = subprocess.run([found, "-c", _WHO], capture_output=True, text=True, check=False, env=bare_environ())
    try:
        version, path = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines()
        raise _unusable(name, f"it is not a Python that runs: {lines[-1] if lines else 'it said nothing'}") from None
    # Sessions have another working directory. A link stays one: it is what makes a virtual environment of a Python.
    return BasePython(str(Path(found).absolute()), version, tuple(entry for entry in path if entry))


def _unusable(name: str, problem: str) -> InstallError:
    return InstallError(
        problem,
        where=f"--base-python {name}",
        meaning="It takes the torch of that Python, which must be on this machine.",
        todo="Name a Python in which `import torch` works, such as /usr/bin/python3.",
    )
