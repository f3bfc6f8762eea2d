"""Which cells a budget runs first, and which it leaves out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError
from finetune_compat.run.estimate import START_S, least, makespan
from finetune_compat.run.workers import JOIN_S


class Why(StrEnum):
    """Why a cell is important, most important reason first. A cell may have several reasons."""

    CHANGED = "changed"
    """The cell's store address changed since it ran, or the cell never ran."""
    RED = "red before"
    """The last run of the cell failed, or was lost to an infrastructure failure (`Store.lost`)."""
    EDGE = "edge of a ledger window"
    """The neighbouring release has other known issues listed: fixes and regressions begin here."""


@dataclass(frozen=True, slots=True)
class Task:
    """A cell to run."""

    cell: str
    seconds: float
    """Expected duration."""
    why: frozenset[Why]

    @property
    def reasons(self) -> str:
        """The reasons, separated by commas; `unchanged` without any."""
        return ", ".join(why for why in Why if why in self.why) or "unchanged"


@dataclass(frozen=True, slots=True)
class Cut:
    """The tasks that fit a budget and the tasks that do not, each in order of importance."""

    kept: tuple[Task, ...]
    left_out: tuple[Task, ...]


def by_importance(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Sort tasks by importance. Among equals the shortest comes first, so that more of them run."""
    return tuple(sorted(tasks, key=lambda task: ([why not in task.why for why in Why], task.seconds, task.cell)))


def cut(tasks: Iterable[Task], budget_s: float, cores: int, *, splits: bool) -> Cut:
    """As many of `tasks` as end within `budget_s` on `cores`, the most important first.

    With `splits`, the cells of a stack run on any number of them, else on one.

    The first cell of a stack also costs the start of the stack. A task that does not fit is left out; a shorter task
    after it may still fit.
    """
    load: dict[str, float] = {}
    kept, left_out = [], []
    longest = 0.0
    for task in by_importance(tasks):
        stack = parse_cell(task.cell).stack
        tried = {**load, stack: load.get(stack, START_S) + task.seconds}
        dearest = max(longest, task.seconds)
        needs = _shared(tried, dearest, cores) if splits else makespan(tried.values(), cores)
        if needs <= budget_s:
            load, longest = tried, dearest
            kept.append(task)
        else:
            left_out.append(task)
    return Cut(tuple(kept), tuple(left_out))


def _shared(load: Mapping[str, float], longest: float, cores: int) -> float:
    """Seconds until all is done, where another worker joins a stack if its cells take longer than `JOIN_S`."""
    alone = START_S + min(JOIN_S, max(load.values()) - START_S)
    return max(alone, least(load.values(), longest, cores))


def edges(listed: Mapping[str, Sequence[object]]) -> frozenset[str]:
    """Stacks of one axis whose neighbour has other issues listed.

    Args:
        listed: by stack, oldest first: the issues that the ledger lists for one flow and variant.
    """
    names = list(listed)
    pairs = [(a, b) for a, b in itertools.pairwise(names) if tuple(listed[a]) != tuple(listed[b])]
    return frozenset(name for pair in pairs for name in pair)


_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def parse_span(text: str, option: str) -> float:
    """Parse a duration such as `30m`, `1h30m`, `90s` or `90` into seconds.

    Raises:
        CompatError: `text` is not a duration, or the duration is 0.
    """
    found = _SPAN.fullmatch(text.strip())
    hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0.0, 0.0, 0.0)
    span = hours * 3600 + minutes * 60 + seconds
    if not span:
        raise CompatError(f"{text!r} is not a valid duration", where=option, todo="Write it as 30m, 1h30m or 90s.")
    return span


def format_span(seconds: float) -> str:
    """A duration as text: `45 s`, `6 min`, `1 h 5 min`."""
    if seconds < 90:  # noqa: PLR2004 - below this, seconds are more precise than "1 min"
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004 - an hour
