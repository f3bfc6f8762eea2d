"""Read releases and their upload days from the package index (simple API in JSON, with PEP 700)."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from finetune_compat.contract.errors import CompatError, RegistryUnreachable

INDEX = "https://pypi.org/simple"
_JSON = "application/vnd.pypi.simple.v1+json"
_TIMEOUT_S = 60
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a package that has a wheel and is not yanked."""

    version: Version
    day: date
    """Day of the upload of its first wheel, UTC."""


def releases(package: str) -> tuple[Release, ...]:
    """All releases of `package` with pre-releases, the oldest version first.

    Raises:
        CompatError: the index has no such package, or gives no upload times.
        RegistryUnreachable: the index does not answer.
    """
    return _releases(package, index_url())


def release_day(package: str, version: Version) -> date:
    """The day `version` of `package` was uploaded.

    Raises:
        CompatError: there is no such release (the message names the nearest ones), or as for `releases`.
        RegistryUnreachable: as for `releases`.
    """
    there = releases(package)
    for release in there:
        if release.version == version:
            return release.day
    older = [str(release.version) for release in there if release.version < version][-2:]
    newer = [str(release.version) for release in there if release.version > version][:2]
    raise CompatError(
        f"{package} has no release {version} with a wheel",
        where=index_url(),
        meaning=f"Its nearest releases are {', '.join((*older, *newer)) or 'none'}.",
        todo="Name an existing release.",
    )


def newest_without_wheel(package: str, allowed: SpecifierSet) -> Version | None:
    """The newest release that `allowed` accepts, if it has only a source distribution; None if it has a wheel.

    Raises:
        RegistryUnreachable: the index does not answer.
    """
    try:
        files = _files(package, index_url())
    except RegistryUnreachable:
        raise
    except CompatError:
        return None  # no such package; the resolver says so
    found: dict[Version, bool] = {}
    for file in files:
        name = str(file.get("filename"))
        version = _version_of(name) or _version_of_source(name)
        if version is not None and not file.get("yanked"):
            found[version] = found.get(version, False) or name.endswith(".whl")
    newest = max(allowed.filter(found), default=None)
    return None if newest is None or found[newest] else newest


def _version_of_source(filename: str) -> Version | None:
    try:
        return parse_sdist_filename(filename)[1]
    except InvalidSdistFilename:
        return None


def index_url() -> str:
    """URL of the index that uv resolves from: from the variables of uv or pip, else PyPI."""
    names = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
    return next((os.environ[name].rstrip("/") for name in names if os.environ.get(name)), INDEX)


@cache
def _releases(package: str, index: str) -> tuple[Release, ...]:
    days: dict[Version, date] = {}
    for file in _files(package, index):
        version = _version_of(str(file.get("filename")))
        if version is None or file.get("yanked"):
            continue
        if "upload-time" not in file:
            raise CompatError(
                "the index gives no upload times of releases",
                where=f"{index}/{package}/",
                meaning="Some mirrors have no upload-time (PEP 700). The gate needs it for the day of a release.",
                todo="Set UV_DEFAULT_INDEX to an index that has it, or name stacks of the matrix or lock files.",
            )
        day = datetime.fromisoformat(file["upload-time"]).date()
        days[version] = min(day, days.get(version, day))
    return tuple(Release(version, days[version]) for version in sorted(days))


def _version_of(filename: str) -> Version | None:
    """The version in the name of a wheel; None for other files, which are never installed."""
    try:
        return parse_wheel_filename(filename)[1]
    except InvalidWheelFilename:
        return None


def _files(package: str, index: str) -> list[Mapping[str, Any]]:
    request = urllib.request.Request(f"{index}/{package}/", headers={"Accept": _JSON})  # noqa: S310 - an index's address
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - likewise
            files: list[Mapping[str, Any]] = json.load(answer)["files"]
    except urllib.error.HTTPError as error:
        if error.code != _NOT_FOUND:
            raise _unreachable(index, f"HTTP status {error.code}") from None
        raise CompatError(
            f"there is no package {package!r}",
            where=index,
            meaning="The name is misspelt, or the package is on another index.",
            todo="Correct the name, or set UV_DEFAULT_INDEX.",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreachable(index, str(getattr(error, "reason", "")) or f"no JSON of the simple API: {error}") from None
    return files


def _unreachable(index: str, why: str) -> RegistryUnreachable:
    return RegistryUnreachable(
        f"the package index does not answer: {why}",
        where=index,
        meaning="For a bare pin, the other packages are as of its release day, which only the index has.",
        todo="Check the connection, or name stacks of the matrix: their days and locks are committed.",
    )
