"""The answer as GitHub Markdown: for the summary of a CI step, or shorter for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_compat.gate.decision import Cause, CellChange, Gate
from finetune_compat.gate.report import heat, wording
from finetune_compat.report import wording as said
from finetune_compat.report.markdown import plain, table, within

STEP_SUMMARY = 1_000_000
"""Maximum size in bytes: GitHub limits the summary of a step to 1 MiB and shows nothing of a larger one."""

COMMENT = 65_000
"""Maximum size in bytes: GitHub refuses a comment of more than 65,536 characters."""

MARKER = "<!-- finetune-compat gate -->"
"""First line of the text. A later gate finds the comment to replace by this line."""


def render(gate: Gate, largest: int) -> str:
    """The answer in at most `largest` bytes: the decision, both sides, the flows, then causes, the worst first."""
    decided = [
        f"{MARKER}\n# {plain(wording.head(gate))}",
        f"**{plain(gate.reason)}**",
        plain(wording.exceptions_line(gate.exceptions)),
        table(wording.SIDES_HEADS, ([plain(cell) for cell in row] for row in wording.sides(gate))),
    ]
    flows = [
        [
            f"`{row.flow.flow}`",
            row.flow.effect,
            *map(wording.marks, (row.before, row.after)),
            wording.flow_changes(row.flow, gate),
        ]
        for row in heat.rows(gate)
    ]
    window = [
        f"## {wording.WINDOW_TITLE}",
        table(wording.WINDOW_HEADS, flows),
        f"{'; '.join(wording.MARKS_NOTES)}.",
    ]
    causes = [_cause(said.marker(place), cause, gate) for place, cause in enumerate(gate.causes)]
    sections = [
        *decided,
        *(window if flows else []),
        *([f"## {wording.CAUSES_TITLE}"] if causes else []),
        *causes,
        *_titled(
            wording.DIFFERING_TITLE,
            wording.DIFFERING_HEADS,
            [wording.differing(item, gate) for item in heat.differing(gate)],
        ),
        *_titled(wording.MOVED_TITLE, wording.MOVED_HEADS, [wording.moved(item) for item in gate.moved]),
        *_titled(wording.DEFAULTS_TITLE, wording.DEFAULTS_HEADS, [wording.default(item) for item in gate.defaults]),
        *_titled(
            wording.EXCEPTIONS_TITLE, wording.EXCEPTIONS_HEADS, [wording.exception(item) for item in gate.exceptions]
        ),
        *_limits(gate),
        f"```sh\n{gate.command}\n```",
    ]
    return within([section for section in sections if section], largest, lambda left: wording.left_out(left, largest))


def _cause(letter: str, cause: Cause, gate: Gate) -> str:
    first = gate.cell(cause.cells[0])
    # A code fence: messages of libraries can hold any text, and none of it may act as markup.
    facts = "\n".join(wording.cause_facts(cause, gate)).replace("```", "'''")
    links = cause.group.links if cause.group else ()
    lines = [
        f"### {letter}. {plain(wording.cause_head(cause, gate))}",
        f"{plain(wording.cause_cells(cause))}, for example `{first.name}`.",
        *([f"```text\n{facts}\n```"] if facts else []),
        *(f"<{link}>" if link.startswith("https://") else plain(link) for link in links),
        *(f"To do: {plain(advice)}" for advice in wording.cause_advice(cause, gate)),
        *([table(wording.DIFFERENCES_HEADS, _differences(first, gate))] if first.differences else []),
        f"Run it again:\n\n```sh\n{first.again}\n```",
    ]
    return "\n\n".join(lines)


def _differences(cell: CellChange, gate: Gate) -> list[list[str]]:
    return [[plain(text) for text in row] for row in wording.differences(cell, gate)]


def _titled(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[plain(cell) for cell in row] for row in rows]
    return [f"<details><summary>{title}: {len(rows)}</summary>\n\n{table(heads, cells)}\n\n</details>"] if rows else []


def _limits(gate: Gate) -> list[str]:
    lines = [f"- {plain(line)}" for line in wording.limits(gate)]
    return [f"## {wording.LIMITS_TITLE}", "\n".join(lines)] if lines else []
