"""The answer for a terminal: first the decision, then its causes. Healthy cells appear as numbers only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finetune_compat.contract.foreign_text import inert
from finetune_compat.gate.decision import Cause, Decision, Gate
from finetune_compat.gate.report import wording
from finetune_compat.gate.report.heat import Differing, differing
from finetune_compat.report import wording as said

MOST = 8
"""Maximum number of packages, defaults or differences to list; gate.md and gate.html list all of them."""


LINES = 24
"""Maximum number of lines without details: a terminal of 80 columns shows them at once."""

_SHARES = {"reason": 4, "place": 3, "remedy": 3, "target": 3}
"""Maximum number of lines of each part of the short answer."""


def print_gate(gate: Gate, console: Console | None = None, *, details: bool = False) -> None:
    """Print the answer, in at most `LINES` lines or with everything that is known."""
    out = console or Console(highlight=False)
    if details:
        _print_details(gate, out)
        return
    for style, line in _short(gate, out):
        out.print(Text(line, style=style), no_wrap=True, overflow="ellipsis", soft_wrap=False)


def _short(gate: Gate, out: Console) -> list[tuple[str, str]]:
    """The lines of the short answer with their styles: decision, cause, line, remedy, safe release, and limits."""
    found = [(_colour(gate.decision), line) for line in _lines(wording.head(gate), out, 2)]
    found += [("", line) for line in _lines(gate.reason, out, _SHARES["reason"])]
    worst = gate.causes[0] if gate.causes and gate.causes[0].effect is not Decision.ALLOW else None
    parts = (
        []
        if worst is None
        else [
            ("place", "Line", wording.place(worst)),
            ("remedy", "To do", wording.remedy(worst)),
            ("target", "Safe", wording.safe(worst.target, gate) if worst.target else ""),
        ]
    )
    for share, label, text in parts:
        found += [("", line) for line in _lines(f"{label}: {text}" if text else "", out, _SHARES[share])]
    rest = gate.causes[1:] if worst else gate.causes
    found += [("", line) for line in _lines(wording.others(rest), out, 1)]
    found += [("", line) for line in _lines(wording.exceptions_line(gate.exceptions), out, 2)]
    found += [("", line) for line in _lines(wording.taken_line(gate), out, 3)]
    found += [("", line) for line in _lines(wording.moved_line(gate), out, 2)]
    limits = wording.limits(gate)
    found += [("", line) for limit in limits[:2] for line in _lines(f"Not covered: {limit}", out, 1)]
    end = [("dim", line) for line in _lines(wording.more(gate), out, 2)]
    return [*found[: LINES - len(end)], *end]


def _lines(text: str, out: Console, most: int) -> list[str]:
    """`text` in lines of the console's width, at most `most` of them."""
    if not text:
        return []
    lines = [line.plain.rstrip() for line in Text(" ".join(inert(text).split())).wrap(out, out.width)]
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][: out.width - 4]} ..."]
    return lines


def _print_details(gate: Gate, out: Console) -> None:
    out.print(Text(inert(wording.head(gate)), style=_colour(gate.decision)))
    out.print(Text(inert(gate.reason)))
    if held := wording.exceptions_line(gate.exceptions):
        out.print(Text(inert(held)))
    for label, side in (("from", gate.before), ("to", gate.after)):
        _titled(
            out, f"{label} {side.stack}", [wording.versions(side), wording.rule(side), *_state(wording.state(side))]
        )
    _listed(out, wording.MOVED_TITLE, [_arrow(*wording.moved(item)) for item in gate.moved])
    if told := wording.taken_line(gate):
        out.print(Text(f"\n{inert(told)}"))
    _listed(out, wording.DEFAULTS_TITLE, [_default(*wording.default(item)) for item in gate.defaults])
    _listed(out, wording.DIFFERING_TITLE, [_differing(item, gate) for item in differing(gate)])
    for place, cause in enumerate(gate.causes):
        _cause(out, said.marker(place), cause, _earlier_alike(place, gate.causes), gate)
    _flows(out, gate)
    _titled(out, wording.EXCEPTIONS_TITLE, [", ".join(wording.exception(item)) for item in gate.exceptions])
    _titled(out, wording.LIMITS_TITLE, wording.limits(gate))
    out.print(Text(f"\n{inert(gate.command)}"))


def _colour(decision: Decision) -> str:
    match decision:
        case Decision.ALLOW:
            return "bold green"
        case Decision.HOLD:
            return "bold yellow"
        case Decision.BLOCK:
            return "bold red"
        case Decision.COULD_NOT_TELL:
            return "bold magenta"
    assert_never(decision)


def _state(state: str) -> list[str]:
    return [] if state == "ran" else [state]


def _arrow(name: str, before: str, after: str) -> str:
    return f"{name} {before} -> {after}"


def _default(config: str, field: str, before: str, after: str) -> str:
    return f"{config}.{field}: {before} -> {after}"


def _differing(item: Differing, gate: Gate) -> str:
    stage = f" at {said.stage_name(item.what.stage)}" if item.what.stage else ""
    text = f"{item.what.aspect}{stage}: {item.what.before} -> {item.what.after} ({len(item.cells)})"
    return text + wording.rests(item.cells, gate)


def _titled(out: Console, title: str, lines: Iterable[str]) -> None:
    shown = list(lines)
    if shown:
        out.print(Text(f"\n{title}", style="bold"))
    for line in shown:
        out.print(Padding(Text(inert(line)), (0, 0, 0, 3), expand=False))


def _listed(out: Console, title: str, items: list[str]) -> None:
    more = len(items) - MOST
    _titled(out, title, [*items[:MOST], *([f"and {more} more, see gate.md"] if more > 0 else [])])


def _cause(out: Console, letter: str, cause: Cause, earlier: str, gate: Gate) -> None:
    lines = [f"{wording.cause_cells(cause)}, for example {cause.cells[0]}"]
    if cause.effect is not Decision.ALLOW:  # an allowed cause takes one line
        lines += [f"Same facts and advice as under {earlier}."] if earlier else _seen_and_advised(cause, gate)
        lines += [f"Again: {gate.cell(cause.cells[0]).again}"]
    out.print(Text(f"\n{letter} {inert(wording.cause_head(cause, gate))}", style=_colour(cause.effect)))
    for line in lines:
        out.print(Padding(Text(inert(line)), (0, 0, 0, 3), expand=False))


def _seen_and_advised(cause: Cause, gate: Gate) -> list[str]:
    links = cause.group.links if cause.group else ()
    return [
        *wording.cause_facts(cause, gate),
        *links,
        *(f"To do: {advice}" for advice in wording.cause_advice(cause, gate)),
    ]


def _earlier_alike(place: int, causes: Sequence[Cause]) -> str:
    """The letter of an earlier cause with the same listed issues; empty where there is none."""
    group = causes[place].group
    for index, cause in enumerate(causes[:place]):
        if group and group.issues and cause.group and cause.group.issues == group.issues:
            return said.marker(index)
    return ""


def _flows(out: Console, gate: Gate) -> None:
    table = Table("flow", "what changed", "decision", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for flow in gate.flows:
        table.add_row(flow.flow, wording.flow_changes(flow, gate), Text(flow.effect, style=_colour(flow.effect)))
    out.print(table)
