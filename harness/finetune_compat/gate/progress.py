"""What a person sees while a gate runs: a line that moves on a terminal, a line every half minute without one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.machine.console import PIPED_WIDTH, printable
from finetune_compat.run.estimate import OUTLIER, START_S, pace
from finetune_compat.run.priority import format_span

REPORT_EVERY_S = 30.0
"""Seconds between two lines if stderr is not a terminal."""


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
        self._took: dict[str, float] = {}
        self._workers = 1
        columns = (SpinnerColumn(), BarColumn(20), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
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
            self._console.print(printable(line), soft_wrap=not self._console.is_terminal, highlight=False, markup=False)

    def phase(self, of: str, text: str) -> None:
        """Show what is going on for `of`, a side or the search; an empty text ends it."""
        with self._lock:
            self._phases.pop(of, None)
            if text:
                self._phases[of] = text
            self._refresh()

    def expect(self, seconds: Mapping[str, float], workers: int) -> None:
        """Add cells to run, with their expected seconds by id. `workers` run at once, over all stacks."""
        with self._lock:
            self._expected.update(seconds)
            self._workers = max(1, workers)
            self._refresh()

    def ended(self, cell: str, seconds: float) -> None:
        """Count a cell as done."""
        with self._lock:
            if cell in self._expected:
                self._took[cell] = seconds
            self._refresh()

    def __str__(self) -> str:
        with self._lock:
            phases = "; ".join(f"{of}: {text}" for of, text in self._phases.items())
            left = {cell: seconds for cell, seconds in self._expected.items() if cell not in self._took}
            if not self._expected:
                return phases or "starting"
            counts = f"{len(self._took)} of {len(self._expected)} cells"
            if left:
                really = [min(self._took[cell], OUTLIER * self._expected[cell]) for cell in self._took]
                predicted = [self._expected[cell] for cell in self._took]
                waiting = {parse_cell(cell).stack for cell in left} - {parse_cell(cell).stack for cell in self._took}
                seconds = sum(left.values()) / self._workers * pace(really, predicted) + (START_S if waiting else 0)
                counts += f", about {format_span(seconds)} left"
            return f"{counts}{f'; {phases}' if phases else ''}"

    def _refresh(self) -> None:
        total = len(self._expected) or None
        self._bar.update(self._task, description=self._fitting(), completed=len(self._took), total=total)

    def _fitting(self) -> str:
        """The text in one line of the terminal, beside the bar and the clock."""
        room = max(20, self._console.width - 34)
        text = printable(str(self))
        return text if len(text) <= room else f"{text[: room - 3]}..."

    def _tick(self) -> None:
        while not self._over.wait(0.5):
            with self._lock:
                if not self._console.is_terminal and time.monotonic() - self._said_at >= REPORT_EVERY_S:
                    self.say(str(self))
