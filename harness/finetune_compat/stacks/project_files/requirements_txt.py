"""Requirements files as pip and uv read them, and the output of `pip freeze`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.utils import canonicalize_name

from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files.entries import of_address, of_requirement, source_of_url
from finetune_compat.stacks.project_files.text import LONGEST, Text, broken, quoted, read_text, read_toml
from finetune_compat.stacks.project_files.value import Kind, Package, Place, Project, Unread, unread

_KIND = Kind.REQUIREMENTS
_OPTION = re.compile(r"(-[A-Za-z]|--[a-z][a-z-]*)(?:\s*=\s*|\s+|(?<=^-[A-Za-z]))(.*)|(-[A-Za-z]|--[a-z][a-z-]*)")
PYPI = "https://pypi.org/simple"
_INCLUDES = {"-r": False, "--requirement": False, "-c": True, "--constraint": True}
"""Options that include a file, and whether its packages are only constraints."""
_OF_A_REQUIREMENT = re.compile(r"\s--(?:hash|config-settings?|global-option|install-option)[=\s]\s*\S+")
_INDEXES = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links")
_COMMENT = re.compile(r"(^|\s)#.*$")
_OTHER_FORMATS = (
    (
        re.compile(r"@EXPLICIT|https?://\S+\.(?:conda|tar\.bz2)(?:#\w+)?"),
        "this is a list of conda packages",
        "`conda list --explicit` writes such files; they hold no packages of pip.",
        "Name the output of `pip freeze` in that environment, or its environment.yml.",
    ),
    (
        re.compile(r"[\w.-]+=[\w.+!]+=[\w.]+"),
        "this is a list of conda packages",
        "`conda list --export` writes such lines; pip does not read them.",
        "Name the output of `pip freeze` in that environment, or its environment.yml.",
    ),
    (
        re.compile(r"Package\s+Version(?:\s+.*)?|[\w.-]+ {2,}\d[\w.+!]*(?: {2,}.*)?"),
        "this is a table that `pip list` or `conda list` prints",
        "It is made for people; names in it can be cut off.",
        "Write it with `pip freeze` or `pip list --format json`.",
    ),
    (
        re.compile(r"(?!.*://).*\$\{\w+\}.*"),
        "it takes this version from an environment variable",
        "Variables are not read: their values are those of another machine, or secrets.",
        "Write the version in the file, or name the output of `pip freeze`.",
    ),
)


def read(text: Text) -> Project:
    """The packages of a requirements file and of the files that it includes.

    Raises:
        ProjectFileError: a line is invalid, or a file that it includes cannot be read.
    """
    found = Found()
    found.take(text)
    return Project(_KIND, text.path, tuple(found.packages), tuple(found.unread))


@dataclass(slots=True)
class Found:
    """What was read so far."""

    kind: Kind = _KIND
    packages: list[Package] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    done: set[tuple[Path, bool]] = field(default_factory=set)
    """Files that were read, and whether as constraints: a file that is included twice is read once."""

    def take(self, text: Text, *, constraint: bool = False, above: tuple[Path, ...] = ()) -> None:
        """Read a file, and the files that it includes.

        Raises:
            ProjectFileError: as for `read`.
        """
        here = text.path.resolve()
        self.done.add((here, constraint))
        for number, line in _logical_lines(text):
            self.line(line, text.place(number), text.path.parent, constraint=constraint, above=(*above, here))

    def line(
        self, line: str, place: Place, folder: Path, *, constraint: bool = False, above: tuple[Path, ...] = ()
    ) -> None:
        """Read one logical line.

        Raises:
            ProjectFileError: as for `read`.
        """
        if len(line) > LONGEST:
            raise broken(self.kind, place, f"a line has more than {LONGEST} characters")
        option, value = _option(line)
        if option in _INCLUDES:
            self._include(value, place, folder, constraint=constraint or _INCLUDES[option], above=above)
        elif option in ("-e", "--editable") or (not option and _is_address(line)):
            self._address(value if option else line, place, folder)
        elif option:
            self._option(option, value, place)
        else:
            _refuse_other_format(line, place, self.kind)
            self.packages.append(of_requirement(line, place, self.kind, constraint=constraint))

    def _option(self, option: str, value: str, place: Place) -> None:
        if option in ("-i", "--index-url") and value.rstrip("/") == PYPI:
            return
        reason = "another index; packages come from the default index" if option in _INDEXES else "an option of pip"
        self.unread.append(unread(f"{option} {value}".strip(), reason, place))

    def _address(self, address: str, place: Place, folder: Path) -> None:
        """A package that is named by its URL or path alone."""
        bare, _, marker = address.partition(" ;")
        name, version = of_address(bare.strip())
        taken = None if name else self.project(bare.strip(), folder)
        if taken is not None:
            self.packages += taken
            self.unread.append(unread(address, "a project: what it names is read, and it is not installed", place))
            return
        if not name:
            self.unread.append(unread(address, "a folder, an archive or a repository that states no name", place))
            return
        source = source_of_url(bare.strip())
        whole = of_requirement(f"{name} ;{marker}" if marker else name, place, self.kind)
        specifier = f"=={version}" if version else ""
        self.packages.append(
            Package(canonicalize_name(name), specifier, place, version=version, marker=whole.marker, source=source)
        )

    def project(self, address: str, folder: Path) -> list[Package] | None:
        """What the pyproject.toml at an address below `folder` names, which pip installs with it, without groups.

        None if there is no such file, and nothing if it was read before. `[name]` after the address chooses an extra.

        Raises:
            ProjectFileError: it is not valid.
        """
        from finetune_compat.stacks.project_files import pyproject

        match = re.fullmatch(r"(?:file:(?://)?)?([^\[\]]+?)(?:\[([^\]]*)\])?", address)
        file = folder / match[1] / "pyproject.toml" if match and "://" not in match[1] else None
        if match is None or file is None or not file.is_file():
            return None
        if (file.resolve(), False) in self.done:
            return []
        self.done.add((file.resolve(), False))
        text = read_text(file)
        found = pyproject.read(text, read_toml(text, Kind.PYPROJECT), self)
        chosen = {f"extra {name.strip()}" for name in (match[2] or "").split(",")}
        return [replace(item, groups=()) for item in found.packages if not item.groups or chosen & set(item.groups)]

    def _include(self, value: str, place: Place, folder: Path, *, constraint: bool, above: tuple[Path, ...]) -> None:
        if not value or "://" in value:
            raise broken(self.kind, place, f"it includes {quoted(value)}, which is not a local file")
        path = folder / value.strip("\"'")
        here = path.resolve()
        if here in above:
            raise broken(self.kind, place, f"it includes {path}, which includes this file")
        if (here, constraint) in self.done:
            return
        try:
            text = read_text(path)
        except ProjectFileError as error:
            raise broken(self.kind, place, f"it includes {path}: {error.what}") from None
        self.take(text, constraint=constraint, above=above)


def _option(line: str) -> tuple[str, str]:
    """The option of pip in a line and its value; empty for a requirement."""
    match = _OPTION.fullmatch(line) if line.startswith("-") else None
    if match is None:
        return ("", line) if not line.startswith("-") else (line.partition(" ")[0], line.partition(" ")[2])
    return match[1] or match[3], (match[2] or "").strip()


def _is_address(line: str) -> bool:
    """Whether a line names no package, but a URL or a path."""
    if re.match(r"[\w.-]+\s*(?:\[[^\]]*\]\s*)?@\s", line):
        return False
    bare = line.partition(" ;")[0].strip()
    return bare.startswith((".", "/", "~", "git+", "file:")) or "://" in bare or bare.endswith((".whl", ".tar.gz"))


def _refuse_other_format(line: str, place: Place, kind: Kind) -> None:
    for pattern, problem, meaning, todo in _OTHER_FORMATS:
        if pattern.fullmatch(line):
            raise ProjectFileError(problem, where=str(place), meaning=meaning, todo=todo)
    single = re.fullmatch(r"([\w.-]+)\s*=\s*([\w.+!]+)", line)
    if single:
        raise broken(kind, place, f"{line!r} has one equals sign; write {single[1]}=={single[2]}")


def _logical_lines(text: Text) -> Iterator[tuple[int, str]]:
    """Logical lines, each with the number of its first line: joined at backslashes, without comments and hashes."""
    begun, parts = 0, []
    for number, line in enumerate([*text.lines, ""], 1):
        begun = begun or number
        bare = _COMMENT.sub("", line).strip()
        parts.append(bare.removesuffix("\\"))
        if bare.endswith("\\"):
            continue
        logical = _OF_A_REQUIREMENT.sub("", " ".join(parts)).strip()
        if logical:
            yield begun, logical
        begun, parts = 0, []
