"""The releases that moves mean, as pins: of the index, or of a wheel that is built."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from finetune_compat.contract.errors import CompatError
from finetune_compat.gate.asked import Move, Wanted
from finetune_compat.gate.pins import pin_of
from finetune_compat.gate.resolved import Context
from finetune_compat.stacks import index
from finetune_compat.stacks.built import Built, build


def releases_of(moves: Iterable[Move], context: Context) -> tuple[tuple[Requirement, ...], tuple[Path, ...]]:
    """The pins of the releases that moves mean, and the folders of the wheels that were built for them.

    Raises:
        CompatError: there is no such release.
        InstallError: it does not build.
    """
    pins, wheels = [], []
    for move in moves:
        if move.secret_address:
            context.progress(f"{move}: building its wheel")
            made = _built(move, context)
            wheels.append(made.folder)
            pins.append(pin_of(move, Version(made.version)))
        else:
            pins.append(pin_of(move, _release(move)))
    return tuple(pins), tuple(wheels)


def _release(move: Move) -> Version:
    """The release of the index that a move means: exact, or the newest that its specifier accepts.

    Raises:
        CompatError: there is no such release.
    """
    if move.exact is not None:
        return move.exact
    allowed = SpecifierSet(move.specifier)
    there = [release.version for release in index.releases(move.name)]
    found = max(allowed.filter(there), default=None)
    if found is None:
        raise CompatError(
            f"{move.name} has no release {move.specifier} with a wheel",
            where=index.index_url(),
            meaning=f"Its newest release is {there[-1]}." if there else "It has no release with a wheel.",
            todo="Name an existing release.",
        )
    return found


def _built(move: Move, context: Context) -> Built:
    """The wheel of a move.

    Raises:
        InstallError: it does not build, or is another package.
    """
    extras = f"[{','.join(move.extras)}]" if move.extras else ""
    remote = "://" in move.secret_address
    source = f"{move.name}{extras} @ {move.secret_address}" if remote else move.secret_address
    made = build(source, mark=True, fresh=context.fresh)
    if made.name != move.name:
        raise CompatError(
            f"it is {made.name}, and not {move.name}",
            where=str(move),
            meaning="The address belongs to another package.",
            todo="Correct the name or the address.",
        )
    return made


def with_built(side: Wanted, context: Context) -> Wanted:
    """The side with a pin and a wheel for each package that it builds.

    Raises:
        InstallError: one does not build.
    """
    pins, wheels = releases_of(side.built, context)
    return replace(side, requirements=(*side.requirements, *pins), built=(), wheels=(*side.wheels, *wheels))
