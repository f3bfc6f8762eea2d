"""Every sentence of a gate's report. Takes facts and numbers as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from harness.comparison import Change
from harness.gate.decision import (
    AppliedException,
    Cause,
    CellChange,
    Decision,
    DefaultChange,
    Difference,
    Gate,
    Moved,
    Rule,
    SafeTarget,
    Side,
)
from harness.report import wording

ABSENT = wording.ABSENT

MOST_MOVED = 8
"""Packages or defaults that are named in a terminal; of more, how many."""


def reason(
    decision: Decision, before: Side, after: Side, cells: Sequence[CellChange], causes: Sequence[Cause]
) -> str:
    """The decision's reason in one sentence."""
    first = next((cause for cause in causes if cause.effect is decision and decision is not Decision.ALLOW), None)
    if first is None:
        return _without_cause(decision, before, after, cells)
    titles = "; ".join(first.group.titles) if first.group and first.group.titles else wording.shortened(first.reason)
    issues = f" ({', '.join(first.group.issues)})" if first.group and first.group.issues else ""
    why = f": {titles}{issues}" if titles and first.reason else ""
    more = sum(cause.effect is decision for cause in causes) - 1
    also = f", and {_numbered(more, 'other reason')}" if more else ""
    said = f"{_cells(first)} {verb(first.change, len(first.cells))}{why}{also}"
    return f"{said}; {target(first.target)}." if first.target else f"{said}."


def _without_cause(decision: Decision, before: Side, after: Side, cells: Sequence[CellChange]) -> str:
    if decision is Decision.COULD_NOT_TELL:
        told = before.reason or after.reason or "no cell of it was measured"
        return f"Nothing is known of {before.asked}: {wording.shortened(told)}."
    fixed = sum(cell.change is Change.FIXED for cell in cells)
    accepted = sum(cell.exception is not None for cell in cells)
    also = f", {fixed} of them fixed" if fixed else ""
    also += f", {accepted} of them accepted by exceptions" if accepted else ""
    return f"Nothing stands against it in {_numbered(len(cells), 'cell')}{also}."


def verb(change: Change, number: int) -> str:
    """What cells do that changed so."""
    many = number != 1
    match change:
        case Change.UNCHANGED:
            return "are unchanged" if many else "is unchanged"
        case Change.REGRESSED:
            return "regress" if many else "regresses"
        case Change.FIXED:
            return "are fixed" if many else "is fixed"
        case Change.STILL_FAILING:
            return "still fail" if many else "still fails"
        case Change.NEWLY_FAILING:
            return "fail in a new way" if many else "fails in a new way"
        case Change.NOW_REFUSED:
            return "are now refused" if many else "is now refused"
        case Change.OBJECTIVE_CHANGED:
            return "compute something else before any update" if many else "computes something else before any update"
        case Change.LOST_COVERAGE:
            return "can no longer be run" if many else "can no longer be run"
        case Change.GAINED_COVERAGE:
            return "are new" if many else "is new"
        case Change.INCONCLUSIVE:
            return "could not be compared"
    assert_never(change)


def _cells(cause: Cause) -> str:
    many = len(cause.flows) > wording.MOST_ALIKE
    flows = f"{len(cause.flows)} flows" if many else ", ".join(cause.flows)
    return f"{_numbered(len(cause.cells), 'cell')} of {flows}"


def target(found: SafeTarget) -> str:
    """What the search for a safe target found, in a clause."""
    tried = ", ".join(item.version for item in found.tried if not item.passes)
    if found.version is None:
        left = f" ({found.untried} more were not run)" if found.untried else ""
        return f"no release of {found.package} that was run passes: {tried or 'there is none to run'}{left}"
    place = "first release above it" if found.above else "last release below it"
    return f"{found.package} {found.version} is the {place} that passes{f' ({tried} do not)' if tried else ''}"


def cause_head(cause: Cause) -> str:
    """First line of a cause."""
    return f"{cause.effect} {cause.change}: {_cells(cause)}"


def cause_facts(cause: Cause) -> tuple[str, ...]:
    """What was seen."""
    if cause.group is not None:
        titles = wording.cause_head(cause.group)
        return (titles, *wording.cause_facts(cause.group))
    return (wording.shortened(cause.reason),) if cause.reason else ()


def cause_advice(cause: Cause) -> tuple[str, ...]:
    """What to do about it."""
    if cause.change is Change.FIXED:
        return ()
    told = wording.cause_advice(cause.group) if cause.group else ()
    return (*told, *((f"{target(cause.target)}.",) if cause.target else ()))


def side(of: Side) -> str:
    """What a side ran on, and by which rule."""
    named = [f"{label} {of.versions[name]}" for name, label in wording.PACKAGES.items() if name in of.versions]
    return f"{of.stack}: {', '.join(named) or wording.shortened(of.reason)}; {rule(of)}"


def rule(of: Side) -> str:
    """Where the versions come from, in a clause."""
    match of.rule:
        case Rule.ROW:
            return f"a row of the matrix, the other packages as of {of.as_of}"
        case Rule.OF_ITS_DAY:
            return f"pins, the other packages as of {of.as_of}"
        case Rule.FILE:
            return f"the file's versions, what it leaves open as of {of.as_of}"
        case Rule.LIVE:
            return f"the versions installed there, what is missing as of {of.as_of}"
    assert_never(of.rule)


def moved(item: Moved) -> str:
    """A package that moved."""
    return f"{item.package} {item.before or ABSENT} -> {item.after or ABSENT}"


def default(item: DefaultChange) -> str:
    """A default that changed."""
    if item.before is None:
        return f"{item.config}.{item.field} is new, {item.after}"
    if item.after is None:
        return f"{item.config}.{item.field} is gone, was {item.before}"
    return f"{item.config}.{item.field} {item.before} -> {item.after}"


def exception(item: AppliedException) -> str:
    """An exception, and what it did."""
    named = ", ".join(str(part) for part in (item.flow, item.issue, item.change) if part)
    if item.expired:
        return f"expired on {item.expires} and no longer applies to {named} ({_numbered(len(item.cells), 'cell')}): {item.reason}"
    return f"until {item.expires} {named} is accepted ({_numbered(len(item.cells), 'cell')}): {item.reason}"


def difference(item: Difference) -> str:
    """A fact that is not what it was."""
    where = f" at {item.stage}" if item.stage else ""
    return f"{item.aspect}{where}: {item.before} -> {item.after}"


def left_out(gate: Gate) -> str:
    """What was not asked."""
    return f"Not asked, and not known: {', '.join(gate.left_out)}."


def shared_differences(gate: Gate) -> tuple[tuple[str, int], ...]:
    """Differences of healthy and other cells alike, each with the number of cells that have it, the most first."""
    counted: dict[str, int] = {}
    for cell in gate.cells:
        for item in cell.differences:
            counted[difference(item)] = counted.get(difference(item), 0) + 1
    return tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _numbered(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
