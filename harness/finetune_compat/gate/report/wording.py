"""All sentences and labels of the reports of a gate. Formats numbers and facts; counts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

from finetune_compat.checks.comparison import Change
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import DeviceKind, Precision
from finetune_compat.contract.verdict import Kind
from finetune_compat.gate.decision import (
    AppliedException,
    Cause,
    CellChange,
    Decision,
    DefaultChange,
    Difference,
    FlowChange,
    Gate,
    Moved,
    Rule,
    SafeTarget,
    Side,
)
from finetune_compat.gate.reason import is_untrained, nearest
from finetune_compat.gate.report.heat import Differing, Marks
from finetune_compat.machine.places import short_path
from finetune_compat.machine.units import counted
from finetune_compat.report import wording
from finetune_compat.results.run_files import RowState

TITLE = "May I upgrade?"
SIDES_HEADS = ("", "from", "to")
WINDOW_TITLE = "Flow by flow"
SAME = "Every cell trains on both sides in:"
WINDOW_HEADS = ("flow", "decision", "from", "to", "what changed")
CAUSES_TITLE = "What changed, by cause"
DIFFERENCES_HEADS = ("what", "at", "from", "to")
DIFFERING_TITLE = "What else differs, and in how many cells"
DIFFERING_HEADS = (*DIFFERENCES_HEADS, "cells", "flows")
MOVED_TITLE = "Packages that moved"
MOVED_HEADS = ("package", "from", "to")
DEFAULTS_TITLE = "Defaults that changed"
DEFAULTS_HEADS = ("class", "field", "from", "to")
EXCEPTIONS_TITLE = "Exceptions of the policy"
EXCEPTIONS_HEADS = ("for", "reason", "expires", "cells")
LIMITS_TITLE = "What this does not cover"
UNTRAINED = "Choose versions for the side in use that train, or other cells: these cells cannot be compared."

MARKS_NOTES = (
    f"{wording.ALL_GREEN} all cells train",
    "a6 six deviate, see a below",
    "?1 one was lost to the machine",
    "-2 two do not exist on that side",
)


def head(gate: Gate) -> str:
    """The decision and both sides, as a title."""
    by = f" by {gate.foretold_by}" if gate.foretold_by else ""
    return f"{gate.decision}{by}: {gate.before.asked} to {gate.after.asked}"


def place(cause: Cause) -> str:
    """The line that froze parameters or raised the error, in one sentence; empty if there is none."""
    if cause.group is None:
        return ""
    if cause.group.freezes:
        return f"frozen by {wording.chain(cause.group.freezes[0].what)}"
    error = cause.group.errors[0].what if cause.group.errors else None
    return f"raised by {wording.chain(error.frames[-1:])}" if error and error.frames else ""


def remedy(cause: Cause) -> str:
    """The first advice on a cause; empty if there is none."""
    advice = wording.cause_advice(cause.group) if cause.group and bad(cause.change) else ()
    if is_untrained(cause):
        return wording.WITHOUT_GPU if _needs_a_gpu(cause) else UNTRAINED
    return next(iter(advice), "")


def safe(found: SafeTarget, gate: Gate) -> str:
    """The nearest safe release in one sentence, and the versions that were tried before it."""
    failed = [tried.version for tried in found.tried if not tried.passes]
    tried = f" {_listing(failed)} {'does' if len(failed) == 1 else 'do'} not." if failed else ""
    if found.version is None:
        return f"no release of {found.package} that was tried passes.{tried}"
    asked = gate.after.versions.get(found.package, gate.after.asked)
    beside = f", with {found.beside} in place of the pinned versions" if found.beside else ""
    return f"{found.package} {found.version} is the {nearest(found)} {asked} that passes{beside}.{tried}"


def _listing(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def others(causes: Sequence[Cause]) -> str:
    """Causes in one line: how many, and of how many cells, by decision."""
    found: dict[Decision, tuple[int, int]] = {}
    for cause in causes:
        number, cells = found.get(cause.effect, (0, 0))
        found[cause.effect] = number + 1, cells + len(cause.cells)
    parts = [
        f"{effect} for {counted(number, 'cause')} ({counted(cells, 'cell')})"
        for effect, (number, cells) in found.items()
    ]
    return f"Also: {', '.join(parts)}." if parts else ""


def taken_line(gate: Gate) -> str:
    """The changed defaults that the script takes, in one line; empty if there are none."""
    fields = [
        f"{item.config}.{item.field} {item.before or 'no such field'} -> {item.after}"
        for item in gate.taken
        if item.before is not None or item.after not in ("None", "False")
    ]
    return f"Your script takes these new defaults: {', '.join(fields)}." if fields else ""


def moved_line(gate: Gate) -> str:
    """The packages that moved, in one line: the main ones by name."""
    main = [item for item in gate.moved if item.package in wording.PACKAGES]
    more = len(gate.moved) - len(main)
    named = [f"{item.package} {item.before or wording.ABSENT} -> {item.after or wording.ABSENT}" for item in main]
    return f"Moved: {', '.join(named + ([f'{more} more'] if more else []))}." if gate.moved else ""


def sides(gate: Gate) -> tuple[tuple[str, str, str], ...]:
    """Both sides as rows under `SIDES_HEADS`."""
    before, after = gate.before, gate.after
    return (
        ("asked for", before.asked, after.asked),
        ("stack", before.stack, after.stack),
        ("versions", versions(before), versions(after)),
        ("other packages", rule(before), rule(after)),
        ("result", state(before), state(after)),
    )


def versions(side: Side) -> str:
    """The versions of the main packages, in one line."""
    named = [f"{label} {side.versions[name]}" for name, label in wording.PACKAGES.items() if name in side.versions]
    return ", ".join(named) or wording.ABSENT


_FLOOR = ", or the matrix's earliest day if that is later"


def rule(side: Side) -> str:
    """Where the versions that the side does not name come from."""
    match side.rule:
        case Rule.ROW:
            return f"the committed lock of this row of the matrix, as of {side.as_of}"
        case Rule.OF_ITS_DAY:
            return f"as of {side.as_of}, the release day of the named versions{_FLOOR}"
        case Rule.FILE:
            return f"from the file; packages it does not pin as of {side.as_of}"
        case Rule.LIVE:
            return f"as installed there; missing packages as of {side.as_of}"
    assert_never(side.rule)


def state(side: Side) -> str:
    """The result of the side: `ran`, or its state and reason."""
    return "ran" if side.state is RowState.RAN else f"{side.state}: {wording.shortened(side.reason)}"


def marks(found: Marks) -> str:
    """The marks of all cells of a flow on one side."""
    listed = [f"{wording.marker(place)}{number}" for place, number in found.deviating]
    lost = [f"?{found.unknown}"] if found.unknown else []
    gone = [f"{wording.ABSENT}{found.absent}"] if found.absent else []
    return "".join([*listed, *lost, *gone]) or wording.ALL_GREEN


def changes(flow: FlowChange) -> str:
    """The number of cells of a flow by change."""
    return ", ".join(f"{number} {change}" for change, number in flow.changes.items())


def cause_head(cause: Cause, gate: Gate) -> str:
    """First line of a cause: its decision, its change, and its issues or failing checks."""
    what = _what(cause)
    return f"{cause.effect}: {cause.change}" + (f", {what}" if what else "") + rests(cause.cells, gate)


def _what(cause: Cause) -> str:
    if cause.group is None:
        return ""
    titles = "; ".join(cause.group.titles)
    if cause.group.issues:
        return f"{', '.join(cause.group.issues)}: {titles}"
    # The title of a check names the healthy state.
    codes = ", ".join(code for code, _ in cause.group.failing)
    return f"{'failed' if cause.change is Change.FIXED else 'fails'} {codes} ({titles})" if codes else ""


def cause_cells(cause: Cause) -> str:
    """The number of cells of a cause, and their flows."""
    number = f"{len(cause.cells)} cell{'s' if len(cause.cells) != 1 else ''}"
    return f"{number} of {', '.join(cause.flows)}" if cause.flows else number


def cause_facts(cause: Cause, gate: Gate) -> tuple[str, ...]:
    """The facts of a cause, one a line."""
    lines = wording.cause_facts(cause.group) if cause.group else (wording.shortened(cause.reason),)
    return tuple(f"{line}{rests(cause.cells, gate)}" for line in lines if line)


def cause_advice(cause: Cause, gate: Gate) -> tuple[str, ...]:
    """What to do about a cause, one advice a line."""
    advice = wording.cause_advice(cause.group) if cause.group and bad(cause.change) else ()
    if is_untrained(cause):
        advice = (*advice, *([wording.WITHOUT_GPU] if _needs_a_gpu(cause) else []), UNTRAINED)
    found = [target(cause.target, gate) + rests(cause.cells, gate)] if cause.target else []
    return (*advice, *found)


def _needs_a_gpu(cause: Cause) -> bool:
    """Whether quantized cells of a CPU end in an error that the ledger lists as one of this kind of machine."""
    cells = [parse_cell(f"/{name}") for name in cause.cells]
    quantized = any(cell.device == DeviceKind.CPU and _QUANTIZED & {*cell.variant.split("-")} for cell in cells)
    return quantized and cause.group is not None and cause.group.kind is Kind.PLATFORM


_QUANTIZED = {str(precision) for precision in Precision if precision.quantized}


def flow_changes(flow: FlowChange, gate: Gate) -> str:
    """The number of cells of a flow by change, marked where they rest on the emulated accelerator."""
    return changes(flow) + rests([cell.name for cell in gate.cells if cell.flow == flow.flow], gate)


def rests(cells: Iterable[str], gate: Gate) -> str:
    """The mark of a line that rests on the emulated accelerator. Empty for cells of the catalog, whose precision
    shows it."""
    emulates = gate.script and any(side.line.emulates for name in cells for side in gate.cell(name).sides)
    return f" {wording.EMULATED}" if emulates else ""


def bad(change: Change) -> bool:
    """Whether the change is a loss for a user, or the result is unknown."""
    match change:
        case Change.UNCHANGED | Change.FIXED | Change.GAINED_COVERAGE:
            return False
        case (
            Change.REGRESSED
            | Change.STILL_FAILING
            | Change.NEWLY_FAILING
            | Change.NOW_REFUSED
            | Change.OBJECTIVE_CHANGED
            | Change.LOST_COVERAGE
            | Change.INCONCLUSIVE
        ):
            return True
    assert_never(change)


def target(found: SafeTarget, gate: Gate) -> str:
    """The nearest safe release, and the extent of the search."""
    asked = gate.after.versions.get(found.package, gate.after.asked)
    untried = f" {found.untried} more were not tried." if found.untried else ""
    failed: dict[str, list[str]] = {}
    for tried in found.tried:
        if not tried.passes:  # the line that froze has its own place, and moves from release to release
            failed.setdefault(tried.reason.partition("; frozen by ")[0], []).append(tried.version)
    each = (f"{', '.join(versions)} ({wording.shortened(reason)})" for reason, versions in failed.items())
    others = f" Tried and did not pass: {'; '.join(each)}." if failed else ""
    if found.version is None:
        return f"No safe release of {found.package} was found.{others}{untried}"
    which = nearest(found)
    lower = f" {found.between} passes too, below it." if found.above and found.between else ""
    moved = f", with {found.beside} in place of the pinned versions" if found.beside else ""
    held = (
        " Only releases of the baselines, and those that were run for another cause, count." if found.foretold else ""
    )
    return f"{found.package} {found.version} is the {which} {asked} that passes{moved}.{lower}{others}{held}{untried}"


def differences(cell: CellChange, gate: Gate) -> tuple[tuple[str, ...], ...]:
    """Every fact of a cell that differs between the sides, as rows under `DIFFERENCES_HEADS`."""
    return tuple(_difference(item, rests([cell.name], gate)) for item in cell.differences)


def _difference(found: Difference, mark: str) -> tuple[str, ...]:
    stage = wording.stage_name(found.stage) if found.stage else wording.ABSENT
    return f"{found.aspect}{mark}", stage, found.before, found.after


def differing(found: Differing, gate: Gate) -> tuple[str, ...]:
    """One difference and all cells that have it, as a row under `DIFFERING_HEADS`."""
    return *_difference(found.what, rests(found.cells, gate)), str(len(found.cells)), ", ".join(found.flows)


def drift_lines(cell: CellChange) -> tuple[str, ...]:
    """Differences in computation before any update, one a line."""
    return tuple(f"{change.kind}: {change.detail}" for change in cell.drifts)


def moved(found: Moved) -> tuple[str, str, str]:
    """A package, as a row under `MOVED_HEADS`."""
    return found.package, found.before or wording.ABSENT, found.after or wording.ABSENT


def default(found: DefaultChange) -> tuple[str, str, str, str]:
    """A field of a configuration class, as a row under `DEFAULTS_HEADS`."""
    return found.config, found.field, found.before or "no such field", found.after or "no such field"


def exception(found: AppliedException) -> tuple[str, str, str, str]:
    """An exception, as a row under `EXCEPTIONS_HEADS`."""
    about = [str(part) for part in (found.issue, found.flow, found.change) if part]
    expires = f"{found.expires}, EXPIRED: it no longer applies" if found.expired else str(found.expires)
    return ", ".join(about) or "everything", found.reason, expires, str(len(found.cells))


def exceptions_line(found: Sequence[AppliedException]) -> str:
    """The exceptions that allow cells, and those that expired, in one line; empty where there are none."""
    used = [f"{item.reason} (until {item.expires})" for item in found if not item.expired and item.cells]
    gone = [f"{item.reason} ({item.expires})" for item in found if item.expired]
    parts = [f"Allowed by exception: {'; '.join(used)}."] if used else []
    parts += [f"Expired: {'; '.join(gone)}."] if gone else []
    return " ".join(parts)


def limits(gate: Gate) -> tuple[str, ...]:
    """What the answer does not cover."""
    before, after = gate.before, gate.after
    both = [what for what in before.not_followed if what in after.not_followed]
    lines = [f"{side.asked}: {what}" for side in (before, after) for what in side.not_followed if what not in both]
    lines = [*(f"both sides: {what}" for what in both), *lines]
    lines += [f"not selected: {', '.join(gate.left_out)}"] if gate.left_out else []
    lines += _on_neither_side(gate)
    if rests([cell.name for cell in gate.cells], gate):
        lines += [wording.EMULATED_NOTE]
    return (*lines, *([f"defaults could not be compared: {gate.defaults_unknown}"] if gate.defaults_unknown else []))


def more(gate: Gate) -> str:
    """Where to read more."""
    if gate.foretold_by:
        return f"Nothing was run. To confirm: {gate.command}"
    return f"All of it: compat report {gate.run.name} --details, or {short_path(gate.run)}/gate.html"


def _on_neither_side(gate: Gate) -> list[str]:
    there = {flow.flow for flow in gate.flows}
    missing = [flow.name for flow in CATALOG if flow.name not in there]
    selects = bool(gate.script or gate.left_out) or not there
    return [] if selects or not missing else [f"neither side has these flows: {', '.join(missing)}"]


def left_out(sections: int, bytes_: int) -> str:
    """The note at the end of a shortened text."""
    number = f"{sections} section{'s' if sections != 1 else ''}"
    return f"{number} left out, as no more than {bytes_:,} bytes are shown here. gate.html has all of it."


def tone(decision: Decision) -> str:
    """The CSS class, and so the colour, of a decision."""
    match decision:
        case Decision.ALLOW:
            return "pass"
        case Decision.HOLD:
            return "listed"
        case Decision.BLOCK:
            return "fail"
        case Decision.COULD_NOT_TELL:
            return "machine"
    assert_never(decision)
