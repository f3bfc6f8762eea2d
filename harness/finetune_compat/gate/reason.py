"""The reason of a decision, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from finetune_compat.checks.comparison import Change, Health, health
from finetune_compat.gate.decision import Cause, CellChange, Decision, SafeTarget, Side
from finetune_compat.machine.units import counted
from finetune_compat.report import wording
from finetune_compat.results.lines import ResultKind


def reason(decision: Decision, before: Side, after: Side, cells: Sequence[CellChange], causes: Sequence[Cause]) -> str:
    """The reason of the decision: its first cause, and the number of its other causes."""
    if decision is Decision.ALLOW:
        return _allowed(cells)
    if decision is Decision.COULD_NOT_TELL and all(_is_new(cell) for cell in cells):
        problem = before.reason or after.reason or "no cell of it ran"
        return f"Nothing is known of {before.asked}: {wording.shortened(problem)}."
    found = [cause for cause in causes if cause.effect is decision]
    first, more = found[0], len(found) - 1
    also = f" (and {counted(more, 'other cause')})" if more else ""
    safe = f"; {_target(first.target, after)}" if first.target else ""
    verb = _untrained if is_untrained(first) else _verb
    return f"{_cells(first)} {verb(first.change, many=len(first.cells) != 1)}{_why(first)}{also}{safe}."


def certain(cell: CellChange) -> str:
    """The sentence that is said while cells run, when one of them blocks the upgrade."""
    line = cell.after.line if cell.after else None
    if line is None:
        return f"BLOCK is certain: {cell.name} {_verb(cell.change, many=False)}"
    why = "; ".join(f"{code} {message.partition('; frozen by ')[0]}" for code, message in line.failing) or line.reason
    issues = f" ({', '.join(line.issues)})" if line.issues else ""
    chain = next(iter(line.freezes), ()) or (line.error.frames if line.error else ())
    place = f"; {wording.chain(chain[-1:])}" if chain else ""
    return f"BLOCK is certain: {cell.name} {_verb(cell.change, many=False)}{issues}: {wording.shortened(why)}{place}"


def is_untrained(cause: Cause) -> bool:
    """Whether its cells cannot be judged because they end in an error before training, on both sides."""
    seen = cause.group is not None and cause.group.finding is not ResultKind.MACHINE
    return seen and cause.change is Change.INCONCLUSIVE and cause.effect is Decision.COULD_NOT_TELL


def _is_new(cell: CellChange) -> bool:
    return health(cell.before.verdict if cell.before else None) is Health.ABSENT


def _allowed(cells: Sequence[CellChange]) -> str:
    fixed = sum(cell.change is Change.FIXED for cell in cells)
    accepted = sum(cell.exception is not None for cell in cells)
    also = f", {fixed} of them fixed" if fixed else ""
    also += f", {accepted} of them accepted by exceptions" if accepted else ""
    untrained = sum(cell.after is not None and cell.after.verdict.untrained for cell in cells)
    end = "it ends" if untrained == 1 else "they end"
    also += f", {untrained} of them not judged, as {end} in an error before training" if untrained else ""
    return f"Nothing blocks the upgrade in {counted(len(cells), 'cell')}{also}."


def _cells(cause: Cause) -> str:
    many = len(cause.flows) > wording.MOST_ALIKE
    flows = f"{len(cause.flows)} flows" if many else ", ".join(cause.flows)
    return f"{counted(len(cause.cells), 'cell')} of {flows}"


def _untrained(_: Change, *, many: bool) -> str:
    return f"{'end' if many else 'ends'} in an error before training, on both sides"


def _verb(change: Change, *, many: bool) -> str:
    match change:
        case Change.REGRESSED:
            return "regressed"
        case Change.NEWLY_FAILING:
            return f"{'fail' if many else 'fails'} in a way the other side does not show"
        case Change.STILL_FAILING:
            return f"{'fail' if many else 'fails'} as before"
        case Change.NOW_REFUSED:
            return f"trained and {'are' if many else 'is'} now refused"
        case Change.OBJECTIVE_CHANGED:
            return f"{'train' if many else 'trains'} with another objective"
        case Change.LOST_COVERAGE:
            return "can no longer be run"
        case Change.INCONCLUSIVE:
            return "could not be compared"
        case Change.UNCHANGED | Change.FIXED | Change.GAINED_COVERAGE:
            return f"{'are' if many else 'is'} {change}, which the policy does not allow"
    assert_never(change)


def _why(cause: Cause) -> str:
    group = cause.group
    if group is not None and group.issues:
        return f": {'; '.join(group.titles)} ({', '.join(group.issues)})"
    if group is not None and group.failing:
        # Not the title of the check, which names the healthy state.
        return f": {wording.shortened('; '.join(f'{code} {message}' for code, message in group.failing))}"
    return f": {wording.shortened(cause.reason)}" if cause.reason else ""


def nearest(found: SafeTarget) -> str:
    """Where the safe release is, for the sentence `X is the ... Y that passes`."""
    which = "first" if found.above else "newest"
    measured = "measured " if found.foretold else ""
    return f"{which} {measured}release {'above' if found.above else 'below'}"


def _target(found: SafeTarget, after: Side) -> str:
    asked = after.versions.get(found.package, after.asked)
    if found.version is None:
        return f"no other release of {found.package} is known to pass"
    place = nearest(found)
    beside = f", with {found.beside}" if found.beside else ""
    return f"{found.package} {found.version} is the {place} {asked} that passes{beside}"
