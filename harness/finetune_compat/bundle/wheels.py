"""Wheels for another machine, by hash: which ones a requirements file asks for, which are there, and the rest from the
registry. pip fetches them, with the mirrors, proxies and certificates it is configured with.
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
from finetune_compat.stacks.requirement_files import Pin
from finetune_compat.stacks.uv_tool import bare_environ

_MANYLINUX = re.compile(r"(?P<arch>[a-z0-9_]+)-manylinux_2_(?P<glibc>[0-9]+)")
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""What the oldest glibcs are called in file names (PEP 600)."""
_OLDEST_GLIBC = 5
_UNREACHABLE = "Retrying (Retry("
"""What pip says when a registry does not answer."""


@dataclass(frozen=True)
class Target:
    """The machine a wheel must fit."""

    python: str
    platform: str
    """As uv names it, such as `x86_64-manylinux_2_28`."""

    @cached_property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags that fit, best first.

        Raises:
            LockError: the platform is not a Linux with a glibc.
        """
        match = _MANYLINUX.fullmatch(self.platform)
        if match is None:
            raise LockError(
                f"wheels for the platform {self.platform!r} cannot be chosen",
                where="matrices/stacks.toml: resolve.platform",
                meaning="Bundles are for Linux with a glibc, such as x86_64-manylinux_2_28.",
                todo="Make locks for such a platform.",
            )
        names: list[str] = []
        for glibc in range(int(match["glibc"]), _OLDEST_GLIBC - 1, -1):
            names += [f"manylinux_2_{glibc}", *filter(None, [_LEGACY.get(glibc)])]
        return tuple(f"{name}_{match['arch']}" for name in names)

    @cached_property
    def tags(self) -> frozenset[Tag]:
        """Every tag of a wheel that can be installed there."""
        version = tuple(map(int, self.python.split(".")))
        interpreter = "cp" + "".join(map(str, version))
        return frozenset(
            (
                *cpython_tags(version, platforms=self.platforms),
                *compatible_tags(version, interpreter=interpreter, platforms=self.platforms),
            )
        )


def gather(pins: Sequence[Pin], target: Target, folder: Path, where: str, tell: Callable[[str], None]) -> set[Path]:
    """Have a wheel of every pin in `folder`: what is there is kept, the rest comes from the registry.

    Args:
        pins: what is wanted, no package twice.
        target: the machine they are for.
        folder: where wheels are, and come to.
        where: what errors name.
        tell: takes a line of progress for each package that is fetched.

    Returns:
        One wheel a pin.

    Raises:
        RegistryUnreachable: nothing could be asked. What was fetched stays in `folder`.
        InstallError: a file has another hash, or a package has no wheel for the target.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = _fitting(pins, target, folder)
    todo = [pin for pin in pins if pin not in there]
    if todo:
        _fetch(todo, target, folder, where, tell)
        there |= _fitting(todo, target, folder)
    lacking = [str(pin) for pin in pins if pin not in there]
    if lacking:
        raise _no_wheel(", ".join(lacking), where, target)
    return set(there.values())


def _fitting(pins: Iterable[Pin], target: Target, folder: Path) -> dict[Pin, Path]:
    """The wheels of `folder` that stand for one of `pins`, by name, version, tags and hash."""
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


def _fetch(pins: Sequence[Pin], target: Target, folder: Path, where: str, tell: Callable[[str], None]) -> None:
    # Fetched beside and moved in when pip has compared the hashes: a name in `folder` is a whole file.
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        asked = Path(scratch, "asked.txt")
        asked.write_text("".join(f"{pin}{_hashes(pin)}\n" for pin in pins), encoding="utf-8")
        complaint = _pip(_arguments(asked, target, Path(scratch)), len(pins), tell)
        if complaint:
            raise _error(complaint, where, target)
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


def _pip(arguments: Sequence[str], many: int, tell: Callable[[str], None]) -> str:
    """Run pip, telling of each package as it begins; its complaint, empty if it has none."""
    environ = {"PIP_INDEX_URL": os.environ["UV_DEFAULT_INDEX"]} if "UV_DEFAULT_INDEX" in os.environ else {}
    begun = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        command = [sys.executable, "-m", "pip", *arguments]
        environ = {**environ, **bare_environ()}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environ) as process:
            for line in process.stdout or ():
                if line.startswith(("Collecting ", "Processing ")):
                    begun += 1
                    tell(f"[{begun:>{len(str(many))}}/{many}] {_package(line)}")
        errors.seek(0)
        return (errors.read().strip() or "pip gave no reason") if process.returncode else ""


def _package(line: str) -> str:
    """What pip's line is about: `Collecting trl==0.22.2 (from ...)`, or `Processing` and a file."""
    return line.split()[1].rpartition("/")[2]


def _error(complaint: str, where: str, target: Target) -> InstallError:
    errors = [line.strip() for line in complaint.splitlines() if line.startswith("ERROR: ")]
    said = errors[0].removeprefix("ERROR: ") if errors else complaint.splitlines()[-1]
    if _UNREACHABLE in complaint:
        return unreachable(said, where)
    if "DO NOT MATCH THE HASHES" in complaint:
        (name, *_) = re.findall(r"^ {4}(\S+==\S+)", complaint, re.MULTILINE) or ["a package"]
        return InstallError(
            f"the registry's file of {name} is not the one that was locked",
            where=where,
            meaning="A mirror serves another build, or the file was replaced after the lock was made.",
            todo="Do not pack it. Compare the file with the registry's, then make the lock again if that is right.",
        )
    if "No matching distribution found for " in complaint:
        return _no_wheel(complaint.rpartition("No matching distribution found for ")[2].split()[0], where, target)
    return InstallError(
        f"pip could not fetch its wheels: {said}",
        where=where,
        meaning="pip is configured for something it cannot reach or read, or the disk is full.",
        todo="Correct that (`pip config list`) and run the command again; what was fetched is kept.",
    )


def unreachable(said: str, where: str) -> RegistryUnreachable:
    """The error for a registry that did not answer."""
    return RegistryUnreachable(
        f"the package registry is out of reach: {said}",
        where=where,
        meaning="A bundle is made where the registry is: this machine has no network, or needs a proxy or a mirror.",
        todo="Check the connection and run the command again; what was fetched is kept.",
    )


def _no_wheel(names: str, where: str, target: Target) -> InstallError:
    return InstallError(
        f"the registry has no wheel of {names} for Python {target.python} on {target.platform}",
        where=where,
        meaning="It was removed, or a mirror does not have it. Nothing is built from source for another machine.",
        todo="Ask the registry that the lock was made from, or make the lock again.",
    )
