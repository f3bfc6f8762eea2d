"""The answer in a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.comparison import Change
from harness.gate import wording
from harness.gate.decision import Cause, Decision, Gate
from harness.report.wording import marker

_COLOURS = {
    Decision.ALLOW: "bold green",
    Decision.HOLD: "bold yellow",
    Decision.BLOCK: "bold red",
    Decision.COULD_NOT_TELL: "bold magenta",
}


def print_gate(gate: Gate, console: Console | None = None) -> None:
    """Print the answer: decision and reason, the two sides, causes, flows."""
    out = console or Console(highlight=False, soft_wrap=False)
    out.print(Text(f"{gate.decision}  {gate.before.asked} -> {gate.after.asked}", style=_COLOURS[gate.decision]))
    out.print(Text(gate.reason))
    out.print()
    for label, side in (("from", gate.before), ("to", gate.after)):
        _told(out, f"{label:5} {wording.side(side)}")
        for note in side.not_followed:
            _told(out, f"      not followed: {note}")
    _listed(out, "moved", [wording.moved(item) for item in gate.moved])
    if gate.defaults_unknown:
        _told(out, f"defaults could not be compared: {gate.defaults_unknown}")
    _listed(out, "defaults", [wording.default(item) for item in gate.defaults])
    _listed(out, "differs", [f"{told} ({number})" for told, number in wording.shared_differences(gate)])
    out.print()
    for place, cause in enumerate(gate.causes):
        _cause(out, marker(place), cause, gate)
    for item in gate.exceptions:
        _told(out, f"exception {wording.exception(item)}")
    _flows(out, gate)
    if gate.left_out:
        out.print(Text(wording.left_out(gate)))
    out.print(Text(f"again: {gate.command}"))


def _told(out: Console, line: str) -> None:
    out.print(Padding(Text(line.strip()), (0, 0, 0, len(line) - len(line.lstrip()))))


def _listed(out: Console, head: str, items: list[str]) -> None:
    if not items:
        return
    more = len(items) - wording.MOST_MOVED
    shown = items[: wording.MOST_MOVED] + ([f"and {more} more in gate.md"] if more > 0 else [])
    out.print(Text(f"{head}:"))
    for item in shown:
        out.print(Padding(Text(item), (0, 0, 0, 3)))


def _cause(out: Console, letter: str, cause: Cause, gate: Gate) -> None:
    out.print(Text(f"{letter:2} {wording.cause_head(cause)}", style=_COLOURS[cause.effect]))
    facts: Iterable[str] = wording.cause_facts(cause)
    if cause.effect is Decision.ALLOW:
        # It stands against nothing: a line says what it is.
        facts = list(facts)[:1]
    else:
        facts = (
            *facts,
            *(cause.group.links if cause.group else ()),
            *(f"To do: {told}" for told in wording.cause_advice(cause)),
            f"Again: {gate.cell(cause.cells[0]).again}",
        )
    for fact in facts:
        out.print(Padding(Text(fact), (0, 0, 0, 3)))


def _flows(out: Console, gate: Gate) -> None:
    changes = [change for change in Change if any(change in flow.changes for flow in gate.flows)]
    table = Table("flow", *changes, "", box=box.SIMPLE_HEAD)
    for flow in gate.flows:
        numbers = (str(flow.changes.get(change, "")) for change in changes)
        table.add_row(flow.flow, *numbers, Text(str(flow.effect), style=_COLOURS[flow.effect]))
    out.print(table)
