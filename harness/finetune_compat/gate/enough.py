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
    _cells: set[str] = field(default_factory=set)
    _telling: set[str] = field(default_factory=set)
    """Names of cells that tell something on one side: they are compared, so they must end on both."""
    _ended: set[str] = field(default_factory=set)
    _blocks: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def planned(self, cells: Iterable[str], telling: Iterable[str]) -> None:
        """Add the ids of a side's cells, and of those that tell something that no other cell does."""
        with self._lock:
            self._cells.update(cells)
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
            return [cell for cell in self._cells - self._ended if not self._tells(cell)]

    def _look(self) -> None:
        if self._blocks and not any(map(self._tells, self._cells - self._ended)):
            self.stop.set()

    def _tells(self, cell: str) -> bool:
        return parse_cell(cell).name in self._telling
