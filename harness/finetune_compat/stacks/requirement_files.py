"""Read files that name versions: requirements files, hashed or not, uv.lock (version 1) and pylock.toml (PEP 751).

Every command that takes such a file reads it here.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, default_environment
from packaging.pylock import Pylock, PylockValidationError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from finetune_compat.contract.errors import why
from finetune_compat.machine.foreign import parsed_toml, read_whole

SUFFIXES = (".txt", ".lock", ".toml", ".in")
"""Suffixes of the files that are read here."""

NEWEST_PATCH = 99
"""A patch number above those of all Python releases."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""UTF-32-LE precedes UTF-16-LE, because its byte order mark begins with that of UTF-16-LE."""

_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;\\]+)( ;[^\\]*[^\\\s])?((?: \\)?)")
_HASH = "    --hash=sha256:"
_HASH_LENGTHS = (len(_HASH) + 64, len(_HASH) + 64 + len(" \\"))


class Malformed(Exception):
    """A file does not have the format that its name implies. The message states the fault."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions that a file or an interpreter asks for."""

    requirements: tuple[Requirement, ...]
    not_followed: tuple[str, ...]
    """Entries that cannot be resolved from an index, each with the reason."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A package of a hashed requirements file."""

    name: str
    """Canonical."""
    version: str
    hashes: frozenset[str]
    """SHA-256 of every permitted file."""

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True)
class RequirementFile:
    """A file that was read. Its versions depend on the Python version."""

    path: Path
    text: str
    table: Mapping[str, Any] | None
    """The content of a TOML file; None for a requirements file."""

    @property
    def requires_python(self) -> str:
        """The file's `requires-python`, for example `>=3.10`; empty if it has none."""
        return str((self.table or {}).get("requires-python", ""))

    def versions(self, python: str) -> Versions:
        """The versions that the file asks for on this Python version, on Linux x86-64.

        Raises:
            Malformed: the file, or a file that it includes, cannot be parsed.
        """
        if self.table is None:
            return _requirements(self.path, self.text, python, ())
        return _uv_lock(self.table, python) if self.path.suffix != ".toml" else _pylock(self.table, python)


def open_file(path: Path) -> RequirementFile:
    """The file at `path`. `uv.lock` and `*.toml` are read as TOML, any other file as a requirements file.

    Raises:
        Malformed: it cannot be read, or is not valid TOML.
    """
    try:
        text = text_of(path)
        is_toml = path.name == "uv.lock" or path.suffix == ".toml"
    except (OSError, ValueError) as error:  # a ValueError: a zero byte in the path, or a file that is no text
        raise Malformed(f"it cannot be read: {why(error)}") from None
    try:
        return RequirementFile(path, text, parsed_toml(text) if is_toml else None)
    except ValueError as error:
        raise Malformed(str(error).removeprefix("is ")) from None


def text_of(path: Path) -> str:
    """The text of a file, decoded by its byte order mark, else as UTF-8, as pip and uv do.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read.
    """
    content = read_whole(path)
    mark, encoding = next(((mark, name) for mark, name in _BOMS if content.startswith(mark)), (b"", "utf-8"))
    return content.removeprefix(mark).decode(encoding)


# ------------------------------------------------------------------------------------------- hashed requirements files


def pins_of(lines: Iterable[str], *, first_line: int = 1, markers: bool = False) -> tuple[Pin, ...]:
    """The packages of a hashed requirements file in the format that uv writes.

    Args:
        lines: the lines, without a header.
        first_line: the number of the first line, for messages.
        markers: whether a package may have an environment marker. The marker is not evaluated.

    Raises:
        Malformed: a line is neither a pin nor a hash, a package is repeated or has no hash, or there is no package.
    """
    size = len(_HASH)
    return tuple(
        Pin(name, version, frozenset(line[size : size + 64] for line in hashes))
        for name, version, hashes in _packages(lines, first_line, markers=markers)
    )


def locked_versions(lines: Iterable[str], *, first_line: int) -> dict[str, str]:
    """Version by canonical name: as `pins_of`, without hashes and markers, in half the time."""
    return {name: version for name, version, _ in _packages(lines, first_line, markers=False)}


def _packages(lines: Iterable[str], first_line: int, *, markers: bool) -> Iterator[tuple[str, str, list[str]]]:
    """Name, version and hash lines of each package."""
    names: set[str] = set()
    hashes: list[str] = []
    name, version, line = "", "", ""
    for number, line in enumerate(lines, first_line):
        # 90 % of the lines are hashes, 140,000 in all locks: a regular expression would be slow. uv checks the digits.
        if line.startswith(_HASH) and len(line) in _HASH_LENGTHS and name:
            hashes.append(line)
            continue
        match = _PIN.fullmatch(line)
        if match is None or (match[3] and not markers) or (name and not hashes):
            raise Malformed(f"line {number} is neither `name==version` nor one of its hashes: {line!r}")
        if name:
            yield name, version, hashes
        name, version, hashes = canonicalize_name(match[1]), match[2], []
        if name in names or not _is_version(version):
            raise Malformed(f"line {number} repeats a package or has no version: {line!r}")
        names.add(name)
    if not hashes or line.endswith("\\"):
        raise Malformed("the hashes of its last package are missing or incomplete")
    yield name, version, hashes


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


# -------------------------------------------------------------------------------------------------- requirements files


def _requirements(path: Path, text: str, python: str, above: tuple[Path, ...]) -> Versions:
    """The requirements for this Python version, of a requirements file and the files that it includes with -r or -c."""
    found: list[Requirement] = []
    notes: list[str] = []
    for number, line in _logical_lines(text):
        option, _, value = line.replace("=", " ", 1).partition(" ") if line.startswith("-") else ("", "", "")
        if option in ("-r", "--requirement", "-c", "--constraint"):
            if not value.strip() or "://" in value:
                raise Malformed(f"line {number} does not include a local file: {line!r}")
            inner = _included(path.parent / value.strip(), f"line {number}", python, (*above, path.resolve()))
            found += inner.requirements
            notes += inner.not_followed
        elif option in ("-e", "--editable") or (not option and _is_place(line)):
            notes.append(f"{line}: not from an index")
        elif option:
            notes.append(f"{line}: an option of pip")
        else:
            item = _requirement(line, number)
            if item.url:
                notes.append(f"{line}: not from an index")
            elif item.marker is None or _applies(item.marker, python):
                found.append(item)
    return Versions(tuple(found), tuple(notes))


def _is_place(line: str) -> bool:
    return line.startswith((".", "/", "git+")) or "://" in line.partition(" @ ")[0] or line.endswith(".whl")


def _included(path: Path, where: str, python: str, above: tuple[Path, ...]) -> Versions:
    if path.resolve() in above:
        raise Malformed(f"{where} includes {path}, which includes this file")
    if not path.is_file():
        raise Malformed(f"{where} includes {path}, which does not exist")
    try:
        text = text_of(path)
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{where} includes {path}, which cannot be read: {why(error)}") from None
    try:
        return _requirements(path, text, python, above)
    except Malformed as problem:
        raise Malformed(f"{where} includes {path}: {problem}") from None


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines, each with the number of its first line: joined at backslashes, without comments and hashes."""
    begun, joined = 0, ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        begun = begun or number
        bare = re.sub(r"(^|\s)#.*$", "", line).strip()
        joined += f" {bare.removesuffix(chr(92))}"
        if bare.endswith("\\"):
            continue
        logical = re.sub(r"\s--hash[=\s]\S+", "", joined).strip()
        if logical:
            yield begun, logical
        begun, joined = 0, ""


def _requirement(line: str, number: int) -> Requirement:
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise Malformed(f"line {number} is not a valid requirement: {_message(error)}: {line!r}") from None


def _message(error: Exception) -> str:
    """The message of a parser's error, without the lines that mark the position with `^`."""
    return re.sub(r"\n.*\^", "", str(error), flags=re.DOTALL)


# ---------------------------------------------------------------------------------------------------------- lock files


def _uv_lock(raw: Mapping[str, Any], python: str) -> Versions:
    if raw.get("version") != 1:
        raise Malformed(f"uv.lock has version {raw.get('version')!r}, but only version 1 is supported")
    if not isinstance(raw.get("package"), list):
        raise Malformed("it has no list of packages")
    found: list[Requirement] = []
    notes: list[str] = []
    for place, package in enumerate(raw["package"]):
        try:
            name, source = package["name"], package.get("source", {})
            # A package without markers applies to every platform and every Python version.
            markers = [Marker(marker) for marker in package.get("resolution-markers", ())]
            elsewhere = bool(markers) and not any(_applies(marker, python) for marker in markers)
            if {"editable", "virtual"} & source.keys() or elsewhere:
                continue
            if "registry" in source:
                found.append(Requirement(f"{name}=={package['version']}"))
            else:
                notes.append(f"{name}: not from an index")
        except KeyError as missing:
            raise Malformed(f"package[{place}] is not a valid locked package: it has no {missing}") from None
        except (InvalidRequirement, InvalidMarker) as error:
            raise Malformed(f"package[{place}] is not a valid locked package: {_message(error)}") from None
        except (TypeError, AttributeError):
            raise Malformed(f"package[{place}] is not a valid locked package: {package!r}") from None
    return Versions(tuple(found), tuple(notes))


def _pylock(raw: Mapping[str, Any], python: str) -> Versions:
    try:
        lock = Pylock.from_dict(raw)
    except PylockValidationError as error:
        raise Malformed(f"not a valid pylock.toml: {_message(error)}") from None
    found: list[Requirement] = []
    notes: list[str] = []
    for package in lock.packages:
        if package.marker and not _applies(package.marker, python, lock.default_groups or ()):
            continue
        if package.version is None or package.vcs or package.directory or package.archive:
            notes.append(f"{package.name}: not from an index")
        else:
            found.append(Requirement(f"{package.name}=={package.version}"))
    return Versions(tuple(found), tuple(notes))


def _applies(marker: Marker, python: str, groups: Iterable[str] = ()) -> bool:
    """Whether `marker` holds on Linux x86-64, the platform of all locks, on the newest patch of `python`.

    No extra is selected. `groups` are the dependency groups that a pylock.toml installs by default.
    """
    whole = f"{python}.{NEWEST_PATCH}"
    here: dict[str, str | frozenset[str]] = {name: str(value) for name, value in default_environment().items()}
    here |= {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux", "os_name": "posix"}
    here |= {"python_version": python, "python_full_version": whole, "implementation_version": whole}
    here |= {"extra": "", "extras": frozenset(), "dependency_groups": frozenset(groups)}
    try:
        return marker.evaluate(here, context="lock_file")
    except UndefinedComparison:
        raise Malformed(f"a marker has an invalid comparison: {marker}") from None
