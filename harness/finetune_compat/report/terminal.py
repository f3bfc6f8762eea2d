"""The report for a terminal or a log. Without a terminal it has no colour and a fixed width."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from finetune_compat.checks import Symptom
from finetune_compat.contract.errors import ExitCode
from finetune_compat.machine.console import open_console
from finetune_compat.report import measurements, origin, style, wording
from finetune_compat.report.window import window_table
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import CellLine, Mark, count_columns
from finetune_compat.results.summary import Depth, StackSummary, Summary, Tally


def print_stack(summary: Summary, name: str, console: Console | None = None) -> None:
    """Print one stack's cells, causes and totals, and the path of the files.

    Raises:
        KeyError: the run has no stack called `name`.
    """
    out = console or open_console()
    stack = summary.stack(name)
    _print(out, _stack(stack, stack.lines, wording.letters(stack.groups), out.width))
    _print(out, _deep(stack, out.width))
    _print(out, _causes(stack.groups, out.width))
    # Cells that a budget left out are recorded per run. A run of one stack has no window, so they are shown here.
    alone = len(summary.stacks) == 1
    tally, provenance = (summary.tally, _provenance(summary)) if alone else (stack.tally, "")
    _print(out, _ending(tally, stack.depth, [stack], stack.exit_code, summary.run, out.width, provenance))


def print_window(summary: Summary, console: Console | None = None) -> None:
    """Print a run of several stacks: one line per stack and one column per flow, then all causes and the totals.

    For a run of one stack, nothing is printed: `print_stack` prints everything.
    """
    if len(summary.stacks) == 1:
        return
    out = console or open_console()
    if summary.stacks:
        _print(out, [Text(), *window_table(summary, out.width), Text()])
    _print(out, _drift(summary, out.width))
    _print(out, _causes(summary.groups, out.width))
    _print(
        out,
        _ending(
            summary.tally,
            summary.depth,
            summary.stacks,
            summary.exit_code,
            summary.run,
            out.width,
            _provenance(summary),
        ),
    )


def print_run(summary: Summary, console: Console | None = None) -> None:
    """Print the full report: one stack in full, or the cells of each stack that do not pass, and then the window."""
    out = console or open_console()
    if len(summary.stacks) == 1:
        print_stack(summary, summary.stacks[0].name, out)
        return
    letters = wording.letters(summary.groups)
    for stack in summary.stacks:
        news = [line for line in stack.lines if line.mark is not Mark.PASS]
        _print(out, _stack(stack, news, letters, out.width))
    print_window(summary, out)


def _print(console: Console, lines: Iterable[Text]) -> None:
    laid_out = list(lines)
    for line in laid_out:
        line.rstrip()
    if laid_out:
        # The lines are already laid out. A narrower terminal wraps them, so that nothing is truncated.
        console.print(Text("\n").join(laid_out), soft_wrap=True)


# ---------------------------------------------------------------------------------------------------------- one stack


def _stack(stack: StackSummary, lines: Sequence[CellLine], letters: Mapping[str, str], width: int) -> list[Text]:
    """A stack's name, its versions, and a table of `lines` with the letters of their causes."""
    head = wrapped(f"{stack.name}  {wording.versions(stack)}", width, 0)
    head[0].stylize("bold", 0, len(stack.name))
    rows = [line for line in lines if line.flow]
    if not rows:
        return [*head, *wrapped(wording.nothing_to_show(stack), width, 0), Text()]
    uncovered = [*wrapped(measurements.uncovered(stack.uncovered), width, 0), Text()] if stack.uncovered else []
    return [*head, Text(), *_table(rows, letters, width), Text(), *_notes(rows, width), *uncovered]


@dataclass(frozen=True, slots=True)
class _Form:
    """Layout of a table. A narrow terminal first drops information that is also shown elsewhere."""

    gap: int
    issues: bool
    """Name the listed issue in the row. The row's letter also leads to it."""
    brief: bool
    """Show a flat eval loss once, and abbreviate long words."""
    by_model: bool = False
    """Name the model in the line over its rows, not in each row."""


_FORMS = (
    _Form(2, issues=True, brief=False),
    _Form(1, issues=True, brief=False),
    _Form(1, issues=False, brief=False),
    _Form(1, issues=False, brief=True),
    _Form(1, issues=False, brief=True, by_model=True),
)


def _table(lines: Sequence[CellLine], letters: Mapping[str, str], width: int) -> list[Text]:
    columns = count_columns(lines)
    head = [wording.COUNTS_HEAD, *map(wording.column_head, columns), *wording.ENDING_HEADS]
    counts = [[wording.count(column.of(line)) for column in columns] for line in lines]
    for form in _FORMS:
        rows = [
            [_name(line, form), *counted, *_ending_of(line, letters.get(line.cell, ""), form)]
            for line, counted in zip(lines, counts, strict=True)
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        if sum(widths) + form.gap * (len(widths) - 1) <= width:
            break
    laid_out = [_styled(line, row, widths, form.gap) for line, row in zip(lines, rows, strict=True)]
    parts = itertools.groupby(zip(lines, laid_out, strict=True), key=lambda pair: _part(pair[0], form))
    body = [text for part, rows_of in parts for text in (Text(part, "bold"), *(row for _, row in rows_of))]
    return [Text(_aligned(head, widths, form.gap)), *body]


def _part(line: CellLine, form: _Form) -> str:
    """The line over the rows of a flow, or of one model of a flow."""
    return f"{line.flow}  {line.model}" if form.by_model else line.flow


def _name(line: CellLine, form: _Form) -> str:
    variant = line.variant.removeprefix(f"{line.model}-") if form.by_model else line.variant
    return f"  {variant}{' ' + wording.EMULATED if line.emulates else ''}"


def _ending_of(line: CellLine, letter: str, form: _Form) -> tuple[str, str]:
    """Eval loss and verdict."""
    loss = wording.eval_loss(line, brief=form.brief)
    return loss, wording.verdict(line, letter, issues=form.issues, brief=form.brief)


def _aligned(cells: Sequence[str], widths: Sequence[int], gap: int) -> str:
    """Align counts (the columns between the first and the last two) to the right, other columns to the left."""
    last = len(cells) - 2
    padded = [
        cell.rjust(width) if 0 < index < last else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return (" " * gap).join(padded)


def _styled(line: CellLine, cells: Sequence[str], widths: Sequence[int], gap: int) -> Text:
    """A row with the colours of its last two cells."""
    text = Text(_aligned(cells, widths, gap))
    verdict = len(text) - widths[-1]
    text.stylize(style.of_mark(line.mark, line.kind), verdict, verdict + len(cells[-1]))
    if line.symptom is Symptom.FLAT:
        loss = verdict - gap - widths[-2]
        text.stylize("yellow", loss, loss + len(cells[-2]))
    return text


def _notes(lines: Sequence[CellLine], width: int) -> list[Text]:
    notes = [line for note in wording.notes(lines) for line in wrapped(note, width, 0)]
    return [*notes, Text()] if notes else []


# ------------------------------------------------------------------------------------------------------------- causes


def _causes(groups: Sequence[Group], width: int) -> list[Text]:
    return [line for index, group in enumerate(groups) for line in _cause(wording.marker(index), group, width)]


def _cause(letter: str, group: Group, width: int) -> list[Text]:
    head = wrapped(f"{letter}  {wording.cause_head(group)}", width, 0)
    for line in head:
        line.stylize(style.of_mark(group.mark, group.kind))
    facts = [*wording.cause_facts(group), *group.links, *(f"To do: {advice}" for advice in wording.cause_advice(group))]
    body = [line for text in (wording.cause_cells(group), *facts) for line in wrapped(text, width, 3)]
    return [*head, *body, Text()]


def _drift(summary: Summary, width: int) -> list[Text]:
    texts = [*map(measurements.definition_line, summary.definitions), *map(measurements.drift_line, summary.drifts)]
    if not texts:
        return []
    return [
        Text(measurements.DRIFT_TITLE, "bold"),
        *(line for text in texts for line in wrapped(text, width, 0)),
        Text(),
    ]


def _deep(stack: StackSummary, width: int) -> list[Text]:
    texts = [measurements.deep_line(f"{line.flow}[{line.variant}]", line.deep) for line in stack.lines if line.deep]
    if not texts:
        return []
    return [
        Text(measurements.DEEP_TITLE, "bold"),
        *(line for text in texts for line in wrapped(text, width, 2)),
        Text(),
    ]


def wrapped(text: str, width: int, indent: int) -> list[Text]:
    """`text` in lines of `width`. Long words, for example paths and links, are not broken."""
    pad = " " * indent
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=pad,
        subsequent_indent=pad + "   ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [Text(line) for line in lines]


def _provenance(summary: Summary) -> str:
    return origin.provenance(summary, datetime.now(UTC).date())


def _ending(
    tally: Tally,
    depth: Depth,
    stacks: Sequence[StackSummary],
    code: ExitCode,
    run: Path,
    width: int,
    provenance: str,
) -> list[Text]:
    conclusion = wrapped(wording.conclusion(code, tally), width, 0)
    for line in conclusion:
        line.stylize(style.of_exit_code(code))
    totals, deep = wording.totals(tally, len(stacks)), measurements.depth(depth, tally.cells, stacks)
    facts = [line for text in (totals, provenance, deep) if text for line in wrapped(text, width, 0)]
    return [*facts, *conclusion, *wrapped(wording.files(run), width, 0)]
