"""The window of a run: one line per stack, one column per flow. It shows on which releases a bug appears."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from finetune_compat.report import style, wording
from finetune_compat.results.order import same_axis
from finetune_compat.results.summary import Heat, StackSummary, Summary

_Row = Sequence[Text]


def window_table(summary: Summary, width: int) -> list[Text]:
    """The table, with flow names over its columns if `width` has room, else letters with a legend above."""
    body = [[*_left(stack), *map(_mark, row)] for stack, row in zip(summary.stacks, summary.heat, strict=True)]
    names, letters = _flow_names(summary.flows), _flow_letters(summary.flows)
    for heads, gap in ((names, 2), (letters, 2), (letters, 1)):
        widths = [max(len(row[i]) for row in [*heads, *body]) for i in range(len(heads[0]))]
        if sum(widths) + gap * (len(widths) - 1) <= width:
            break
    legend = [*_packed(wording.flow_letters(summary.flows), width), Text()] if heads is letters else []
    table = [_line(row, widths, gap) for row in heads]
    for before, stack, cells in zip((None, *summary.stacks), summary.stacks, body, strict=False):
        if before is not None and not same_axis(before.name, stack.name):
            table.append(Text())
        table.append(_line(cells, widths, gap) if stack.has_cells else _without_cells(stack, widths[0], gap, width))
    return [*legend, *table, Text(), *_packed(wording.HEAT_NOTES, width)]


def _left(stack: StackSummary) -> list[Text]:
    return [Text(stack.name), *map(Text, wording.window_versions(stack))]


def _mark(heat: Heat) -> Text:
    return Text(wording.heat(heat), style.of_tally(heat.tally))


def _flow_names(flows: Sequence[str]) -> list[_Row]:
    """Heads of several lines: the names of the flows, broken at hyphens."""
    parts = [[*(f"{part}-" for part in flow.split("-")[:-1]), flow.split("-")[-1]] for flow in flows]
    height = max((len(lines) for lines in parts), default=1)
    stacked = [[""] * (height - len(lines)) + lines for lines in parts]
    last = ["", *wording.WINDOW_PACKAGES.values()]
    above = [""] * len(last)
    return [
        [Text(text, "bold") for text in (*(last if i == height - 1 else above), *(lines[i] for lines in stacked))]
        for i in range(height)
    ]


def _flow_letters(flows: Sequence[str]) -> list[_Row]:
    letters = [wording.flow_letter(index) for index in range(len(flows))]
    return [[Text(text, "bold") for text in ("", *wording.WINDOW_PACKAGES.values(), *letters)]]


def _line(cells: _Row, widths: Sequence[int], gap: int) -> Text:
    padded = (Text.assemble(cell, " " * (width - len(cell))) for cell, width in zip(cells, widths, strict=True))
    return Text(" " * gap).join(padded)


def _packed(parts: Sequence[str], width: int) -> list[Text]:
    """`parts` joined into lines of at most `width`, without breaking a part."""
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]}   {part}" if lines[-1] else part
        lines[-1:] = [joined] if len(joined) <= width else [lines[-1], part]
    return [Text(line) for line in lines]


def _without_cells(stack: StackSummary, name_width: int, gap: int, width: int) -> Text:
    """The line of a stack without cells: the start of the reason in place of versions and marks."""
    line = Text.assemble(stack.name.ljust(name_width + gap), (wording.nothing_to_show(stack), "magenta"))
    line.truncate(width, overflow="ellipsis")
    return line
