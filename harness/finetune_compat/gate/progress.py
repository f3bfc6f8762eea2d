"""What a person sees while a gate runs: a line that moves on a terminal, a line every half minute without one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.foreign_text import inert
from finetune_compat.machine.console import PIPED_WIDTH
from finetune_compat.run.estimate import START_S
from finetune_compat.run.priority import format_span

REPORT_EVERY_S = 30.0
"""Seconds between two lines if stderr is not a terminal."""

_BAR = 10
"""Characters of the bar. The text beside it needs the room: counts, time left, and what each side does."""
_SPEED_KNOWN_S = 5.0
"""Seconds after which the speed of a machine is known. It may be busy with other things."""


class GateProgress:
    """Lines and counts of one gate on stderr. Safe to call from several threads: lines never mix."""

    def __init__(self, console: Console | None = None) -> None:
        probe = console or Console(stderr=True, highlight=False)
        self._console = (
            probe if probe.is_terminal or console else Console(stderr=True, highlight=False, width=PIPED_WIDTH)
        )
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._said_at = time.monotonic()
        self._phases: dict[str, str] = {}
        self._expected: dict[str, float] = {}
        self._done: dict[str, float] = {}
        """When each cell ended, in seconds of the monotonic clock."""
        self._since = 0.0
        """When the cells were added that are counted for the speed."""
        self._workers = 1
        columns = (
            SpinnerColumn(),
            BarColumn(_BAR),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=self._console, transient=True, redirect_stdout=False)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._console.is_terminal:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        with self._lock:
            self._said_at = time.monotonic()
            self._console.print(inert(line), soft_wrap=not self._console.is_terminal, highlight=False, markup=False)

    def phase(self, of: str, text: str) -> None:
        """Show what is going on for `of`, a side or the search; an empty text ends it."""
        with self._lock:
            if text:
                self._phases[of] = text
            else:
                self._phases.pop(of, None)
            self._refresh()

    def expect(self, seconds: Mapping[str, float], workers: int) -> None:
        """Add cells to run, with their expected seconds by id. `workers` run at once, over all stacks."""
        with self._lock:
            if self._expected.keys() == self._done.keys():
                self._since = time.monotonic()  # nothing ran meanwhile
            self._expected.update(seconds)
            self._workers = max(1, workers)
            self._refresh()

    def drop(self, cells: Iterable[str]) -> None:
        """Expect these cells no longer."""
        with self._lock:
            for cell in cells:
                self._expected.pop(cell, None)
            self._refresh()

    def ended(self, cell: str) -> None:
        """Count a cell as done."""
        with self._lock:
            if cell in self._expected:
                self._done.setdefault(cell, time.monotonic())
            self._refresh()

    def __str__(self) -> str:
        with self._lock:
            texts = dict.fromkeys(self._phases.values())
            sides = {text: ", ".join(of for of, what in self._phases.items() if what == text) for text in texts}
            phases = "; ".join(f"{of}: {text}" for text, of in sides.items())
            if not self._expected:
                return phases or "starting"
            counts = f"{len(self._done)} of {len(self._expected)} cells"
            if len(self._done) < len(self._expected):
                counts += f", about {format_span(self._left_s())} left"
            return f"{counts}{f'; {phases}' if phases else ''}"

    def _left_s(self) -> float:
        """Expected seconds until all cells are done: at the speed since the first of them ended, if that is known."""
        left = {cell: seconds for cell, seconds in self._expected.items() if cell not in self._done}
        ended = sorted((when, cell) for cell, when in self._done.items() if when >= self._since)
        waiting = {parse_cell(cell).stack for cell in left} - {parse_cell(cell).stack for _, cell in ended}
        # The first cell ends after the import, which is no part of the speed.
        work = sum(self._expected[cell] for _, cell in ended[1:])
        took = time.monotonic() - ended[0][0] if ended else 0.0
        speed = work / took if work and took >= _SPEED_KNOWN_S else self._workers
        return sum(left.values()) / speed + (START_S if waiting else 0)

    def _refresh(self) -> None:
        total = len(self._expected) or None
        self._bar.update(self._task, description=self._fitting(), completed=len(self._done), total=total)

    def _fitting(self) -> str:
        """The text in one line of the terminal, beside the bar and the clock."""
        room = max(20, self._console.width - _BAR - 14)
        text = inert(str(self))
        return text if len(text) <= room else f"{text[: room - 3]}..."

    def _tick(self) -> None:
        while not self._over.wait(0.5):
            with self._lock:
                if not self._console.is_terminal and time.monotonic() - self._said_at >= REPORT_EVERY_S:
                    self.say(str(self))
