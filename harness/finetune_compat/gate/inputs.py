"""Parse the values of `--from`, `--to` and `--upgrade`: a stack, pins, a project, or what moves in a project."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from finetune_compat.contract.errors import CompatError, UnknownName
from finetune_compat.gate.asked import Row, Target, Upgrade, Wanted
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.pins import CAN_BE, LATEST, read_move, read_pins
from finetune_compat.gate.platform_layer import is_torch
from finetune_compat.gate.project_side import read_path
from finetune_compat.machine.places import places
from finetune_compat.stacks.matrix import Matrix

_SUFFIXES = (".txt", ".lock", ".toml", ".in", ".py", ".yml", ".yaml", ".json", ".whl", ".cfg")
"""Suffixes of values that are paths, also if nothing is there."""


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
        return read_path(Path(whole).expanduser(), option, matrix, python)
    if not words:
        raise CompatError(f"{option} is empty", where="compat gate", todo=CAN_BE)
    if len(words) > 1 and (odd := next((word for word in words if _named(word, matrix) or _is_path(word)), None)):
        raise CompatError(
            f"{odd!r} does not go with other values",
            where=option,
            meaning="A side is one stack, one file or one interpreter, or pins; only pins can be several.",
            todo="Leave one of them out.",
        )
    return read_pins(words, option, matrix, python)


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
    return Upgrade(tuple(read_move(word, option, matrix) for word in words if not is_torch(word)), before.python, True)


def read_upgrade(texts: Sequence[str], before: Target, matrix: Matrix) -> Upgrade:
    """Parse the values of `--upgrade`: packages of the other side that move, by default to their newest release.

    Raises:
        CompatError: a value is not a package, or is one that does not move.
    """
    option = "--upgrade"
    words = [word for text in texts for word in _words(text)]
    if not words:
        raise CompatError(f"{option} is empty", where="compat gate", todo="Name a package, such as --upgrade trl.")
    torch = next((word for word in words if is_torch(word)), None)
    if torch:
        raise CompatError(
            f"{torch} does not move",
            where=option,
            meaning="torch is the platform layer: its version is in matrices/stacks.toml, its build is the machine's.",
            todo=f"Name one or more of {', '.join(matrix.packages)}.",
        )
    moves = tuple(read_move(word, option, matrix, bare=True) for word in words)
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
