"""`atlas.json`: what the atlas says, small, and what it said before, so that it can name what is new.

`now` is what the atlas says. `before` is what it said when that was last different. An atlas that is written again from
the same baselines changes nothing, so its news stay until there are others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, with_config

from finetune_compat.atlas.answers import Best
from finetune_compat.atlas.issues import Line
from finetune_compat.atlas.survey import State, Survey
from finetune_compat.machine import record_files
from finetune_compat.machine.units import counted

SCHEMA = 1
_STRICT = ConfigDict(extra="forbid")


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class SaidIssue:
    """What was said of an issue."""

    title: str
    first_day: str
    """The first day on which a cell showed it, as far back as this file was kept."""
    last_day: str
    """The last such day; both are empty if no cell showed it."""
    releases: Mapping[str, tuple[str, str]]
    """First and last release that shows it, by package."""


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Said:
    """What an atlas says."""

    day: str
    """The day of its newest cell."""
    best: str
    """The stack to be on; empty if there is none."""
    issues: Mapping[str, SaidIssue]
    states: Mapping[str, Mapping[str, State]]
    """By flow, then by stack."""


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Record:
    """The file."""

    schema: Annotated[int, Field(ge=SCHEMA, le=SCHEMA)]
    now: Said
    before: Said | None
    """None: the first atlas, which has nothing to compare with."""


_RECORD = TypeAdapter(Record)


def read_record(path: Path) -> Record | None:
    """The record in `path`; None if there is no file.

    Raises:
        RecordsError: it is not a record of schema 1.
    """
    if not path.exists():
        return None
    todo = "Restore it from git. Without the file, the next atlas has nothing to compare with."
    return record_files.read_record(_RECORD, path, name="what an atlas said", todo=todo)


def record_text(record: Record) -> str:
    """The text of the file."""
    return json.dumps(_RECORD.dump_python(record, mode="json"), indent=1) + "\n"


def next_record(survey: Survey, lines: Sequence[Line], best: Best | None, stored: Record | None) -> Record:
    """The record of these facts, after the stored one."""
    now = _said(survey, lines, best, stored.now.issues if stored else {})
    if stored is None:
        return Record(SCHEMA, now, None)
    return stored if stored.now == now else Record(SCHEMA, now, stored.now)


def _said(survey: Survey, lines: Sequence[Line], best: Best | None, known: Mapping[str, SaidIssue]) -> Said:
    return Said(
        day=survey.day,
        best=best.column.stack if best else "",
        issues={line.issue.id: _said_issue(line, known.get(line.issue.id)) for line in lines},
        states={
            flow.name: {
                column.stack: square.state
                for column in survey.columns
                if (square := survey.square(flow.name, column.stack)).cells
            }
            for flow in survey.flows
        },
    )


def _said_issue(line: Line, known: SaidIssue | None) -> SaidIssue:
    """Days only widen: a baseline that is measured again has no old days any more."""
    firsts = [day for day in (line.first_day, known.first_day if known else "") if day]
    lasts = [day for day in (line.last_day, known.last_day if known else "") if day]
    releases = {strip.package: (strip.first, strip.last) for strip in line.strips if strip.first and strip.last}
    return SaidIssue(line.issue.title, min(firsts, default=""), max(lasts, default=""), releases)


def news(record: Record) -> tuple[str, ...]:
    """What changed since the atlas before, a sentence each; empty without an earlier one."""
    return tuple(_news(record.before, record.now)) if record.before else ()


def _news(before: Said, now: Said) -> Iterator[str]:
    if now.best != before.best:
        yield f"The stack to be on is {now.best or 'none'}; it was {before.best or 'none'}."
    for name, issue in now.issues.items():
        known = before.issues.get(name)
        if known is None:
            yield f"New known issue: {issue.title} ({name})."
        elif known.releases != issue.releases:
            yield f"Other releases show: {issue.title} ({name}): {_span(issue)}; it was {_span(known)}."
    for name, known in before.issues.items():
        if name not in now.issues:
            yield f"No longer listed: {known.title} ({name})."
    yield from _news_of_states(before.states, now.states)


def _span(issue: SaidIssue) -> str:
    spans = [f"{package} {first} to {last}" for package, (first, last) in issue.releases.items()]
    return ", ".join(spans) or "none"


def _news_of_states(before: Mapping[str, Mapping[str, State]], now: Mapping[str, Mapping[str, State]]) -> Iterator[str]:
    known_stacks = {stack for states in before.values() for stack in states}
    new_stacks = dict.fromkeys(stack for states in now.values() for stack in states if stack not in known_stacks)
    gone = known_stacks - {stack for states in now.values() for stack in states}
    if new_stacks:
        yield f"New stacks: {', '.join(new_stacks)}."
    if gone:
        yield f"No longer measured: {', '.join(sorted(gone))}."
    if new_flows := [flow for flow in now if flow not in before]:
        yield f"New flows: {', '.join(new_flows)}."
    for flow in before:
        if flow not in now:
            yield f"The flow {flow} is no longer measured."
        else:
            yield from _moves(flow, before[flow], now[flow])


def _moves(flow: str, before: Mapping[str, State], now: Mapping[str, State]) -> Iterator[str]:
    moved: dict[tuple[State, State], list[str]] = {}
    for stack, state in now.items():
        if before.get(stack, state) is not state:
            moved.setdefault((before[stack], state), []).append(stack)
    for (old, new), stacks in moved.items():
        yield f"{flow}: {new} on {counted(len(stacks), 'stack')} where it was: {old} ({', '.join(stacks)})."
