"""Compare cells of both sides while they run, to say BLOCK as soon as it is certain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import Observation
from finetune_compat.gate.decide import Compared, compared_cells
from finetune_compat.gate.decision import CellChange, Decision
from finetune_compat.results.run_files import Results, judge_one, read_record
from finetune_compat.run.progress import Follower

_LOOK_EVERY_S = 0.3


@dataclass
class Watcher:
    """Follows the observations of a run in a thread."""

    run: Path
    given: Compared
    """Both sides, without results."""
    ended: Callable[[Observation], None]
    """Called with each observation."""
    blocked: Callable[[CellChange], None]
    """Called once, with the first cell whose change blocks the upgrade. Nothing that follows can change that."""
    _seen: dict[str, Observation] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _certain: bool = False

    def __enter__(self) -> Self:
        self._follower = Follower(self.run / "observations.jsonl")
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            self.look()
        self.look()

    def look(self) -> None:
        """Read the observations that were added since the last look. Safe to call from any thread."""
        with self._looking:
            for line in self._follower.lines():
                record = read_record(line, str(self.run))
                if isinstance(record, Observation):
                    self._seen[record.cell] = record
                    self.ended(record)
                    self._compare(record)

    def _compare(self, seen: Observation) -> None:
        name = parse_cell(seen.cell).name
        cells = [f"{side.stack}/{name}" for side in (self.given.before, self.given.after)]
        both = {cell: self._seen[cell] for cell in cells if cell in self._seen}
        if self._certain or len(both) < len({*cells}):
            return
        verdicts = tuple(judge_one(one, self.given.ledger) for one in both.values())
        results = Results(self.run, (), both, verdicts)
        (cell,) = compared_cells(replace(self.given, results=results, wanted=()))
        if cell.effect is Decision.BLOCK:
            self._certain = True
            self.blocked(cell)
