"""Sides that are written as pins, such as `trl==0.22.2 peft==0.17.1`, or as the newest release of a package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.contract.errors import CompatError, UnknownName
from finetune_compat.contract.names import shortened
from finetune_compat.gate.asked import Move, Row, Upgrade, Wanted
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.platform_layer import is_of_platform, platform_note
from finetune_compat.gate.side_python import python_for
from finetune_compat.machine.places import places
from finetune_compat.stacks.matrix import Matrix, Stack

LATEST = "latest"
_NEWEST = re.compile(r"([A-Za-z0-9][\w.-]*)\s*(?:==|@)\s*latest")
CAN_BE = (
    "A side is a stack (trl0.22), pins (trl==0.22.2), latest, a project folder, a lock or requirements file, or the "
    "path of an interpreter or a virtual environment."
)


def read_pins(words: Sequence[str], option: str, matrix: Matrix, python: str | None) -> Row | Wanted | Upgrade:
    """The side of pins: a row of the matrix, exact releases with the packages of their day, or releases to be found.

    Args:
        words: one pin each, or `latest` alone.
        option: `--from` or `--to`, for messages.
        matrix: its stacks, and the packages it resolves.
        python: the value of `--python`.

    Raises:
        CompatError: a word is no pin, a package is pinned twice, or no pin is of a package of the matrix.
    """
    if list(words) == [LATEST]:
        return Upgrade((), python_for(python, matrix), False)
    moves = [read_move(word, option, matrix) for word in words]
    names = [move.name for move in moves]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise CompatError(f"{twice} is pinned twice", where=option, todo="Leave one of the pins out.")
    not_followed = tuple(platform_note(str(move)) for move in moves if is_of_platform(move.name))
    moves = [move for move in moves if not is_of_platform(move.name)]
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
        return Upgrade(tuple(moves), python_for(python, matrix), False, not_followed)
    pins = [pin_of(move, Version(str(move.exact))) for move in moves]
    return row_of(pins, matrix, not_followed) or of_its_day(pins, python_for(python, matrix), not_followed)


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
    names = (f"{'-'.join((canonicalize_name(pin.name), *sorted(pin.extras)))}{version_of(pin)}" for pin in pins)
    return shortened("-".join(names))


def read_move(word: str, option: str, matrix: Matrix, *, bare: bool = False) -> Move:
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


def _no_side(word: str, option: str, matrix: Matrix) -> UnknownName:
    known = places().shown(places().stacks)
    near = get_close_matches(word, [stack.name for stack in matrix.stacks], n=3, cutoff=0.6)
    return UnknownName(
        f"{word!r} is neither a stack, a pin, a file nor an interpreter",
        where=option,
        meaning=f"Stacks of {known} that look like it: {', '.join(near)}."
        if near
        else f"No stack of {known} looks like it.",
        todo=CAN_BE,
    )


def version_of(pin: Requirement) -> Version:
    """The release that a pin names."""
    return Version(next(iter(pin.specifier)).version)


def _is_pin_of(pin: Requirement, stack: Stack) -> bool:
    return canonicalize_name(pin.name) == stack.package and version_of(pin) == Version(stack.pin)
