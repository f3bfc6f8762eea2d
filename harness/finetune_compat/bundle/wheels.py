"""Hashed wheels for another machine: those already present are reused, and pip downloads the rest from the registry.
pip uses its configured mirrors, proxies and certificates.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from finetune_compat.contract.errors import InstallError, LockError, RegistryUnreachable
from finetune_compat.stacks.hashed_pins import Pin
from finetune_compat.stacks.uv_tool import bare_environ

_MANYLINUX = re.compile(r"(?P<arch>[a-z0-9_]+)-manylinux_2_(?P<glibc>[0-9]+)")
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""Names of the oldest glibc versions in file names (PEP 600)."""
_OLDEST_GLIBC = 5
_UNREACHABLE = "Retrying (Retry("
"""Text in pip's output when a registry does not answer."""


@dataclass(frozen=True)
class Target:
    """The machine that the wheels are for."""

    python: str
    platform: str
    """uv's name of the platform, such as `x86_64-manylinux_2_28`."""

    @cached_property
    def platforms(self) -> tuple[str, ...]:
        """The compatible platform tags, best first.

        Raises:
            LockError: the platform is not Linux with glibc.
        """
        match = _MANYLINUX.fullmatch(self.platform)
        if match is None:
            raise LockError(
                f"no wheels can be selected for the platform {self.platform!r}",
                where="matrices/stacks.toml: resolve.platform",
                meaning="Bundles are for Linux with glibc, for example x86_64-manylinux_2_28.",
                todo="Set such a platform, and make the locks again.",
            )
        names: list[str] = []
        for glibc in range(int(match["glibc"]), _OLDEST_GLIBC - 1, -1):
            names += [f"manylinux_2_{glibc}", *filter(None, [_LEGACY.get(glibc)])]
        return tuple(f"{name}_{match['arch']}" for name in names)

    @cached_property
    def tags(self) -> frozenset[Tag]:
        """All wheel tags that this machine can install."""
        version = tuple(map(int, self.python.split(".")))
        interpreter = "cp" + "".join(map(str, version))
        return frozenset(
            (
                *cpython_tags(version, platforms=self.platforms),
                *compatible_tags(version, interpreter=interpreter, platforms=self.platforms),
            )
        )


def gather(pins: Sequence[Pin], target: Target, folder: Path, where: str, progress: Callable[[str], None]) -> set[Path]:
    """Put a wheel for every pin into `folder`: wheels in it are reused, and the rest are downloaded.

    Args:
        pins: the pins, each package once.
        target: the machine that the wheels are for.
        folder: the folder of wheels.
        where: the place that errors name.
        progress: called with a line of progress for each downloaded package.

    Returns:
        One wheel for each pin.

    Raises:
        RegistryUnreachable: the registry does not answer. Downloaded wheels stay in `folder`.
        InstallError: a file has another hash, or a package has no wheel for the target.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = _fitting(pins, target, folder)
    todo = [pin for pin in pins if pin not in there]
    if todo:
        _fetch(todo, target, folder, where, progress)
        there |= _fitting(todo, target, folder)
    lacking = [str(pin) for pin in pins if pin not in there]
    if lacking:
        raise _no_wheel(", ".join(lacking), where, target)
    return set(there.values())


def _fitting(pins: Iterable[Pin], target: Target, folder: Path) -> dict[Pin, Path]:
    """The wheels of `folder` that match one of `pins` by name, version, tags and hash."""
    wanted = {(pin.name, Version(pin.version)): pin for pin in pins}
    found: dict[Pin, Path] = {}
    for path in sorted(folder.glob("*.whl")):
        try:
            name, version, _, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        pin = wanted.get((str(name), version))
        if pin is not None and tags & target.tags and sha256_of(path) in pin.hashes:
            found[pin] = path
    return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(pins: Sequence[Pin], target: Target, folder: Path, where: str, progress: Callable[[str], None]) -> None:
    # Downloaded into a scratch folder, and moved after pip checked the hashes: `folder` contains only complete files.
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        asked = Path(scratch, "asked.txt")
        asked.write_text("".join(f"{pin}{_hashes(pin)}\n" for pin in pins), encoding="utf-8")
        errors = _pip(_arguments(asked, target, Path(scratch)), len(pins), progress)
        if errors:
            raise _error(errors, where, target)
        for path in Path(scratch).glob("*.whl"):
            path.replace(folder / path.name)


def _hashes(pin: Pin) -> str:
    return "".join(f" --hash=sha256:{digest}" for digest in sorted(pin.hashes))


def _arguments(asked: Path, target: Target, folder: Path) -> list[str]:
    return [
        *("download", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off"),
        *("--disable-pip-version-check", "--python-version", target.python, "--implementation", "cp"),
        *(item for platform in target.platforms for item in ("--platform", platform)),
        *("--dest", str(folder), "--requirement", str(asked)),
    ]


def _pip(arguments: Sequence[str], many: int, progress: Callable[[str], None]) -> str:
    """Run pip and report each package when it starts. Return the error output; empty if pip succeeded."""
    environ = {"PIP_INDEX_URL": os.environ["UV_DEFAULT_INDEX"]} if "UV_DEFAULT_INDEX" in os.environ else {}
    begun = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        command = [sys.executable, "-m", "pip", *arguments]
        environ = {**environ, **bare_environ()}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environ) as process:
            for line in process.stdout or ():
                if line.startswith(("Collecting ", "Processing ")):
                    begun += 1
                    progress(f"[{begun:>{len(str(many))}}/{many}] {_package(line)}")
        errors.seek(0)
        return (errors.read().strip() or "pip gave no reason") if process.returncode else ""


def _package(line: str) -> str:
    """The package or file in a line of pip: `Collecting trl==0.22.2 (from ...)`, or `Processing` and a file."""
    return line.split()[1].rpartition("/")[2]


def _error(complaint: str, where: str, target: Target) -> InstallError:
    errors = [line.strip() for line in complaint.splitlines() if line.startswith("ERROR: ")]
    said = errors[0].removeprefix("ERROR: ") if errors else complaint.splitlines()[-1]
    if _UNREACHABLE in complaint:
        return unreachable(said, where)
    if "DO NOT MATCH THE HASHES" in complaint:
        (name, *_) = re.findall(r"^ {4}(\S+==\S+)", complaint, re.MULTILINE) or ["a package"]
        return InstallError(
            f"the registry's file of {name} has another hash than the lock",
            where=where,
            meaning="A mirror serves another build, or the file was replaced after the lock was made.",
            todo="Do not use this file. Compare it with the original registry's. If it is right, make the lock again.",
        )
    if "No matching distribution found for " in complaint:
        return _no_wheel(complaint.rpartition("No matching distribution found for ")[2].split()[0], where, target)
    return InstallError(
        f"pip could not download the wheels: {said}",
        where=where,
        meaning="pip's configuration names something that it cannot reach or read, or the disk is full.",
        todo="Correct this (`pip config list`) and run the command again. Downloaded wheels are reused.",
    )


def unreachable(said: str, where: str) -> RegistryUnreachable:
    """The error for a registry that did not answer."""
    return RegistryUnreachable(
        f"the package registry is out of reach: {said}",
        where=where,
        meaning="`compat bundle` needs a registry. This machine has no network, or needs a proxy or a mirror.",
        todo="Check the connection and run the command again. Downloaded wheels are reused.",
    )


def _no_wheel(names: str, where: str, target: Target) -> InstallError:
    return InstallError(
        f"the registry has no wheel of {names} for Python {target.python} on {target.platform}",
        where=where,
        meaning="It was removed, or a mirror lacks it. Nothing is built from source, because the target differs.",
        todo="Use the registry of the lock, or make the lock again.",
    )
