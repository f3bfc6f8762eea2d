"""Which release should I be on? Answers from a survey, by rules that hold for any set of flows and stacks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from finetune_compat.atlas.survey import Column, State, Survey
from finetune_compat.contract.catalog import Flow
from finetune_compat.results.order import AXES


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive measured releases of an axis."""

    first: str
    last: str
    newest: bool
    """Whether `last` is the newest measured release."""


@dataclass(frozen=True, slots=True)
class Trains:
    """Where a flow trains on one axis: on every variant of which something is known."""

    axis: str
    ranges: tuple[Range, ...]
    """Oldest first; none if it trains wholly on no release."""
    newest_state: State
    """Its state on the newest release on which something is known."""

    @property
    def newest(self) -> str | None:
        """The newest release on which it trains."""
        return self.ranges[-1].last if self.ranges else None


@dataclass(frozen=True, slots=True)
class Answer:
    """What one flow's user should know."""

    flow: Flow
    axes: tuple[Trains, ...]


@dataclass(frozen=True, slots=True)
class Best:
    """The newest stack among those on which the most correct flows train."""

    column: Column
    trains: tuple[Flow, ...]
    others: tuple[Flow, ...]
    """Correct flows that do not train on it, or were not measured."""
    unknown: int
    """Cells of the flows that train of which nothing is known on this kind of machine."""


def answers(survey: Survey) -> tuple[Answer, ...]:
    """One answer for each flow, those of documented usage first."""
    axes = [(axis, survey.on_axis(axis)) for axis in AXES]
    found = [
        Answer(flow, tuple(_trains(axis, flow, columns, survey) for axis, columns in axes if columns))
        for flow in survey.flows
    ]
    return tuple(sorted(found, key=lambda answer: not answer.flow.correct))


def _trains(axis: str, flow: Flow, columns: Sequence[Column], survey: Survey) -> Trains:
    known = [(column, survey.square(flow.name, column.stack).state) for column in columns]
    states = [state for _, state in known if state is not State.UNKNOWN]
    return Trains(axis, ranges_of(known, State.TRAINS), states[-1] if states else State.UNKNOWN)


def ranges_of(states: Iterable[tuple[Column, State]], wanted: State) -> tuple[Range, ...]:
    """The columns with the wanted state as ranges of consecutive columns."""
    columns = list(states)
    runs: list[list[Column]] = []
    following = False
    for column, state in columns:
        if state is wanted:
            runs = [*runs[:-1], [*runs[-1], column]] if following else [*runs, [column]]
        following = state is wanted
    newest = columns[-1][0] if columns else None
    return tuple(Range(run[0].release, run[-1].release, run[-1] is newest) for run in runs)


def best(survey: Survey) -> Best | None:
    """The stack to be on: of final releases, the newest of those on which the most correct flows train.

    None if no stack of final releases trains any correct flow.
    """
    correct = [flow for flow in survey.flows if flow.correct]
    ranked = [(_trained(column, correct, survey), column) for column in survey.columns if column.final]
    if not any(flows for flows, _ in ranked):
        return None
    flows, column = max(ranked, key=lambda item: (len(item[0]), item[1].newness))
    counts = [survey.square(flow.name, column.stack).counts for flow in flows]
    others = tuple(flow for flow in correct if flow not in flows)
    return Best(column, flows, others, sum(found.get(State.UNKNOWN, 0) for found in counts))


def _trained(column: Column, flows: Iterable[Flow], survey: Survey) -> tuple[Flow, ...]:
    return tuple(flow for flow in flows if survey.square(flow.name, column.stack).state is State.TRAINS)
