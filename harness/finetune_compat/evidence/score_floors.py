"""The scores of planted faults may not fall: `python -m finetune_compat.evidence.score_floors` fails if one does.

tests/score_floors.toml    the least that the records in reports/faults and reports/exam may show
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from finetune_compat.evidence import exam, faults, independent_faults
from finetune_compat.machine.places import places

FLOORS = Path("tests") / "score_floors.toml"


@dataclass(frozen=True, slots=True)
class Score:
    """What one set of faults shows on one stack."""

    set: str
    """`checks`, `reports`, `scripts` or `healthy scripts`, as in the file of floors."""
    stack: str
    right: int
    of: int

    def __str__(self) -> str:
        return f"{self.right} of {self.of}"


def scores() -> tuple[Score, ...]:
    """The scores of all records.

    Raises:
        RecordsError: a record cannot be read.
    """
    return tuple(_scores())


def _scores() -> Iterator[Score]:
    for planted in faults.read_records():
        yield Score("checks", planted.stack, len(planted.named), len(planted.named))
    for found in independent_faults.read_records():
        yield Score("reports", found.stack, len(found.effective) - len(found.missed), len(found.effective))
    for held in exam.read_records():
        for name, rate in (("scripts", held.missed), ("healthy scripts", held.false_alarms)):
            yield Score(name, held.stack, rate.trials - rate.wrong, rate.trials)


def read_floors(checkout: Path) -> dict[tuple[str, str], Score]:
    """The floors of this checkout, by set and stack."""
    raw = tomllib.loads((checkout / FLOORS).read_text(encoding="utf-8"))
    return {
        (name, stack): Score(name, stack, *map(int, text.split(" of ")))
        for name, stacks in raw.items()
        for stack, text in stacks.items()
    }


def fallen(found: tuple[Score, ...], floors: Mapping[tuple[str, str], Score]) -> tuple[str, ...]:
    """One sentence for each score that is below its floor, has none, or has a floor and no record. Pure.

    A score is below if its share of right answers is smaller, or if it is of fewer faults.
    """
    there = {(one.set, one.stack): one for one in found}
    problems = [
        f"{name} on {stack}: no record, at least {floors[name, stack]}" for name, stack in floors.keys() - there
    ]
    for place, one in there.items():
        floor = floors.get(place)
        if floor is None:
            problems.append(f"{one.set} on {one.stack}: {one}, without a floor")
        elif one.of < floor.of or Fraction(one.right, one.of) < Fraction(floor.right, floor.of):
            problems.append(f"{one.set} on {one.stack}: {one}, at least {floor}")
    return tuple(sorted(problems))


def main() -> int:
    """Print what has fallen; 1 if anything has."""
    problems = fallen(scores(), read_floors(places().the_checkout("the floors of the scores")))
    for problem in problems:
        print(f"{problem}. If this is right, change {FLOORS} and say why.")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
