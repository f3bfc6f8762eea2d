"""Decide: two judged sides and a policy in, the answer out. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import assert_never

from finetune_compat.checks import drift
from finetune_compat.checks.comparison import Change, Health, compare, health, is_judged
from finetune_compat.checks.judge import unable, without_gpu
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.cell_id import CellId, parse_cell
from finetune_compat.contract.records import REPORTED
from finetune_compat.contract.verdict import Outcome, Symptom, Verdict
from finetune_compat.contract.version import __version__
from finetune_compat.gate.decision import (
    AppliedException,
    Cause,
    CellChange,
    CellSide,
    Decision,
    FlowChange,
    Gate,
    Moved,
    SafeTarget,
    Side,
)
from finetune_compat.gate.defaults import Defaults
from finetune_compat.gate.differences import differences
from finetune_compat.gate.policy import Exempted, Policy
from finetune_compat.gate.reason import reason
from finetune_compat.report.wording import EMULATED
from finetune_compat.results.causes import Group, groups_of
from finetune_compat.results.lines import CellLine, line_of
from finetune_compat.results.run_files import Results

RANK = tuple(Decision)
"""Decisions in order of urgency, the most urgent last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The input of a decision."""

    before: Side
    after: Side
    results: Results
    """Results of the run that holds both sides."""
    ledger: Ledger
    policy: Policy
    today: date
    command: str
    """The command without `--flows` and `--cell`."""
    narrowed: str
    """The `--flows` and `--cell` options; empty for all cells."""
    left_out: tuple[str, ...]
    script: str = ""
    """The user's script that was run in place of cells."""
    wanted: tuple[str, ...] = ()
    """Flows or cells that the call selects by name; empty for all of them."""
    applies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By trainer of a script: the listed issues that apply to it and that it does not show, by id, as text."""
    lines: Mapping[str, CellLine] = field(default_factory=dict)
    """Lines of cells without an observation, by cell."""
    drifts: Mapping[str, tuple[drift.Change, ...]] = field(default_factory=dict)
    """Differences before any update of cells without observations, by name."""


def decide(given: Compared, defaults: Defaults, targets: Mapping[str, SafeTarget]) -> Gate:
    """The answer.

    Args:
        given: both sides.
        defaults: the changed defaults of the configuration classes.
        targets: the safe target of each regressed cell, by cell name.
    """
    cells = compared_cells(given)
    causes = _causes(cells, given, targets)
    decision = _decision(cells)
    emulated = bool(given.script) and any(side.line.emulates for cell in cells for side in cell.sides)
    return Gate(
        decision=decision,
        reason=reason(decision, given.before, given.after, cells, causes) + (f" {EMULATED}" if emulated else ""),
        script=given.script,
        before=given.before,
        after=given.after,
        cells=cells,
        causes=causes,
        flows=_flows(cells),
        moved=moved(given.before.versions, given.after.versions),
        defaults=defaults.changed,
        defaults_unknown=defaults.unknown,
        exceptions=tuple(_applied(item, cells, given.today) for item in given.policy.exceptions),
        left_out=given.left_out,
        command=f"{given.command}{given.narrowed}",
        run=given.results.run,
        harness_version=__version__,
    )


# -------------------------------------------------------------------------------------------------------------- cells


def compared_cells(given: Compared) -> tuple[CellChange, ...]:
    """Every cell of either side, and every selected name that neither side has, in catalog order."""
    verdicts = {verdict.cell: verdict for verdict in given.results.verdicts}
    sides = (given.before.stack, given.after.stack)
    named: dict[str, None] = {}
    for cell in verdicts:
        found = parse_cell(cell)
        if found.flow and found.stack in sides:
            named[found.name] = None
    there = {part for name in named for part in (of_name(name).flow, of_name(name).test)}
    named.update(dict.fromkeys(name for name in given.wanted if name not in there))
    ordered = sorted(named, key=_place)
    # A cell without a verdict gets the verdict on its stack, whose reason is why no cell ran.
    before, after = (
        {name: verdicts.get(f"{stack}/{name}", verdicts.get(stack)) for name in ordered} for stack in sides
    )
    cells = tuple(_cell(name, before[name], after[name], given) for name in ordered)
    if not any(map(_has_baseline, cells)):
        return tuple(map(_without_baseline, cells))
    judged = {cell.flow for cell in cells if is_judged(_verdict(cell.after))}
    return tuple(cell if cell.flow in judged else _unjudged(cell) for cell in cells)


def _place(name: str) -> tuple[int, int]:
    """The place of a cell in the catalog, whatever order cells run in; after it for scripts."""
    cell = of_name(name)
    return _FLOWS.get(cell.flow, len(_FLOWS)), _TESTS.get(cell.test, -1)


_FLOWS = {flow.name: place for place, flow in enumerate(CATALOG)}
_TESTS = {f"{flow.name}[{variant}]": place for flow in CATALOG for place, variant in enumerate(flow.variants)}


def _has_baseline(cell: CellChange) -> bool:
    return health(_verdict(cell.before)) not in (Health.UNKNOWN, Health.ABSENT)


def _without_baseline(cell: CellChange) -> CellChange:
    """The cell with COULD NOT TELL: no cell of the gate has a baseline, so the effect of the upgrade is unknown."""
    return replace(cell, effect=Decision.COULD_NOT_TELL, exception=None)


def _unjudged(cell: CellChange) -> CellChange:
    """The cell with COULD NOT TELL for ALLOW: the candidate trained no cell of the flow. An exception still allows."""
    allowed = cell.effect is Decision.ALLOW and cell.exception is None
    return replace(cell, effect=Decision.COULD_NOT_TELL) if allowed else cell


def of_name(name: str) -> CellId:
    """The id of the cell called `name`, with an empty stack."""
    return parse_cell(f"/{name}")


def _cell(name: str, before: Verdict | None, after: Verdict | None, given: Compared) -> CellChange:
    before, after = _for_a_gate(before, given), _for_a_gate(after, given)
    one, other = _side(before, given), _side(after, given)
    seen = (one.seen if one else None, other.seen if other else None)
    differ = drift.script_changes if given.script else drift.changes
    drifts = differ(seen[0], seen[1]) if seen[0] and seen[1] else given.drifts.get(name, ())
    drifts += drift.scaling_changes(
        *(given.results.scaling.get(side.verdict.cell) if side else None for side in (one, other))
    )
    drifts = (*drifts, *_listed(name, given))
    change = compare(before, after, drifts)
    cell = of_name(name)
    effect = given.policy.effect(change, after, given.ledger)
    issues = _issues(change, before, after)
    valid = (item for item in given.policy.exceptions if not item.expired(given.today))
    exception = next((item for item in valid if item.covers(cell.flow, change, issues)), None)
    accepted = exception is not None and effect in (Decision.HOLD, Decision.BLOCK)
    return CellChange(
        name=name,
        flow=cell.flow,
        change=change,
        effect=Decision.ALLOW if accepted else effect,
        exception=exception.reason if accepted and exception else None,
        before=one,
        after=other,
        differences=differences(*seen),
        drifts=drifts,
        again=given.command if given.script else f"{given.command} {_narrowed_to(cell)}",
    )


def _listed(name: str, given: Compared) -> Iterator[drift.Change]:
    """The listed issues that apply to a trainer on one side only."""
    one, other = (given.applies.get(f"{side.stack}/{name}", {}) for side in (given.before, given.after))
    for issue in sorted({*one} ^ {*other}):
        where = given.before if issue in one else given.after
        yield drift.Change(drift.DriftKind.LISTED, None, f"{issue} on {where.asked}: {one.get(issue) or other[issue]}")


def _narrowed_to(cell: CellId) -> str:
    return f"--cell '{cell.test}'" if cell.variant else f"--flows {cell.flow}"


def _for_a_gate(verdict: Verdict | None, given: Compared) -> Verdict | None:
    """The verdict as the gate uses it.

    A cell that fails only because there is no GPU counts as an infrastructure failure. A run needs such a cell in the
    ledger, but for an upgrade it carries no information. A failing cell names only the listed issues that it shows:
    it may have ended before it reached the others.
    """
    if verdict is None or verdict.outcome is not Outcome.FAIL or not verdict.failing:
        return verdict
    seen = given.results.observations.get(verdict.cell)
    held = given.lines.get(verdict.cell)
    error = seen.error if seen else held.error if held else None
    if error is not None and verdict.failing == ("F001",) and without_gpu(error.message):
        return Verdict(verdict.cell, Outcome.INFRASTRUCTURE, unable(error), Symptom.UNKNOWN)
    links = tuple(issue.link for issue in given.ledger.issues if issue.id in verdict.shown)
    return replace(verdict, issues=verdict.shown, links=links)


def _side(verdict: Verdict | None, given: Compared) -> CellSide | None:
    if verdict is None:
        return None
    seen = given.results.observations.get(verdict.cell)
    return CellSide(verdict, given.lines.get(verdict.cell) or line_of(verdict, seen), seen)


def _issues(change: Change, before: Verdict | None, after: Verdict | None) -> tuple[str, ...]:
    """The listed issues that the deviating side shows. Empty for a cell that fails, whatever the ledger lists."""
    shown = before if change is Change.FIXED else after
    return shown.issues if shown is not None and shown.outcome is Outcome.XFAIL else ()


def _applied(item: Exempted, cells: Iterable[CellChange], today: date) -> AppliedException:
    covered = [
        cell.name
        for cell in cells
        if cell.change is not Change.UNCHANGED
        and cell.effect is not Decision.COULD_NOT_TELL
        and item.covers(cell.flow, cell.change, _issues(cell.change, _verdict(cell.before), _verdict(cell.after)))
    ]
    return AppliedException(
        item.flow, item.issue, item.change, item.reason, item.expires, item.expired(today), tuple(covered)
    )


def _verdict(side: CellSide | None) -> Verdict | None:
    return side.verdict if side else None


# ------------------------------------------------------------------------------------------------------------- causes


def _causes(cells: Sequence[CellChange], given: Compared, targets: Mapping[str, SafeTarget]) -> tuple[Cause, ...]:
    found: dict[tuple[object, ...], list[CellChange]] = {}
    for change in Change:
        news = [cell for cell in cells if cell.change is change and cell.is_news]
        groups = _groups(change, news, given)
        for cell in news:
            found.setdefault((change, *_kind(cell, groups)), []).append(cell)
    causes = [_cause(same, given, targets) for same in found.values()]
    order = list(Change)
    return tuple(sorted(causes, key=lambda cause: (-RANK.index(cause.effect), order.index(cause.change))))


def _kind(cell: CellChange, groups: Sequence[Group]) -> tuple[object, ...]:
    """A key that is equal for cells with the same change and the same reason."""
    for place, group in enumerate(groups):
        side = _deviating_side(cell)
        if side is not None and side.verdict.cell in group.cells:
            return (place,)
    match cell.change:
        case Change.OBJECTIVE_CHANGED:
            return tuple(sorted({item.kind for item in cell.drifts}))
        case Change.LOST_COVERAGE | Change.INCONCLUSIVE:
            return (cell.after.verdict.reason if cell.after else "",)
        case _:
            return ()


def _groups(change: Change, cells: Sequence[CellChange], given: Compared) -> tuple[Group, ...]:
    sides = [side for cell in cells if (side := _deviating_side(cell)) is not None]
    lines = [side.line for side in sides]
    stacks = list(dict.fromkeys(line.stack for line in lines))
    return groups_of(lines, given.ledger, stacks) if change is not Change.LOST_COVERAGE else ()


def _deviating_side(cell: CellChange) -> CellSide | None:
    """The side that shows why the cell must be reported; None if neither side deviates."""
    match cell.change:
        case Change.FIXED:
            return cell.before
        case Change.REGRESSED | Change.STILL_FAILING | Change.NEWLY_FAILING:
            return cell.after
        case Change.INCONCLUSIVE:
            sides = [side for side in (cell.after, cell.before) if side]
            unknown = [side for side in sides if health(side.verdict) is Health.UNKNOWN]
            untrained = [side for side in sides if side.verdict.untrained]
            return next(iter((*unknown, *untrained)), None)
        case (
            Change.UNCHANGED
            | Change.NOW_REFUSED
            | Change.OBJECTIVE_CHANGED
            | Change.LOST_COVERAGE
            | Change.GAINED_COVERAGE
        ):
            return None
    assert_never(cell.change)


def _cause(cells: Sequence[CellChange], given: Compared, targets: Mapping[str, SafeTarget]) -> Cause:
    first = cells[0]
    sides = [side for cell in cells if (side := _deviating_side(cell)) is not None]
    stacks = list(dict.fromkeys(side.line.stack for side in sides))
    groups = groups_of([side.line for side in sides], given.ledger, stacks)
    return Cause(
        change=first.change,
        effect=max((cell.effect for cell in cells), key=RANK.index),
        cells=tuple(cell.name for cell in cells),
        flows=tuple(dict.fromkeys(cell.flow for cell in cells)),
        group=groups[0] if groups else None,
        reason=_why(first, sides),
        target=next((targets[cell.name] for cell in cells if cell.name in targets), None),
    )


def _why(cell: CellChange, sides: Sequence[CellSide]) -> str:
    if sides:
        before = cell.before.verdict.symptom if cell.before else None
        loud = cell.change is Change.NEWLY_FAILING and before is Symptom.ERROR
        hushed = loud and sides[0].verdict.symptom is not Symptom.ERROR
        return f"{sides[0].verdict.reason}{'; it raised an error before, and raises none now' if hushed else ''}"
    if cell.change is Change.OBJECTIVE_CHANGED:
        return "; ".join(f"{item.kind}: {item.detail}" for item in cell.drifts)
    if not cell.sides:
        return "neither side has it"
    return cell.after.verdict.reason if cell.after else ""


# ----------------------------------------------------------------------------------------------------------- the whole


def _decision(cells: Sequence[CellChange]) -> Decision:
    return max((cell.effect for cell in cells), key=RANK.index, default=Decision.COULD_NOT_TELL)


def _flows(cells: Sequence[CellChange]) -> tuple[FlowChange, ...]:
    stories = {flow.name: flow.story for flow in CATALOG}
    by_flow: dict[str, list[CellChange]] = {}
    for cell in cells:
        by_flow.setdefault(cell.flow, []).append(cell)
    return tuple(
        FlowChange(
            flow,
            stories.get(flow, ""),
            dict(Counter(cell.change for cell in of_flow)),
            max((cell.effect for cell in of_flow), key=RANK.index),
        )
        for flow, of_flow in by_flow.items()
    )


def moved(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Moved, ...]:
    """Packages whose version differs: first those in `REPORTED`, then the others by name."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    names.sort(key=lambda name: (REPORTED.index(name) if name in REPORTED else len(REPORTED), name))
    return tuple(Moved(name, before.get(name), after.get(name)) for name in names)
