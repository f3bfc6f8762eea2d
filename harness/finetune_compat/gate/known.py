"""What the committed baselines say of two stacks, before anything runs: `matrices/known-results.json`.

`compat known` derives the file from the baselines. It holds verdicts and causes, and no observations. It may order the
work of a gate and say BLOCK or HOLD. It never says ALLOW: what was measured elsewhere is no evidence for a machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from packaging.utils import canonicalize_name
from pydantic import TypeAdapter

from finetune_compat.checks import drift
from finetune_compat.checks.comparison import Health, health
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.records import Failure, Frame
from finetune_compat.contract.verdict import Verdict
from finetune_compat.gate.asked import Row, Wanted
from finetune_compat.machine.places import places
from finetune_compat.machine.record_files import read_record
from finetune_compat.results.lines import CellLine, line_of

FILE = "known-results.json"

NONE = -1
"""Place of a cell that a stack does not have, or that did not train."""

COMPARED = ("trl", "transformers", "peft", "bitsandbytes", "accelerate")
"""A side with these versions of a stack is taken for the stack."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A baseline."""

    name: str
    day: str
    """The day of its last cell, ISO 8601."""
    processor: str


@dataclass(frozen=True, slots=True)
class HeldStack:
    """A stack of the baselines."""

    name: str
    """With its Python, for example `trl0.22-py311`."""
    lock_sha256: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Held:
    """A result that one or more cells have."""

    verdict: Verdict
    """Without the cell's id. Only failing opinions."""
    freezes: tuple[int, ...]
    """Call chains that froze parameters, as places in the chains."""
    error: Failure | None
    """Without its frames."""
    raised: int
    """The line that raised the error, as the place of a chain; `NONE` if there is none."""
    emulates: bool


@dataclass(frozen=True, slots=True)
class HeldDrift:
    """How the computation before any update differs between two starts of a cell."""

    one: int
    other: int
    changes: int
    """Place in the changes."""


@dataclass(frozen=True, slots=True)
class HeldCell:
    """One cell on all stacks. The tuples have one place per stack."""

    name: str
    """Without a stack, for example `sft-peft-model[qwen2-nf4-gc]@cpu`."""
    origin: int
    seconds: float
    """Median duration."""
    results: tuple[int, ...]
    """Places in the results."""
    starts: tuple[int, ...]
    """Equal numbers: the same computation before any update."""
    drifts: tuple[HeldDrift, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """All results of the baselines."""

    inputs: str
    """Digest of the baselines, the ledger and the checks that the results follow from."""
    origins: tuple[Origin, ...]
    stacks: tuple[HeldStack, ...]
    chains: tuple[tuple[Frame, ...], ...]
    changes: tuple[tuple[drift.Change, ...], ...]
    results: tuple[Held, ...]
    cells: tuple[HeldCell, ...]

    def place(self, side: Row | Wanted, stack: str, lock_sha256: str) -> int | None:
        """The place of the stack that a side is; None if no baseline holds it.

        Args:
            side: the parsed side. A file or an environment is a stack if it pins the same versions of `COMPARED`.
            stack: name of the side's stack, with its Python.
            lock_sha256: of the side's lock; empty if it has none yet.
        """
        if isinstance(side, Row):
            return next(
                (at for at, held in enumerate(self.stacks) if (held.name, held.lock_sha256) == (stack, lock_sha256)),
                None,
            )
        pins = dict(_pins(side))
        wanted = {name: pins.get(name) for name in COMPARED}
        alike = (at for at, held in enumerate(self.stacks) if _compared(held) == wanted)
        return next(alike, None)

    def verdicts(self, place: int, stack: str) -> tuple[Verdict, ...]:
        """The verdicts on all cells of the stack at `place`, as those of a stack called `stack`."""
        return tuple(replace(held.verdict, cell=f"{stack}/{name}") for name, held in self._of(place))

    def lines(self, place: int, stack: str) -> dict[str, CellLine]:
        """The lines of the same cells, by id."""
        found = {}
        for name, held in self._of(place):
            line = line_of(replace(held.verdict, cell=f"{stack}/{name}"), None)
            freezes = tuple(self.chains[chain] for chain in held.freezes)
            raised = self.chains[held.raised] if held.raised != NONE else ()
            error = replace(held.error, frames=raised) if held.error else None
            found[line.cell] = replace(line, freezes=freezes, error=error, emulates=held.emulates)
        return found

    def _of(self, place: int) -> Iterator[tuple[str, Held]]:
        for cell in self.cells:
            if cell.results[place] != NONE:
                yield cell.name, self.results[cell.results[place]]

    def drifts(self, before: int, after: int) -> dict[str, tuple[drift.Change, ...]]:
        """By cell name, how the computation before any update differs between two stacks."""
        found = {}
        for cell in self.cells:
            starts = cell.starts[before], cell.starts[after]
            same = next((item for item in cell.drifts if (item.one, item.other) == starts), None)
            if same is not None:
                found[cell.name] = self.changes[same.changes]
        return found

    def origin(self, cells: Sequence[str]) -> Origin:
        """The baseline that measured the first of these cells."""
        return next((self.origins[cell.origin] for cell in self.cells if cell.name in cells), self.origins[0])


def _pins(side: Wanted) -> Iterator[tuple[str, str]]:
    for item in side.requirements:
        exact = [one.version for one in item.specifier if one.operator in ("==", "===")]
        if len(exact) == 1 and "*" not in exact[0]:
            yield canonicalize_name(item.name), exact[0]


def _compared(held: HeldStack) -> dict[str, str | None]:
    return {name: held.versions.get(name) for name in COMPARED}


@cache
def read_known(path: Path | None = None) -> Known:
    """The results of the committed baselines.

    Raises:
        RecordsError: the file is missing or invalid.
    """
    path, todo = path or places().matrices / FILE, "Make it again: compat known."
    return read_record(TypeAdapter(Known), path, name="the results of baselines", todo=todo)


def scouts(known: Known) -> tuple[str, ...]:
    """Names of the cells to run first, the most telling a second first.

    Together they meet every pair of stacks of which one has a regressed cell when the other is the baseline. Each is
    the cell with the most pairs a second that no earlier one meets.
    """
    meets = {cell.name: _regressions(cell, known) for cell in known.cells}
    seconds = {cell.name: max(cell.seconds, _LEAST_S) for cell in known.cells}
    chosen: list[str] = []
    left = 0
    for pairs in meets.values():
        left |= pairs
    while left:
        name = max(meets, key=lambda name: ((meets[name] & left).bit_count() / seconds[name], name))
        chosen.append(name)
        left &= ~meets[name]
    return tuple(chosen)


_LEAST_S = 0.05
"""Shorter durations are those of cells that end in an error, and mostly overhead."""


def _regressions(cell: HeldCell, known: Known) -> int:
    """The pairs of stacks between which the cell regresses, one bit each."""
    bits, number = 0, len(known.stacks)
    found = [_health(known, place) for place in cell.results]
    ill = sum(1 << at for at, what in enumerate(found) if what is Health.DEVIATES)
    for before, what in enumerate(found):
        if what in (Health.TRAINS, Health.REFUSED):
            bits |= ill << (before * number)
    return bits


def _health(known: Known, place: int) -> Health:
    return health(known.results[place].verdict) if place != NONE else Health.ABSENT


def order(known: Known | None, before: int | None, after: int | None) -> Mapping[str, int]:
    """The rank of each cell in a gate, the lowest first; empty without a baseline.

    First the shortest cell that the baselines expect to regress, then the scouts, then the other expected cells, then
    the rest, the longest first.
    """
    if known is None:
        return {}
    expected = [
        cell
        for cell in known.cells
        if before is not None
        and after is not None
        and _health(known, cell.results[before]) in (Health.TRAINS, Health.REFUSED)
        and _health(known, cell.results[after]) is Health.DEVIATES
    ]
    first = [cell.name for cell in sorted(expected, key=lambda cell: cell.seconds)]
    rest = [cell.name for cell in sorted(known.cells, key=lambda cell: -cell.seconds)]
    return {name: rank for rank, name in enumerate(dict.fromkeys((*first[:1], *scouts(known), *first, *rest)))}


def to_json(known: Known) -> str:
    """The content of the file, one stack, chain, change, result and cell a line."""
    whole = TypeAdapter(Known).dump_python(known, mode="json", exclude_defaults=True)
    parts = [f'"inputs":{json.dumps(known.inputs)}']
    for part in ("origins", "stacks", "chains", "changes", "results", "cells"):
        lines = ",\n".join(json.dumps(item, separators=(",", ":")) for item in whole[part])
        parts.append(f'"{part}":[\n{lines}\n]')
    return "{" + ",\n".join(parts) + "}\n"


class NotHeld(CompatError):
    """`--cached`, and no committed baseline holds both sides."""

    exit_code = ExitCode.COULD_NOT_TELL
