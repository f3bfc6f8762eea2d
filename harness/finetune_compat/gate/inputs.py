"""Parse the values of `--from` and `--to`: a stack, pins, a file, or a live interpreter."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
from finetune_compat.machine.places import places
from finetune_compat.stacks.matrix import Matrix, Stack
from finetune_compat.stacks.requirement_files import NEWEST_PATCH, SUFFIXES, Malformed, Versions, open_file

TORCH = ("torch", "torchvision", "torchaudio")
"""The platform layer: the matrix sets its version, the machine sets its build."""

_PLATFORM = ("nvidia-", "cuda-", "triton", "pytorch-triton")
_ASK = """
import importlib.metadata as m, json, platform, sys
found = [(d.metadata["Name"], d.version, bool(d.read_text("direct_url.json"))) for d in m.distributions()]
print(json.dumps({"python": "%d.%d" % sys.version_info[:2], "found": [f for f in found if f[0]]}))
"""
_ASK_S = 60
_LONGEST_STEM = 60
"""Maximum number of characters of a file's name in the name of its stack."""


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


def read_side(texts: Sequence[str], option: str, matrix: Matrix, python: str | None = None) -> Row | Wanted:
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


def _words(text: str) -> list[str]:
    """The values in `text`. A single pin is one value, even with spaces and commas in it."""
    try:
        Requirement(text)
    except InvalidRequirement:
        closed = re.sub(r"\s*([=!~<>]=?=?)\s*|\s+(?=\[)", r"\1", text)
        return [word for word in re.split(r"[\s,]+(?![^\[]*\])", closed) if word]
    return [text.strip()]


_CAN_BE = (
    "A side is a stack (trl0.22), pins (trl==0.22.2), a requirements.txt, uv.lock or pylock.toml, or the path of an "
    "interpreter or a virtual environment."
)


def _named(text: str, matrix: Matrix) -> Row | None:
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
    if "://" in text:
        return False  # a requirement with a URL
    return "/" in text or Path(text).suffix in SUFFIXES or Path(text).expanduser().exists()


# --------------------------------------------------------------------------------------------------------------- pins


def _pins(words: Sequence[str], option: str, matrix: Matrix, python: str | None) -> Row | Wanted:
    pins = [_pin(word, option, matrix) for word in words]
    names = [canonicalize_name(pin.name) for pin in pins]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise CompatError(f"{twice} is pinned twice", where=option, todo="Leave one of the pins out.")
    not_followed = tuple(_platform_note(str(pin)) for pin in pins if _is_platform(pin.name))
    pins = [pin for pin in pins if not _is_platform(pin.name)]
    known = [pin for pin in pins if canonicalize_name(pin.name) in matrix.packages]
    if not known:
        raise CompatError(
            f"no pin of a package that the matrix resolves: {' '.join(words)}",
            where=option,
            meaning="torch is the platform layer: its version is in matrices/stacks.toml, its build is the machine's."
            if not_followed
            else "The gate compares the training stack.",
            todo=f"Pin one or more of {', '.join(matrix.packages)}.",
        )
    if len(pins) == 1 and not not_followed:
        row = next((stack for stack in matrix.stacks if _is_pin_of(pins[0], stack)), None)
        if row is not None:
            extras = (f"{pins[0]}: the committed lock of {row.name} has no extras",) if pins[0].extras else ()
            return Row(row, None, extras)
    order = {name: place for place, name in enumerate(matrix.packages)}
    pins.sort(key=lambda pin: (order.get(canonicalize_name(pin.name), len(order)), pin.name))
    return Wanted(Rule.OF_ITS_DAY, named_after(pins), tuple(pins), (), not_followed, _python_for(python, matrix))


def named_after(pins: Iterable[Requirement]) -> str:
    """The name of a stack of these pins."""
    names = (f"{'-'.join((canonicalize_name(pin.name), *sorted(pin.extras)))}{_version(pin)}" for pin in pins)
    return shortened("-".join(names))


def _pin(word: str, option: str, matrix: Matrix) -> Requirement:
    try:
        pin = Requirement(word)
    except InvalidRequirement:
        raise _no_side(word, option, matrix) from None
    if not pin.specifier and not pin.url:
        raise _no_side(word, option, matrix)
    exact = [item for item in pin.specifier if item.operator == "==" and not item.version.endswith(".*")]
    if pin.url or pin.marker or len(pin.specifier) != 1 or not exact:
        raise CompatError(
            f"{word!r} names no single release",
            where=option,
            meaning="A gate runs two stacks, so each side must say which release it means.",
            todo="Pin it with == and all of the version, such as trl==0.22.2.",
        )
    return pin


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


# -------------------------------------------------------------------------------------------------------------- paths


def _read_path(path: Path, option: str, matrix: Matrix, asked: str | None) -> Wanted:
    if not path.exists():
        raise CompatError(
            "there is no such file or folder",
            where=f"{option} {path}",
            meaning=f"Nothing is at {path.absolute()}: the path is misspelt, or relative to another folder.",
            todo=_CAN_BE,
        )
    if path.is_dir() or path.suffix not in SUFFIXES:
        return _live(path, option, matrix, asked)
    try:
        file = open_file(path)
        python = _python_for(asked, matrix, takes=file.requires_python, where=str(path))
        return _wanted(file.versions(python), path, matrix, python)
    except Malformed as problem:
        raise _unusable(path, str(problem)) from None


def _unusable(path: Path, problem: str) -> CompatError:
    return CompatError(
        problem,
        where=str(path),
        meaning="By its name it is a requirements file, a uv.lock (version 1) or a pylock.toml (PEP 751).",
        todo="Make it again with the tool that wrote it, or name pins instead.",
    )


def _wanted(read: Versions, path: Path, matrix: Matrix, python: str, rule: Rule = Rule.FILE) -> Wanted:
    direct, constraints, notes = [], [], list(read.not_followed)
    # Packages that the matrix exempts on every device are those that its torch requires.
    needed = {exempt.package for exempt in matrix.exemptions if exempt.device is None}
    for item in read.requirements:
        name = canonicalize_name(item.name)
        if name in TORCH:
            notes.append(_platform_note(str(item)))
        elif name in matrix.packages:
            direct.append(item)
        elif name in needed:
            notes.append(f"{item}: torch {matrix.torch} needs its own")
        elif item.specifier and not _is_platform(name) and name not in matrix.tools:
            constraints.append(_without_extras(item))
    known = {canonicalize_name(item.name) for item in direct}
    if not known:
        raise CompatError(
            "it names no package that the matrix resolves",
            where=str(path),
            meaning="The gate compares the training stack.",
            todo=f"Give one that holds one or more of {', '.join(matrix.packages)}.",
        )
    missing = [name for name in matrix.packages if name not in known]
    if missing:
        notes.append(f"{', '.join(missing)}: not given, but needed by the flows; the resolver chose them")
    stem = re.sub(r"[^A-Za-z0-9]+", "-", path.resolve().stem).strip("-").lower()[:_LONGEST_STEM] or "env"
    return Wanted(rule, stem, tuple(direct), tuple(sorted(constraints)), tuple(map(redact, notes)), python)


def _is_platform(name: str) -> bool:
    return canonicalize_name(name) in TORCH or canonicalize_name(name).startswith(_PLATFORM)


def _platform_note(text: str) -> str:
    return f"{text}: torch is the platform layer; its version is the matrix's, its build the machine's"


def _without_extras(item: Requirement) -> str:
    marker = f" ; {item.marker}" if item.marker else ""
    return f"{item.name}{item.specifier}{marker}"


# --------------------------------------------------------------------------------------------------- live interpreters


def _live(path: Path, option: str, matrix: Matrix, asked: str | None) -> Wanted:
    python = path / "bin" / "python" if path.is_dir() else path
    no_side = CompatError(
        "this is neither a Python interpreter, a virtual environment nor a file of versions",
        where=f"{option} {path}",
        meaning=f"The harness ran {python} to list its packages, and that failed."
        if (named := _NAMES_OF_PYTHON.fullmatch(python.name))
        else "It is a program. The harness runs only a file called python, to list its packages.",
        todo=_CAN_BE,
    )
    if not named:
        raise no_side
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _ASK], capture_output=True, text=True, check=False, timeout=_ASK_S
        )
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        raise no_side from None
    items = [Requirement(f"{name}=={version}") for name, version, _ in answer["found"] if _public(version)]
    notes = [
        f"{name} {version}: not installed from an index; the gate uses version {version} of the index"
        for name, version, direct in answer["found"]
        if direct and canonicalize_name(name) in matrix.packages
    ]
    folder = path if path.is_dir() else python.parent.parent
    runs_on = _python_for(asked, matrix, own=answer["python"], where=f"{option} {path}")
    return _wanted(Versions(tuple(items), tuple(notes)), folder, matrix, runs_on, Rule.LIVE)


_NAMES_OF_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*(?:\.exe)?")


def _public(version: str) -> bool:
    """Whether `name==version` is a valid requirement."""
    try:
        Requirement(f"x=={version}")
    except InvalidRequirement:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------ a Python


def _python_for(asked: str | None, matrix: Matrix, *, takes: str = "", own: str | None = None, where: str = "") -> str:
    """The Python of a side that is not a row: the requested one, its own, or the first of the matrix that it accepts.

    Args:
        asked: the value of `--python`.
        matrix: locks exist for its Pythons.
        takes: the version specifier for Python in the side's file.
        own: the Python version of a live interpreter.
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
    try:
        specifier = SpecifierSet(takes)
    except InvalidSpecifier:
        specifier = SpecifierSet()
    for python in (asked or own,) if asked or own else matrix.pythons:
        if python in matrix.pythons and specifier.contains(f"{python}.{NEWEST_PATCH}"):
            return python
    raise CompatError(
        f"it needs Python {takes or own}",
        where=where,
        meaning=f"The matrix runs on {', '.join(matrix.pythons)}.",
        todo="Name one of these with --python, or give a file for one of them.",
    )
