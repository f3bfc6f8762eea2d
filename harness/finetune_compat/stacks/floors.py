"""Floors that a library states in its code and not in its metadata, so that no resolver sees them.

Transformers 5.24.0 asks for PEFT 0.22.0 in `MIN_PEFT_VERSION`: it installs beside PEFT 0.21.2, and `model.add_adapter`
raises.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

_NAMES = (re.compile(r"_?MIN(?:IMUM)?_(?P<of>[A-Z0-9_]+)_VERSION"), re.compile(r"_?(?P<of>[A-Z0-9_]+)_MIN_VERSION"))


@dataclass(frozen=True, slots=True)
class Floor:
    """The oldest version of `of` that the code of `package` accepts."""

    package: str
    of: str
    version: Version
    where: str
    """File and line in site-packages, for example `transformers/integrations/peft.py:47`."""


def floors(site_packages: Path, package: str) -> tuple[Floor, ...]:
    """The floors in the source of an installed package: constants such as `MIN_PEFT_VERSION = "0.22.0"`.

    Nothing is imported. A file that is no Python of this version is left out.
    """
    return tuple(
        floor
        for file in sorted((site_packages / package).rglob("*.py"))
        for floor in _in_file(file, package, file.relative_to(site_packages).as_posix())
    )


def unmet(found: Mapping[str, str], stated: tuple[Floor, ...]) -> tuple[Floor, ...]:
    """The floors above the version of `found`, versions by package. A package that is not there is optional."""
    return tuple(floor for floor in stated if floor.of in found and Version(found[floor.of]) < floor.version)


def _in_file(file: Path, package: str, where: str) -> Iterator[Floor]:
    text = file.read_text(encoding="utf-8", errors="replace")
    if "VERSION" not in text:
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(version))):
                of = next((found["of"] for pattern in _NAMES if (found := pattern.fullmatch(name))), None)
                if of is not None and _is_version(version):
                    yield Floor(package, canonicalize_name(of), Version(version), f"{where}:{node.lineno}")


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
