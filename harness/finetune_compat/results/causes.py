"""Root causes: cells that are not green for one reason form one `Group`.

Twenty cells red for one reason are then one thing to look at, which they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, assert_never

from finetune_compat.checks.codes import CODES
from finetune_compat.checks.ledger import Kind, Ledger
from finetune_compat.contract.records import Failure, Frame
from finetune_compat.contract.verdict import Sign
from finetune_compat.results.lines import CellLine, Finding, Mark
from finetune_compat.results.order import same_axis

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sighting(Generic[T]):
    """Something seen, and the first stack of its group that it was seen on."""

    what: T
    stack: str


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring stacks of one axis, first and last included."""

    first: str
    last: str
    stacks: int


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that are not green for one and the same reason."""

    finding: Finding
    issues: tuple[str, ...]
    titles: tuple[str, ...]
    """Titles of the listed issues, else of the failing checks."""
    links: tuple[str, ...]
    advice: tuple[str, ...]
    """What the ledger, else the failing checks, say to do."""
    failing: tuple[tuple[str, str], ...]
    """Code and message, as the group's first cell has them."""
    platform: bool
    """Whether what is listed is the machine's doing and no library's."""
    freezes: tuple[Sighting[tuple[Frame, ...]], ...]
    """Distinct chains; line numbers, which move from release to release, make no difference."""
    errors: tuple[Sighting[Failure], ...]
    """Distinct errors; numbers in messages make no difference."""
    signs: tuple[tuple[Sign, int], ...]
    """How it looks to the user, and in how many cells."""
    reason: str
    """The judge's sentence on the first cell."""
    cells: tuple[str, ...]
    flows: tuple[str, ...]
    spans: tuple[Span, ...]

    @property
    def mark(self) -> Mark:
        """The mark that all of its cells carry."""
        match self.finding:
            case Finding.LISTED:
                return Mark.XFAIL
            case Finding.UNLISTED | Finding.GONE | Finding.DIFFERENT:
                return Mark.FAIL
            case Finding.MACHINE:
                return Mark.INFRASTRUCTURE
            case Finding.UNINSTALLABLE:
                return Mark.UNINSTALLABLE
        assert_never(self.finding)


def groups_of(lines: Iterable[CellLine], ledger: Ledger, order: Sequence[str]) -> tuple[Group, ...]:
    """The lines that are no passes, by root cause; what is listed comes first and what fails last, next to the totals.

    Args:
        lines: cells in the order they are shown.
        ledger: for titles and remedies of listed issues.
        order: names of all stacks of the run as they are shown, to tell which are neighbours.
    """
    found: dict[tuple[Finding, tuple[str, ...]], list[CellLine]] = {}
    for line in lines:
        if line.finding is not None:
            found.setdefault((line.finding, _cause(line, line.finding)), []).append(line)
    groups = [_group(finding, same, ledger, order) for (finding, _), same in found.items()]
    return tuple(sorted(groups, key=lambda group: _urgency(group.finding)))


def _urgency(finding: Finding) -> int:
    match finding:
        case Finding.LISTED:
            return 0
        case Finding.UNINSTALLABLE:
            return 1
        case Finding.MACHINE:
            return 2
        case Finding.UNLISTED | Finding.DIFFERENT | Finding.GONE:
            return 3
    assert_never(finding)


def _cause(line: CellLine, finding: Finding) -> tuple[str, ...]:
    """Equal for cells of one finding that have one reason. Line numbers are left out: they move between releases."""
    match finding:
        case Finding.LISTED | Finding.GONE:
            return line.issues
        case Finding.UNLISTED | Finding.DIFFERENT:
            return (*line.issues, *(code for code, _ in line.failing), *_culprit(line))
        case Finding.MACHINE:
            return (_without_numbers(line.reason),)
        case Finding.UNINSTALLABLE:
            return (line.reason,)  # the numbers in it are versions, and those are the reason
    assert_never(finding)


def _culprit(line: CellLine) -> tuple[str, ...]:
    """The code that did it: what raised where the error is itself a finding, else what froze, else nothing is known."""
    if line.error is not None and (not line.freezes or "F001" in dict(line.failing)):
        return (line.error.type, _without_numbers(line.error.message), *map(_place, line.error.frames[-1:]))
    return tuple(sorted({_place(chain[-1]) for chain in line.freezes if chain}))


def _place(frame: Frame) -> str:
    return f"{frame.file} {frame.function} {frame.code}"


def _without_numbers(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+|[0-9]+", "#", text)


def _group(finding: Finding, lines: Sequence[CellLine], ledger: Ledger, order: Sequence[str]) -> Group:
    first = lines[0]
    entries = [issue for issue in ledger.issues if issue.id in first.issues]
    checks = [CODES[code] for code, _ in first.failing]
    return Group(
        finding=finding,
        issues=first.issues,
        titles=tuple(item.title for item in entries or checks),
        links=first.links,
        advice=tuple(issue.remedy for issue in entries) or tuple(check.advice for check in checks),
        failing=first.failing,
        platform=bool(entries) and all(issue.kind is Kind.PLATFORM for issue in entries),
        freezes=_distinct(((chain, line.stack) for line in lines for chain in line.freezes), _chain_key),
        errors=_distinct(((line.error, line.stack) for line in lines if line.error), _error_key),
        signs=tuple(Counter(sign for line in lines for sign in line.signs).items()),
        reason=first.reason,
        cells=tuple(line.cell for line in lines),
        flows=tuple(dict.fromkeys(line.flow for line in lines if line.flow)),
        spans=_spans({line.stack for line in lines}, order),
    )


def _distinct(seen: Iterable[tuple[T, str]], key: Callable[[T], object]) -> tuple[Sighting[T], ...]:
    first: dict[object, Sighting[T]] = {}
    for what, stack in seen:
        first.setdefault(key(what), Sighting(what, stack))
    return tuple(first.values())


def _chain_key(chain: tuple[Frame, ...]) -> object:
    return tuple(_place(frame) for frame in chain)


def _error_key(error: Failure) -> object:
    return error.type, _without_numbers(error.message), _chain_key(error.frames[-1:])


def _spans(stacks: set[str], order: Sequence[str]) -> tuple[Span, ...]:
    """`stacks` as runs of neighbours in `order`; a run never leaves its axis."""
    runs: list[list[str]] = []
    for before, name in zip((None, *order), order, strict=False):
        if name in stacks and runs and runs[-1][-1] == before and same_axis(before, name):
            runs[-1].append(name)
        elif name in stacks:
            runs.append([name])
    return tuple(Span(run[0], run[-1], len(run)) for run in runs)
