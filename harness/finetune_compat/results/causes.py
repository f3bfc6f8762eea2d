"""Root causes: cells that do not pass for the same reason form one `Group`, which a reader triages once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, assert_never

from finetune_compat.checks.codes import CODES
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.records import Failure, Frame
from finetune_compat.contract.verdict import Kind, Sign, worst
from finetune_compat.results.lines import CellLine, Mark, ResultKind
from finetune_compat.results.order import Span, spans_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sighting(Generic[T]):
    """A distinct call chain or error, and the first stack of the group where it occurs."""

    what: T
    stack: str


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that do not pass for the same reason."""

    finding: ResultKind
    issues: tuple[str, ...]
    titles: tuple[str, ...]
    """Titles of the listed issues; without issues, of the failing checks."""
    links: tuple[str, ...]
    advice: tuple[str, ...]
    """Remedies of the listed issues; without issues, advice of the failing checks."""
    failing: tuple[tuple[str, str], ...]
    """Code and message of each failing check of the group's first cell."""
    kind: Kind | None
    """The most serious kind of the listed issues; None if none applies."""
    freezes: tuple[Sighting[tuple[Frame, ...]], ...]
    """Distinct call chains. Line numbers are ignored, because they change between releases."""
    errors: tuple[Sighting[Failure], ...]
    """Distinct errors. Numbers in their messages are ignored."""
    signs: tuple[tuple[Sign, int], ...]
    """What the user sees, each with the number of cells."""
    reason: str
    """The verdict's reason of the group's first cell."""
    cells: tuple[str, ...]
    flows: tuple[str, ...]
    spans: tuple[Span, ...]

    @property
    def mark(self) -> Mark:
        """The mark of all cells of the group."""
        match self.finding:
            case ResultKind.LISTED:
                return Mark.XFAIL
            case ResultKind.UNLISTED | ResultKind.GONE | ResultKind.DIFFERENT | ResultKind.UNMEASURED:
                return Mark.FAIL
            case ResultKind.MACHINE:
                return Mark.INFRASTRUCTURE
            case ResultKind.UNINSTALLABLE:
                return Mark.UNINSTALLABLE
        assert_never(self.finding)


def groups_of(lines: Iterable[CellLine], ledger: Ledger, order: Sequence[str]) -> tuple[Group, ...]:
    """The lines that are not passes, grouped by root cause: listed issues first, failures last, next to the totals.

    Args:
        lines: cells in the order of the report.
        ledger: titles and remedies of listed issues.
        order: names of all stacks of the run in the order of the report, to find consecutive stacks.
    """
    found: dict[tuple[ResultKind, tuple[str, ...]], list[CellLine]] = {}
    for line in lines:
        if line.finding is not None:
            found.setdefault((line.finding, _cause(line, line.finding)), []).append(line)
    groups = [_group(finding, same, ledger, order) for (finding, _), same in found.items()]
    return tuple(sorted(groups, key=lambda group: _urgency(group.finding)))


def _urgency(finding: ResultKind) -> int:
    match finding:
        case ResultKind.LISTED:
            return 0
        case ResultKind.UNINSTALLABLE:
            return 1
        case ResultKind.MACHINE:
            return 2
        case ResultKind.UNLISTED | ResultKind.DIFFERENT | ResultKind.GONE | ResultKind.UNMEASURED:
            return 3
    assert_never(finding)


def _cause(line: CellLine, finding: ResultKind) -> tuple[str, ...]:
    """A key that is equal for cells of one finding with the same cause. It has no line numbers, which change between
    releases.
    """
    match finding:
        case ResultKind.LISTED | ResultKind.GONE | ResultKind.UNMEASURED:
            return line.issues
        case ResultKind.UNLISTED | ResultKind.DIFFERENT:
            return (*line.issues, *(code for code, _ in line.failing), *_culprit(line))
        case ResultKind.MACHINE:
            return (_without_numbers(line.reason),)
        case ResultKind.UNINSTALLABLE:
            return (line.reason,)  # its numbers stay: they are versions, which are part of the cause
    assert_never(finding)


def _culprit(line: CellLine) -> tuple[str, ...]:
    """The code that caused the failure: the raising line if the error is a finding (F001) or nothing froze, else the
    freezing lines. Empty if there are neither.
    """
    if line.error is not None and (not line.freezes or "F001" in dict(line.failing)):
        return (line.error.type, _without_numbers(line.error.message), *map(_place, line.error.frames[-1:]))
    return tuple(sorted({_place(chain[-1]) for chain in line.freezes if chain}))


def _place(frame: Frame) -> str:
    return f"{frame.file} {frame.function} {frame.code}"


def _without_numbers(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+|[0-9]+", "#", text)


def _group(finding: ResultKind, lines: Sequence[CellLine], ledger: Ledger, order: Sequence[str]) -> Group:
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
        kind=worst(issue.kind for issue in entries),
        freezes=_distinct(((chain, line.stack) for line in lines for chain in line.freezes), _chain_key),
        errors=_distinct(((line.error, line.stack) for line in lines if line.error), _error_key),
        signs=tuple(Counter(sign for line in lines for sign in line.signs).items()),
        reason=first.reason,
        cells=tuple(line.cell for line in lines),
        flows=tuple(dict.fromkeys(line.flow for line in lines if line.flow)),
        spans=spans_of({line.stack for line in lines}, order),
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
