"""Parse the values of `--from`, `--to` and `--upgrade`: a stack, pins, a project, or what moves in a project."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.contract.errors import CompatError, UnknownName
from finetune_compat.contract.names import shortened
from finetune_compat.contract.redaction import redact
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.left_out import hides, left_out
from finetune_compat.machine.places import places
from finetune_compat.stacks.locks import is_platform
from finetune_compat.stacks.matrix import Matrix, Stack
from finetune_compat.stacks.project_files.entries import of_address
from finetune_compat.stacks.project_files.reading import read_project
from finetune_compat.stacks.project_files.text import read_text, read_toml
from finetune_compat.stacks.project_files.value import NEWEST_PATCH, OF_CONDA, Kind, Origin, Package, Project

OF_A_BUILD = ("torchvision", "torchaudio")
"""Libraries of which each wheel belongs to one version and build of torch."""
TORCH = ("torch", *OF_A_BUILD)
"""The platform layer: the matrix sets its version, the machine sets its build."""

_SUFFIXES = (".txt", ".lock", ".toml", ".in", ".py", ".yml", ".yaml", ".json", ".whl", ".cfg")
"""Suffixes of values that are paths, also if nothing is there."""
_LONGEST_STEM = 60
"""Maximum number of characters of a file's name in the name of its stack."""
_MOST_SHOWN = 8
"""Maximum number of names in one note."""
_PUBLIC = re.compile(r"pypi\.org|pythonhosted\.org")
_BUILT_BY_CONDA = re.compile(r"/(?:feedstock_root|croot|conda-bld)/")
"""Folders in which conda builds packages. `pip freeze` in a conda environment names them."""
_NEWEST = re.compile(r"([A-Za-z0-9][\w.-]*)\s*(?:==|@)\s*latest")
LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the matrix. `python` is None for the first Python that the row names."""

    stack: Stack
    python: str | None
    not_followed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Versions that are not a row: requirements to install, and constraints on the resolver."""

    rule: Rule
    name: str
    """Base of the stack's name."""
    requirements: tuple[Requirement, ...]
    """Requirements on packages of the matrix."""
    constraints: tuple[str, ...]
    not_followed: tuple[str, ...]
    python: str
    """The Python it runs on."""
    others: tuple[Requirement, ...] = ()
    """All other packages of the project."""
    built: tuple[Move, ...] = ()
    """Packages of the matrix that are built from a repository, a folder or a file."""
    wheels: tuple[Path, ...] = ()
    """Folders of wheels that were built for this side."""
    overrides: tuple[str, ...] = ()
    """Requirements in place of all others on their packages."""


@dataclass(frozen=True, slots=True)
class Move:
    """A package and the release that is asked for: the newest that `specifier` accepts, or what is at an address."""

    name: str
    specifier: str = ""
    extras: tuple[str, ...] = ()
    secret_address: str = field(default="", repr=False)
    """A URL or path to build the package from; may hold credentials. Empty for a release of the index."""

    def __str__(self) -> str:
        return f"{self.name} @ {redact(self.secret_address)}" if self.secret_address else f"{self.name}{self.specifier}"

    @property
    def exact(self) -> Version | None:
        """The one release; None if the index or a build must tell."""
        match = re.fullmatch(r"==\s*([^*,]+)", self.specifier)
        return Version(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Moves of packages: in the other side, if that is a project, else among packages of the same day."""

    moves: tuple[Move, ...]
    """Empty for `latest`: all packages of the matrix are the newest that go together."""
    python: str | None
    in_project: bool
    not_followed: tuple[str, ...] = ()


Target = Row | Wanted | Upgrade
"""A side. A `Row` or a `Wanted` needs nothing else to be resolved."""


_CAN_BE = (
    "A side is a stack (trl0.22), pins (trl==0.22.2), latest, a project folder, a lock or requirements file, or the "
    "path of an interpreter or a virtual environment."
)


def read_side(texts: Sequence[str], option: str, matrix: Matrix, python: str | None = None) -> Target:
    """Parse the values of `--from` or `--to`.

    Args:
        texts: the values; more than one only for pins, which may also stand in one value with spaces between.
        option: `--from` or `--to`, for messages.
        matrix: its stacks, and the packages it resolves.
        python: the Python to run on. If None, the side's own Python, or the first of the matrix that it accepts.

    Raises:
        CompatError: the values are not a valid side, a file is unusable, or no Python of the matrix fits.
    """
    words = [word for text in texts for word in _words(text)]
    whole = texts[0].strip() if len(texts) == 1 else ""
    if whole and (found := _named(whole, matrix)):
        return found
    if whole and _is_path(whole):
        return _read_path(Path(whole).expanduser(), option, matrix, python)
    if not words:
        raise CompatError(f"{option} is empty", where="compat gate", todo=_CAN_BE)
    if len(words) > 1 and (odd := next((word for word in words if _named(word, matrix) or _is_path(word)), None)):
        raise CompatError(
            f"{odd!r} does not go with other values",
            where=option,
            meaning="A side is one stack, one file or one interpreter, or pins; only pins can be several.",
            todo="Leave one of them out.",
        )
    return _pins(words, option, matrix, python)


def read_target(texts: Sequence[str], option: str, before: Target, matrix: Matrix, python: str | None = None) -> Target:
    """Parse the values of `--to`, where `before` is `--from`.

    Pins, and `latest`, move packages of a project if `before` is one, and only what must follow moves with them.

    Raises:
        CompatError: as for `read_side`.
    """
    found = read_side(texts, option, matrix, python)
    if not isinstance(before, Wanted) or before.rule not in (Rule.FILE, Rule.LIVE):
        return found
    if isinstance(found, Upgrade):
        return Upgrade(found.moves, before.python, True, found.not_followed)
    words = [word for text in texts for word in _words(text)]
    if any(_named(word, matrix) for word in words) or any(_is_path(word) for word in words):
        return found
    return Upgrade(tuple(_move(word, option, matrix) for word in words if not _is_torch(word)), before.python, True)


def read_upgrade(texts: Sequence[str], before: Target, matrix: Matrix) -> Upgrade:
    """Parse the values of `--upgrade`: packages of the other side that move, by default to their newest release.

    Raises:
        CompatError: a value is not a package, or is one that does not move.
    """
    option = "--upgrade"
    words = [word for text in texts for word in _words(text)]
    if not words:
        raise CompatError(f"{option} is empty", where="compat gate", todo="Name a package, such as --upgrade trl.")
    torch = next((word for word in words if _is_torch(word)), None)
    if torch:
        raise CompatError(
            f"{torch} does not move",
            where=option,
            meaning="torch is the platform layer: its version is in matrices/stacks.toml, its build is the machine's.",
            todo=f"Name one or more of {', '.join(matrix.packages)}.",
        )
    moves = tuple(_move(word, option, matrix, bare=True) for word in words)
    known = (
        {canonicalize_name(item.name) for item in (*before.requirements, *before.others)}
        if isinstance(before, Wanted)
        else set()
    )
    unknown = next((move for move in moves if move.name not in {*known, *matrix.packages}), None)
    if unknown:
        near = get_close_matches(unknown.name, [*matrix.packages, *known], n=3, cutoff=0.6)
        raise UnknownName(
            f"{unknown.name} is not a package of this side",
            where=option,
            meaning=f"Names that look like it: {', '.join(near)}." if near else "No name looks like it.",
            todo="Name a package that the project names, or one of the training stack.",
        )
    return Upgrade(moves, before.python if isinstance(before, Wanted) else None, True)


def _words(text: str) -> list[str]:
    """The values in `text`. A single pin is one value, even with spaces and commas in it."""
    try:
        Requirement(text)
    except InvalidRequirement:
        closed = re.sub(r"\s*([=!~<>]=?=?)\s*|\s+(?=\[)", r"\1", text)
        return [word for word in re.split(r"[\s,]+(?![^\[]*\])", closed) if word]
    return [text.strip()]


def _named(text: str, matrix: Matrix) -> Row | None:
    if text == LATEST:
        return None  # resolved anew, while the row of this name is as of its day
    name, _, python = text.partition("-py")
    stack = next((stack for stack in matrix.stacks if stack.name == name), None)
    if stack is None:
        return None
    if not python:
        return Row(stack, None)
    version = f"{python[:1]}.{python[1:]}"
    if version not in stack.pythons:
        raise UnknownName(
            f"{name} is not locked for Python {version}",
            where=places().shown(places().stacks),
            meaning=f"Its row names {', '.join(stack.pythons)}.",
            todo=f"Name {' or '.join(stack.on(known) for known in stack.pythons)}.",
        )
    return Row(stack, version)


def _is_path(text: str) -> bool:
    if "://" in text or re.match(r"[\w.-]+\s*(\[[^\]]*\]\s*)?@\s", text):
        return False  # a requirement with a URL
    if text == LATEST:
        return False
    return "/" in text or text in (".", "..") or Path(text).suffix in _SUFFIXES or Path(text).expanduser().exists()


# --------------------------------------------------------------------------------------------------------------- pins


def _pins(words: Sequence[str], option: str, matrix: Matrix, python: str | None) -> Row | Wanted | Upgrade:
    if list(words) == [LATEST]:
        return Upgrade((), _python_for(python, matrix), False)
    moves = [_move(word, option, matrix) for word in words]
    names = [move.name for move in moves]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise CompatError(f"{twice} is pinned twice", where=option, todo="Leave one of the pins out.")
    not_followed = tuple(platform_note(str(move)) for move in moves if _is_platform(move.name))
    moves = [move for move in moves if not _is_platform(move.name)]
    if not any(move.name in matrix.packages for move in moves):
        raise CompatError(
            f"no pin of a package that the matrix resolves: {' '.join(words)}",
            where=option,
            meaning="torch is the platform layer: its version is in matrices/stacks.toml, its build is the machine's."
            if not_followed
            else "The gate compares the training stack.",
            todo=f"Pin one or more of {', '.join(matrix.packages)}.",
        )
    order = {name: place for place, name in enumerate(matrix.packages)}
    moves.sort(key=lambda move: (order.get(move.name, len(order)), move.name))
    if any(move.exact is None for move in moves):
        return Upgrade(tuple(moves), _python_for(python, matrix), False, not_followed)
    pins = [pin_of(move, Version(str(move.exact))) for move in moves]
    return row_of(pins, matrix, not_followed) or of_its_day(pins, _python_for(python, matrix), not_followed)


def row_of(pins: Sequence[Requirement], matrix: Matrix, not_followed: tuple[str, ...] = ()) -> Row | None:
    """The row of the matrix that has exactly this pin; None if there is none, or there are other pins."""
    if len(pins) != 1 or not_followed:
        return None
    row = next((stack for stack in matrix.stacks if _is_pin_of(pins[0], stack)), None)
    if row is None:
        return None
    extras = (f"{pins[0]}: the committed lock of {row.name} has no extras",) if pins[0].extras else ()
    return Row(row, None, extras)


def of_its_day(pins: Sequence[Requirement], python: str, not_followed: tuple[str, ...] = ()) -> Wanted:
    """The side of exact pins, with the other packages of their day."""
    return Wanted(Rule.OF_ITS_DAY, named_after(pins), tuple(pins), (), not_followed, python)


def pin_of(move: Move, version: Version) -> Requirement:
    """The pin of a package at a release."""
    extras = f"[{','.join(move.extras)}]" if move.extras else ""
    return Requirement(f"{move.name}{extras}=={version}")


def named_after(pins: Iterable[Requirement]) -> str:
    """The name of a stack of these pins."""
    names = (f"{'-'.join((canonicalize_name(pin.name), *sorted(pin.extras)))}{_version(pin)}" for pin in pins)
    return shortened("-".join(names))


def _move(word: str, option: str, matrix: Matrix, *, bare: bool = False) -> Move:
    """A value that names a package and its release. `bare` accepts a name alone, which is its newest release."""
    if newest := _NEWEST.fullmatch(word):
        return Move(canonicalize_name(newest[1]))
    try:
        pin = Requirement(word)
    except InvalidRequirement:
        raise _no_side(word, option, matrix) from None
    if not (pin.specifier or pin.url or bare):
        raise _no_side(word, option, matrix)
    if pin.marker or any(item.operator == "===" for item in pin.specifier):
        raise CompatError(
            f"{word!r} names no release",
            where=option,
            meaning="A side has one release of each package: markers and === are for files.",
            todo="Pin it with ==, such as trl==0.22.2.",
        )
    name, extras = canonicalize_name(pin.name), tuple(sorted(pin.extras))
    return Move(name, str(pin.specifier), extras, pin.url or "")


def _is_torch(word: str) -> bool:
    return _is_platform(re.split(r"[^\w.-]", word, maxsplit=1)[0])


def _no_side(word: str, option: str, matrix: Matrix) -> UnknownName:
    known = places().shown(places().stacks)
    near = get_close_matches(word, [stack.name for stack in matrix.stacks], n=3, cutoff=0.6)
    return UnknownName(
        f"{word!r} is neither a stack, a pin, a file nor an interpreter",
        where=option,
        meaning=f"Stacks of {known} that look like it: {', '.join(near)}."
        if near
        else f"No stack of {known} looks like it.",
        todo=_CAN_BE,
    )


def _version(pin: Requirement) -> Version:
    return Version(next(iter(pin.specifier)).version)


def _is_pin_of(pin: Requirement, stack: Stack) -> bool:
    return canonicalize_name(pin.name) == stack.package and _version(pin) == Version(stack.pin)


# ----------------------------------------------------------------------------------------------------------- projects


def _read_path(path: Path, option: str, matrix: Matrix, asked: str | None) -> Wanted | Upgrade:
    if path.suffix == ".whl" or path.is_dir():
        name = _source_of(path, matrix)
        if name:
            return Upgrade((Move(name, secret_address=str(path.absolute())),), _python_for(asked, matrix), False)
    if path.suffix == ".whl":
        raise CompatError(
            "this is no wheel of a package that the matrix resolves" if path.exists() else "there is no such file",
            where=f"{option} {path}",
            meaning="The gate compares the training stack; the name of a wheel begins with its package.",
            todo=f"Name a wheel of {', '.join(matrix.packages)}.",
        )
    project = read_project(path)
    python = _python_for(asked, matrix, takes=project.requires_python, where=str(path))
    return _wanted(project, path, matrix, python)


def _source_of(path: Path, matrix: Matrix) -> str:
    """The package of the matrix whose wheel or source folder this is; empty for anything else."""
    if path.suffix == ".whl":
        name, _ = of_address(path.name)
        return name if name in matrix.packages and path.is_file() else ""
    file = path / "pyproject.toml"
    if not file.is_file():
        return ""
    project = read_toml(read_text(file), Kind.PYPROJECT).get("project")
    stated = canonicalize_name(str(project.get("name", ""))) if isinstance(project, dict) else ""
    if not stated and (path / "setup.py").is_file() and path.resolve().name in matrix.packages:
        stated = path.resolve().name
    return stated if stated in matrix.packages else ""


def _wanted(project: Project, path: Path, matrix: Matrix, python: str) -> Wanted:
    """The side of a project: all its packages, and by name what is left out."""
    sorted_ = _Sorted(project, matrix)
    for item in sorted_.chosen(project.on(python)):
        sorted_.take(item)
    known = {canonicalize_name(item.name) for item in sorted_.direct} | {move.name for move in sorted_.built}
    if not known:
        raise CompatError(
            "it names no package that the matrix resolves" if project.packages else "it names no packages",
            where=str(path),
            meaning=" ".join(("The gate compares the training stack.", *(f"{note}." for note in _summed(project)))),
            todo=f"Give one that holds one or more of {', '.join(matrix.packages)}.",
        )
    missing = [name for name in matrix.packages if name not in known]
    notes = [*_summed(project), *sorted_.notes]
    of_conda = [item for item in project.unread if item.reason == OF_CONDA and _name_in_conda(item.what) in missing]
    if of_conda:
        names = ", ".join(item.what for item in of_conda)
        notes.append(f"{names}: other versions are measured than those that conda installs")
    if missing:
        notes.append(f"{', '.join(missing)}: not given, but needed by the flows; the resolver chose them")
    folder = path if path.is_dir() or project.kind is not Kind.ENVIRONMENT else project.path
    stem = re.sub(r"[^A-Za-z0-9]+", "-", folder.resolve().stem).strip("-").lower()[:_LONGEST_STEM] or "env"
    rule = Rule.LIVE if project.kind in (Kind.ENVIRONMENT, Kind.PIP_LIST) else Rule.FILE
    return Wanted(
        rule,
        stem,
        tuple(sorted_.direct),
        tuple(sorted(sorted_.constraints)),
        tuple(map(redact, notes)),
        python,
        tuple(sorted_.others),
        tuple(sorted_.built),
        overrides=tuple(sorted(sorted_.overrides)),
    )


def _name_in_conda(spec: str) -> str:
    """The package in a spec of conda, such as `conda-forge::trl=0.22.2`."""
    return canonicalize_name(re.split(r"[=<>!~\s\[]", spec.rpartition("::")[2], maxsplit=1)[0])


class _Sorted:
    """The packages of a project, sorted by what the gate does with them."""

    def __init__(self, project: Project, matrix: Matrix) -> None:
        self.matrix = matrix
        self.direct: list[Requirement] = []
        self.others: list[Requirement] = []
        self.built: list[Move] = []
        self.constraints: list[str] = []
        self.overrides: list[str] = []
        self.notes: list[str] = []
        # Packages that the matrix exempts on every device are those that its torch requires.
        self.needed = {exempt.package for exempt in matrix.exemptions if exempt.device is None}
        # A mirror serves the training stack too; an index that does not is the project's own.
        self.indexes = {item.source.address for item in project.packages if item.name in matrix.packages}

    def chosen(self, packages: Sequence[Package]) -> list[Package]:
        """The packages that are always installed, and those of extras and groups that bring the training stack."""
        taken = {group for item in packages if item.name in self.matrix.packages for group in item.groups}
        used = [item for item in packages if not item.groups or taken & set(item.groups)]
        for group in sorted({group for item in packages for group in item.groups} - taken):
            names = [item.name for item in packages if group in item.groups and item not in used]
            if names:
                self.notes.append(f"{group} ({_some(names)}): not installed, because it brings no training package")
        return self._once(used)

    def _once(self, packages: Sequence[Package]) -> list[Package]:
        """Without second pins of a package, which locks have for conflicting extras. One that is always there wins."""
        pinned: dict[str, Package] = {}
        for item in sorted(packages, key=lambda item: bool(item.groups)):
            if item.version is None or item.override:
                continue
            if pinned.setdefault(item.name, item).version != item.version:
                self.notes.append(f"{item}: {pinned[item.name]} is installed in its place")
        return [
            item
            for item in packages
            if item.version is None or item.override or pinned[item.name].version == item.version
        ]

    def take(self, item: Package) -> None:
        """Sort one package."""
        origin, address = item.source.origin, item.source.address
        if _is_platform(item.name):
            self.notes.append(platform_note(str(item)))
        elif item.name in self.needed:
            self.notes.append(f"{item}: torch {self.matrix.torch} needs its own")
        elif item.constraint:
            self._constrain(item)
        elif origin is not Origin.INDEX:
            self._from_elsewhere(item)
        elif item.name in self.matrix.packages:
            self.direct.append(self._public(item))
        elif item.name in self.matrix.tools:
            return
        elif address and not _PUBLIC.search(address) and address not in self.indexes:
            self.notes.append(left_out(str(item), f"it is from the index {address}"))
        elif item.version is not None and Version(item.version).local:
            self.notes.append(left_out(str(item), "the index has no such build"))
        else:
            self.others.append(item.requirement)

    def _from_elsewhere(self, item: Package) -> None:
        """A package from a URL, a path or a repository: those of the matrix are built."""
        of_conda = item.source.origin is Origin.PATH and _BUILT_BY_CONDA.search(item.source.address)
        if item.name not in self.matrix.packages:
            reason = f"it is from a {_ORIGINS[item.source.origin]}, not from an index"
            self.notes.append(left_out(str(item), "conda built it" if of_conda else reason))
        elif of_conda:
            raise CompatError(
                f"it does not state the version of {item.name}",
                where=str(item.place),
                meaning="conda installed it, and `pip freeze` writes the folder in which conda built it.",
                todo="Write the list with `pip list --format json`, which has the versions.",
            )
        else:
            self._build(item)

    def _constrain(self, item: Package) -> None:
        if item.override and item.source.origin is not Origin.INDEX:
            self.notes.append(f"{item}: an override that is not from an index; the resolver chose another version")
        elif item.specifier and item.source.origin is Origin.INDEX and item.name not in self.matrix.tools:
            (self.overrides if item.override else self.constraints).append(f"{item.name}{item.specifier}")

    def _public(self, item: Package) -> Requirement:
        """A package of the matrix. A local version, which no index has, is replaced by its public one."""
        version = None if item.version is None else Version(item.version)
        if version is None or not version.local:
            return item.requirement
        self.notes.append(f"{item}: the gate uses {version.public} of the index; changes in this build are not seen")
        extras = f"[{','.join(item.extras)}]" if item.extras else ""
        return Requirement(f"{item.name}{extras}=={version.public}")

    def _build(self, item: Package) -> None:
        address = item.source.secret_address
        if item.source.origin is Origin.PATH:
            address = address.removeprefix("file://").partition("#")[0]
            folder = Path(item.place.file).parent if item.place.line or Path(item.place.file).is_file() else Path()
            address = str((folder / address).resolve())
        self.built.append(Move(item.name, item.specifier, item.extras, address))


_ORIGINS = {Origin.URL: "URL", Origin.PATH: "folder or file", Origin.GIT: "repository"}


def _summed(project: Project) -> list[str]:
    """What the reader did not read, with one note for each reason."""
    by_reason: dict[str, list[str]] = {}
    for item in project.unread:
        by_reason.setdefault(item.reason, []).append(item.what)
    return [f"{_some(names)}: {reason}" for reason, names in by_reason.items()]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more


def _is_platform(name: str) -> bool:
    return canonicalize_name(name) in TORCH or is_platform(canonicalize_name(name)) or name == "pytorch-triton"


def platform_note(text: str) -> str:
    """The note for a package of the platform layer. `text` begins with its name."""
    stated = canonicalize_name(re.split(r"[^\w.-]", text, maxsplit=1)[0])
    if stated in OF_A_BUILD:
        return left_out(text, "it belongs to one version and build of torch, and both are the machine's")
    return (
        f"{text}: torch is the platform layer; its version is the matrix's, its build the machine's; {hides('torch')}"
    )


# ------------------------------------------------------------------------------------------------------------ a Python


def _python_for(asked: str | None, matrix: Matrix, *, takes: str = "", where: str = "") -> str:
    """The Python of a side that is not a row: the requested one, or the first of the matrix that it accepts.

    Args:
        asked: the value of `--python`.
        matrix: locks exist for its Pythons.
        takes: the version specifier for Python in the side's file, or the version of its interpreter.
        where: the side, for messages.

    Raises:
        CompatError: no Python of the matrix fits.
    """
    if asked is not None and asked not in matrix.pythons:
        raise CompatError(
            f"there are no locks for Python {asked}",
            where="--python",
            meaning=f"The matrix runs on {', '.join(matrix.pythons)}.",
            todo="Name one of these, or leave --python out.",
        )
    own = re.fullmatch(r"==(3\.\d+)\.\*", takes)
    try:
        # Packages of one Python can be installed on another that is asked for.
        specifier = SpecifierSet("" if own and asked else takes)
    except InvalidSpecifier:
        specifier = SpecifierSet()
    for python in (asked,) if asked else matrix.pythons:
        if specifier.contains(f"{python}.{NEWEST_PATCH}"):
            return python
    raise CompatError(
        f"it needs Python {own[1] if own else takes}",
        where=where,
        meaning=f"The matrix runs on {', '.join(matrix.pythons)}.",
        todo="Name one of these with --python, or give a file for one of them.",
    )
