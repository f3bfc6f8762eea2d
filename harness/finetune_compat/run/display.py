"""Progress of a run on a terminal, or line by line."""

from __future__ import annotations

import time
from typing import Self

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from finetune_compat.machine.console import open_console
from finetune_compat.run.progress import Progress

REPORT_EVERY_S = 30.0
"""Seconds between two lines of progress if the output is not a terminal."""


class Display:
    """Shows progress: a bar on a terminal, else a line every `REPORT_EVERY_S`. Each failure is printed immediately."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._console = open_console()
        self._bar = Bar(
            BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=self._console, transient=True
        )
        self._task = self._bar.add_task(str(progress), total=len(progress.expected))
        self._reported_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()
        self.say(str(self._progress))

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)
        self._console.file.flush()

    def refresh(self) -> None:
        """Update the bar, or print a line if it is due."""
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self._progress.done, description=str(self._progress))
        elif time.monotonic() - self._reported_at >= REPORT_EVERY_S:
            self._reported_at = time.monotonic()
            self.say(str(self._progress))
