"""Turn the requirements and pins of all formats into packages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from packaging.markers import InvalidMarker, Marker, UndefinedComparison
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from finetune_compat.contract.redaction import redact
from finetune_compat.stacks.project_files.text import LONGEST, broken, quoted
from finetune_compat.stacks.project_files.value import DEFAULT_INDEX, Kind, Origin, Package, Place, Source, holds

_ANY_PYTHON = "3.11"
_REPOSITORY = re.compile(
    r"github\.com[/:](huggingface/(?:trl|transformers|peft|accelerate|datasets)|[\w-]+/bitsandbytes)\b(?!-)"
)
"""Repositories whose package has their name. An address of any other repository states no name."""


def of_requirement(
    text: str, place: Place, kind: Kind, *, groups: Iterable[str] = (), constraint: bool = False
) -> Package:
    """The package of a PEP 508 requirement.

    Raises:
        ProjectFileError: it is not valid.
    """
    item = parsed(text, place, kind)
    return Package(
        name=canonicalize_name(item.name),
        specifier=str(item.specifier),
        place=place,
        version=exact(item.specifier),
        marker=checked_marker(str(item.marker), place, kind) if item.marker else "",
        extras=tuple(sorted(item.extras)),
        groups=tuple(groups),
        source=source_of_url(item.url) if item.url else DEFAULT_INDEX,
        constraint=constraint,
    )


def of_pin(name: Any, version: Any, place: Place, kind: Kind, **more: Any) -> Package:
    """The package of a lock or an environment: a name and an exact version. `more` are other fields of `Package`.

    Raises:
        ProjectFileError: it has no valid name or version.
    """
    if not isinstance(name, str) or not _is_name(name):
        raise broken(kind, place, f"{quoted(name)} is not the name of a package")
    if not isinstance(version, str) or not is_version(version):
        raise broken(kind, place, f"{quoted(version)} is not a version of {name}")
    return Package(canonicalize_name(name), f"=={version}", place, version=version, **more)


def parsed(text: str, place: Place, kind: Kind) -> Requirement:
    """A PEP 508 requirement.

    Raises:
        ProjectFileError: it is not valid.
    """
    if not isinstance(text, str):
        raise broken(kind, place, f"{quoted(text)} is not a requirement, because it is not text")
    if len(text) > LONGEST:
        raise broken(kind, place, f"a requirement has more than {LONGEST} characters")
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        problem = f"{quoted(redact(text))} is not a valid requirement: {first_line(error)}"
    except (ValueError, RecursionError):
        problem = f"{quoted(redact(text))} is not a valid requirement: it is nested too deeply, or a number is too long"
    raise broken(kind, place, problem)


def checked_marker(text: Any, place: Place, kind: Kind) -> str:
    """A PEP 508 marker that can be evaluated.

    Raises:
        ProjectFileError: it is not valid.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise broken(kind, place, f"the marker {quoted(text)} is not text, or is too long")
    try:
        marker = Marker(text)
        holds(marker, _ANY_PYTHON)
    except UndefinedComparison:
        raise broken(kind, place, f"the marker {quoted(text)} compares what has no order") from None
    except (InvalidMarker, ValueError, RecursionError) as error:
        raise broken(kind, place, f"the marker {quoted(text)} is not valid: {first_line(error)}") from None
    return str(marker)


def checked_specifier(text: Any, place: Place, kind: Kind) -> str:
    """A PEP 440 version specifier.

    Raises:
        ProjectFileError: it is not valid.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise broken(kind, place, f"{quoted(text)} is not a version specifier: it is not text, or is too long")
    try:
        return str(SpecifierSet(text))
    except ValueError as error:
        raise broken(kind, place, f"{quoted(text)} is not a version specifier: {first_line(error)}") from None


def exact(specifier: SpecifierSet) -> str | None:
    """The one version that a specifier accepts; None if it accepts several."""
    pins = {item.version for item in specifier if item.operator in ("==", "===") and "*" not in item.version}
    return next(iter(pins)) if len(pins) == 1 else None


def is_version(text: str) -> bool:
    """Whether `text` is a PEP 440 version."""
    try:
        if len(text) > LONGEST:
            return False
        Version(text)
    except (InvalidVersion, ValueError):
        return False
    return True


def _is_name(text: str) -> bool:
    return all(sign.isalnum() or sign in "-_." for sign in text) and text[:1].isalnum() and text.isascii()


def first_line(error: Exception) -> str:
    """The message of a parser's error, without the lines that mark the position with `^`."""
    return str(error).partition("\n")[0][:200]


# -------------------------------------------------------------------------------------------------------------- sources


def source_of_url(url: str) -> Source:
    """The source of a URL or a path."""
    if url.startswith("git+") or url.removesuffix("/").endswith(".git"):
        return Source(Origin.GIT, url)
    if url.startswith("file:") or "://" not in url:
        return Source(Origin.PATH, url)
    return Source(Origin.URL, url)


def source_of_table(table: Mapping[str, Any], *, index: Iterable[str] = ("registry", "index")) -> Source:
    """The source in a table as uv, Poetry, PDM and pipenv write it: `git`, `url`, `path`, `registry` and the like."""
    if isinstance(git := table.get("git"), str):
        revision = next((str(table[key]) for key in ("rev", "revision", "ref", "tag", "branch") if key in table), "")
        address, mark, query = git.partition("?")
        if not revision and mark:
            revision = query.rpartition("#")[2]
        return Source(Origin.GIT, f"git+{address.removeprefix('git+')}{f'@{revision}' if revision else ''}")
    for key in ("editable", "virtual", "path", "directory", "file"):
        if key in table:
            where = table[key] if isinstance(table[key], str) else table.get("path", ".")
            return Source(Origin.PATH, str(where))
    if isinstance(table.get("url"), str):
        return Source(Origin.URL, table["url"])
    if table.get("workspace"):
        return Source(Origin.PATH, ".")
    stated = next((table[key] for key in index if isinstance(table.get(key), str)), "")
    return Source(Origin.INDEX, stated)


def of_address(address: str) -> tuple[str, str | None]:
    """The canonical name and the version of the package at a URL or path; '' if the address does not state the name.

    It is stated by `#egg=`, by the name of a wheel, and by the repositories of the training stack.
    """
    path, _, fragment = address.partition("#")
    egg = next((part.removeprefix("egg=") for part in fragment.split("&") if part.startswith("egg=")), "")
    if egg:
        return canonicalize_name(egg.partition("[")[0].partition("==")[0]), None
    if repository := _REPOSITORY.search(path):
        return repository[1].partition("/")[2], None
    file = path.rpartition("/")[2].replace("%2B", "+").replace("%2b", "+")
    try:
        name, version, *_ = parse_wheel_filename(file)
    except (InvalidWheelFilename, ValueError):
        return "", None
    return str(name), str(version)
