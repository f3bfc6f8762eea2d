"""When a gate that blocks has seen enough: the cells that are left say what others say on every measured stack."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from finetune_compat.contract.cell_id import parse_cell


@dataclass
class Enough:
    """The cells of both sides, and which of them must end although BLOCK is certain. Safe to call from any thread."""

    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the others need not run."""
    _cells: dict[str, None] = field(default_factory=dict)
    _telling: set[str] = field(default_factory=set)
    """Names of cells that tell something on one side: they are compared, so they must end on both."""
    _ended: set[str] = field(default_factory=set)
    _blocks: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def planned(self, cells: Iterable[str], telling: Iterable[str]) -> None:
        """Add the ids of a side's cells, and of those that tell something that no other cell does."""
        with self._lock:
            self._cells.update(dict.fromkeys(cells))
            self._telling.update(parse_cell(cell).name for cell in telling)

    def ended(self, cell: str) -> None:
        """A cell of one side ended."""
        with self._lock:
            self._ended.add(cell)
            self._look()

    def blocks(self) -> Collection[str]:
        """BLOCK is certain, so both sides are planned. The ids of the cells that need not run."""
        with self._lock:
            self._blocks = True
            self._look()
            return [cell for cell in self._left() if not self.tells(cell)]

    def tells(self, cell: str) -> bool:
        """Whether a cell tells something, on its own side or on the other as far as it is planned."""
        with self._lock:
            return parse_cell(cell).name in self._telling

    def of(self, stack: str) -> list[str]:
        """The planned cells of a side."""
        with self._lock:
            return [cell for cell in self._cells if parse_cell(cell).stack == stack]

    def _look(self) -> None:
        if self._blocks and not any(map(self.tells, self._left())):
            self.stop.set()

    def _left(self) -> list[str]:
        return [cell for cell in self._cells if cell not in self._ended]
