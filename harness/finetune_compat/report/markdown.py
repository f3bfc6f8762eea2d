"""The report as GitHub Markdown: `summary.md`, for the summary of a CI step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from finetune_compat.contract.foreign_text import inert
from finetune_compat.report import measurements, origin, wording
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import CellLine, CountColumn, Mark, count_columns
from finetune_compat.results.summary import Heat, StackSummary, Summary

LARGEST = 1_000_000
"""Maximum size of a `summary.md` in bytes. GitHub shows nothing of a step summary over 1 MiB."""


def render(summary: Summary) -> str:
    """The run, up to `LARGEST` bytes: verdict, window, causes with the most urgent first, then each stack. If that is
    too large, cells that pass are listed by name.

    That of a committed baseline, which people read, ends before the stacks: its thousands of cells are in the page.
    """
    letters = wording.letters(summary.groups)
    verdict = wording.conclusion(summary.exit_code, summary.tally)
    provenance = origin.provenance(summary)
    head = [
        f"# {wording.TITLE}",
        f"**{verdict}** {wording.totals(summary.tally, len(summary.stacks))}",
        *([plain(provenance)] if provenance else []),
        plain(measurements.depth(summary.depth, summary.tally.cells, summary.stacks)),
    ]
    causes = [cause(wording.marker(index), group) for index, group in enumerate(summary.groups)]
    window = [_window(summary)] if len(summary.stacks) > 1 else []
    facts = [*head, *window, *_drift(summary), *reversed(causes)]
    if summary.origin:
        return within([*facts, wording.CELLS_ELSEWHERE], LARGEST, wording.left_out)
    whole = [*facts, *(_stack(one, letters) for one in summary.stacks)]
    if sum(len(section.encode()) + 2 for section in whole) > LARGEST:
        whole = [*facts, *(_stack(one, letters, brief=True) for one in summary.stacks)]
    return within(whole, LARGEST, wording.left_out)


def within(sections: Sequence[str], largest: int, left_out: Callable[[int], str]) -> str:
    """The first `sections` that fit into `largest` bytes, then the text of `left_out` for the number of the others."""
    taken: list[str] = []
    room = largest - len(left_out(len(sections)).encode()) - 2
    for section in sections:
        room -= len(section.encode()) + 2
        if room < 0:
            break
        taken.append(section)
    missing = len(sections) - len(taken)
    return "\n\n".join([*taken, *([left_out(missing)] if missing else [])]) + "\n"


def _window(summary: Summary) -> str:
    head = ["stack", *wording.WINDOW_PACKAGES.values(), *summary.flows]
    rows = [_window_row(stack, row) for stack, row in zip(summary.stacks, summary.heat, strict=True)]
    return f"{table(head, rows)}\n\n{'; '.join(wording.HEAT_NOTES)}."


def _window_row(stack: StackSummary, heat: Sequence[Heat]) -> list[str]:
    if not stack.has_cells:
        return [stack.name, wording.without_cells(stack), *[""] * (len(wording.WINDOW_PACKAGES) - 1 + len(heat))]
    return [stack.name, *wording.window_versions(stack), *map(wording.heat, heat)]


def cause(letter: str, group: Group) -> str:
    """A root cause as a section."""
    # In a fence, because messages of libraries may contain markup.
    facts = "\n".join(wording.cause_facts(group)).replace("```", "'''")
    parts = [
        f"### {letter}. {plain(wording.cause_head(group))}",
        f"{wording.cause_cells(group)}.",
        *([f"```text\n{facts}\n```"] if facts else []),
        *(f"<{link}>" if link.startswith("https://") else plain(link) for link in group.links),
        *(f"To do: {plain(advice)}" for advice in wording.cause_advice(group)),
    ]
    return "\n\n".join(parts)


def _drift(summary: Summary) -> list[str]:
    definitions = [f"- {plain(measurements.definition_line(definition))}" for definition in summary.definitions]
    rows = [[plain(cell) for cell in measurements.drift_row(drift)] for drift in summary.drifts]
    parts = ["\n".join(definitions), *([table(measurements.DRIFT_HEADS, rows)] if rows else [])]
    return [f"## {measurements.DRIFT_TITLE}", *filter(None, parts)] if definitions or rows else []


def _stack(stack: StackSummary, letters: Mapping[str, str], *, brief: bool = False) -> str:
    cells = [line for line in stack.lines if line.flow]
    news = [line for line in cells if line.mark is not Mark.PASS]
    passes = [line for line in cells if line.mark is Mark.PASS]
    parts = [f"## {stack.name}", plain(wording.versions(stack) or wording.nothing_to_show(stack))]
    if news:
        parts.append(_cells(news, letters))
    if passes:
        parts.append(f"<details><summary>{wording.passes(len(passes))}</summary>")
        parts += [_names(passes) if brief else _cells(passes, letters), "</details>"]
    deep = [measurements.deep_row(f"`{line.flow}[{line.variant}]`", line.deep) for line in cells if line.deep]
    if deep:
        parts += [f"{measurements.DEEP_TITLE}:", table(measurements.DEEP_HEADS, deep)]
    uncovered = [measurements.uncovered(stack.uncovered)] if stack.uncovered else []
    return "\n\n".join([*parts, *map(plain, [*wording.notes(cells), *uncovered])])


def _names(lines: Sequence[CellLine]) -> str:
    return f"{wording.NUMBERS_ELSEWHERE} {', '.join(map(_name, lines))}"


def _cells(lines: Sequence[CellLine], letters: Mapping[str, str]) -> str:
    columns = count_columns(lines)
    head = ["cell", *map(wording.column_head, columns), *wording.ENDING_HEADS]
    return table(head, (_row(line, columns, letters) for line in lines))


def _row(line: CellLine, columns: Sequence[CountColumn], letters: Mapping[str, str]) -> list[str]:
    counts = (wording.count(column.of(line)) for column in columns)
    verdict = wording.verdict(line, letters.get(line.cell, ""))
    return [_name(line), *counts, plain(wording.eval_loss(line)), plain(verdict)]


def _name(line: CellLine) -> str:
    name = f"`{line.flow}[{line.variant}]`{' ' + wording.EMULATED if line.emulates else ''}"
    return name.replace("*", r"\*")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Cells are not escaped."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def plain(text: str) -> str:
    """`text` on one line, with the markup of Markdown and HTML escaped. It names no user, issue or address."""
    line = _MARKUP.sub(r"\\\g<0>", inert(" ".join(text.split())))
    return _ALIVE.sub(r"\g<0><!-- -->", line)


_MARKUP = re.compile(r"[\\|*_`\[\]<&]")

_ALIVE = re.compile(r"(?<![\w\]])@(?=\w)|(?<!\w)(?:#|GH-)(?=\d)|\b(?:https?|ftp):(?=//)|\bwww(?=\.)", re.IGNORECASE)
"""Beginnings of what a forge makes a link of in a comment, and notifies people of: users, issues and addresses. The
name of a cell (`...]@cpu`) is none.
"""
