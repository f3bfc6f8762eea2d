"""Progress of a run: cells done, failed and left, from its observations while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from finetune_compat.checks import Outcome
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.results.run_files import untorn
from finetune_compat.run.estimate import OUTLIER, START_S, loads, makespan, pace
from finetune_compat.run.priority import format_span


class Follower:
    """Reads complete lines that are appended to a file, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def lines(self) -> Iterator[str]:
        """Lines completed since the last call. Lines that existed when the follower was made are not included."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # the next call reads the complete line
                self._offset += len(line)
                yield untorn(line.decode())


@dataclass(slots=True)
class Progress:
    """Progress of a run. Only `begins` and `ends` change it."""

    expected: Mapping[str, float]
    """Expected seconds by cell to run."""
    cores: int
    """Workers at once."""
    splits: bool = False
    """Whether a stack may have several of them."""
    took: dict[str, float] = field(default_factory=dict)
    """Seconds by finished cell."""
    failed: dict[str, Outcome] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    """Stacks with a started cell."""

    def begins(self, cell: str) -> None:
        """Record that a cell starts, for the first time or again."""
        self.begun.add(parse_cell(cell).stack)
        self.took.pop(cell, None)
        self.failed.pop(cell, None)

    def ends(self, cell: str, seconds: float, outcome: Outcome) -> None:
        """Record that a cell is finished."""
        if cell not in self.expected:
            return
        self.begun.add(parse_cell(cell).stack)
        self.took[cell] = seconds
        if outcome in (Outcome.FAIL, Outcome.INFRASTRUCTURE):
            self.failed[cell] = outcome

    @property
    def done(self) -> int:
        """Number of finished cells."""
        return len(self.took)

    @property
    def at_work(self) -> int:
        """Number of started stacks that have cells left."""
        return len(self.begun & self.left().keys())

    def left(self) -> dict[str, dict[str, float]]:
        """Expected seconds of the cells that are not finished, by stack and cell."""
        found: dict[str, dict[str, float]] = {}
        for cell, seconds in self.expected.items():
            if cell not in self.took:
                found.setdefault(parse_cell(cell).stack, {})[cell] = seconds
        return found

    @property
    def left_s(self) -> float:
        """Seconds until all is done, at the pace of what was seen."""
        predicted = [self.expected[cell] for cell in self.took]
        # The first cell of a process imports the stack, which says nothing of the others.
        really = [min(self.took[cell], OUTLIER * self.expected[cell]) for cell in self.took]
        return self._left_s() * pace(really, predicted)

    def _left_s(self) -> float:
        cells = {cell: seconds for cell, seconds in self.expected.items() if cell not in self.took}
        load = loads(cells, frozenset(self.begun)).values()
        if not self.splits:
            return makespan(load, self.cores)
        longest = max(cells.values(), default=0.0) + (0.0 if self.begun else START_S)
        return max(sum(load) / self.cores, longest)

    def __str__(self) -> str:
        red = f", {len(self.failed)} failed" if self.failed else ""
        left = f", about {format_span(self.left_s)} left" if self.done < len(self.expected) else ""
        return f"{self.done:,} of {len(self.expected):,} cells{red}, {self.at_work} stacks running{left}"
