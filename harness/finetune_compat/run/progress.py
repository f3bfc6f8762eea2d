"""What of a run is done, what failed and what is left, from its observations as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from finetune_compat.checks import Outcome
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.run.estimate import OUTLIER, loads, makespan, pace
from finetune_compat.run.priority import span_told


class Follower:
    """The lines of a file that is appended to, each once and whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def lines(self) -> Iterator[str]:
        """Lines that were completed since the last call; of those there were at the beginning, none."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # the rest of it comes with the next call
                self._offset += len(line)
                yield line.decode()


@dataclass(slots=True)
class Progress:
    """How far a run has come. Changed by `begins` and `ends` alone."""

    expected: Mapping[str, float]
    """Seconds each cell to run is expected to take."""
    jobs: int
    """Stacks at once, if there are as many."""
    workers: Mapping[str, int] = field(default_factory=dict)
    """Of each stack that has more than one."""
    took: dict[str, float] = field(default_factory=dict)
    """Seconds, by cell that is done."""
    failed: dict[str, Outcome] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    """Stacks of which a cell began."""

    def begins(self, cell: str) -> None:
        """A cell begins, perhaps once more."""
        self.begun.add(parse_cell(cell).stack)
        self.took.pop(cell, None)
        self.failed.pop(cell, None)

    def ends(self, cell: str, seconds: float, outcome: Outcome) -> None:
        """A cell is done."""
        if cell not in self.expected:
            return
        self.begun.add(parse_cell(cell).stack)
        self.took[cell] = seconds
        if outcome in (Outcome.FAIL, Outcome.INFRASTRUCTURE):
            self.failed[cell] = outcome

    @property
    def done(self) -> int:
        """Cells."""
        return len(self.took)

    @property
    def at_work(self) -> int:
        """Stacks with cells done or running, and cells left."""
        return len(self.begun & {parse_cell(cell).stack for cell in self.expected if cell not in self.took})

    def left(self) -> dict[str, float]:
        """Seconds by stack with cells left; with the start of those that wait."""
        cells = {cell: seconds for cell, seconds in self.expected.items() if cell not in self.took}
        return loads(cells, frozenset(self.begun), self.workers)

    @property
    def left_s(self) -> float:
        """Seconds until all is done, at the pace of what was seen."""
        foretold = [self.expected[cell] for cell in self.took]
        # The first cell of a process imports the stack, which says nothing of the others.
        really = [min(self.took[cell], OUTLIER * self.expected[cell]) for cell in self.took]
        return makespan(self.left().values(), self.jobs) * pace(really, foretold)

    def __str__(self) -> str:
        red = f", {len(self.failed)} failed" if self.failed else ""
        left = f", about {span_told(self.left_s)} left" if self.done < len(self.expected) else ""
        return f"{self.done:,} of {len(self.expected):,} cells{red}, {self.at_work} stacks at work{left}"
