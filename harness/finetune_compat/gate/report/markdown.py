"""The answer as GitHub Markdown: for the summary of a CI step, or shorter for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_compat.contract.foreign_text import inert
from finetune_compat.gate.decision import Cause, CellChange, Decision, Gate
from finetune_compat.gate.report import heat, wording
from finetune_compat.report import wording as said
from finetune_compat.report.markdown import plain, table, within

STEP_SUMMARY = 1_000_000
"""Maximum size in bytes: GitHub limits the summary of a step to 1 MiB and shows nothing of a larger one."""

COMMENT = 2_900
"""Maximum size in bytes: a reviewer reads a comment of this length without scrolling far. GitHub takes 65,536."""

MOST = 8
"""Maximum number of flows, or of causes, that a comment lists."""

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


def comment(gate: Gate) -> str:
    """The answer for a pull request, in at most `COMMENT` bytes: the decision, its cause, and what to do."""
    worst = gate.causes[0] if gate.causes and gate.causes[0].effect is not Decision.ALLOW else None
    allowed = [cause for cause in gate.causes if cause.effect is Decision.ALLOW]
    others = [cause for cause in gate.causes if cause.effect is not Decision.ALLOW and cause is not worst]
    sections = [
        f"{MARKER}\n## {plain(wording.head(gate))}",
        f"**{plain(gate.reason)}**",
        plain(wording.exceptions_line(gate.exceptions)),
        *(_facts(worst, gate) if worst else []),
        *_changed_flows(gate),
        _heads(others, gate),
        _folded(f"Allowed causes: {len(allowed)}", _heads(allowed, gate)),
        plain(wording.taken_line(gate)),
        plain(wording.moved_line(gate)),
        "\n".join(f"- Not covered: {plain(said.shortened(line))}" for line in wording.limits(gate)[:MOST]),
        f"```sh\n{gate.command}\n```",
    ]
    return within([section for section in sections if section], COMMENT, lambda left: wording.left_out(left, COMMENT))


def _facts(cause: Cause, gate: Gate) -> list[str]:
    target = wording.safe(cause.target, gate) if cause.target else ""
    facts = (("Line", wording.place(cause)), ("To do", wording.remedy(cause)), ("Safe release", target))
    links = cause.group.links if cause.group else ()
    lines = [f"- {label}: {plain(said.shortened(text))}" for label, text in facts if text]
    lines += [f"- <{link}>" for link in links if link.startswith("https://")]
    return ["\n".join(lines)] if lines else []


def _changed_flows(gate: Gate) -> list[str]:
    changed = [flow for flow in gate.flows if flow.effect is not Decision.ALLOW]
    changed.sort(key=lambda flow: -list(Decision).index(flow.effect))
    rows = [[f"`{flow.flow}`", flow.effect, wording.flow_changes(flow, gate)] for flow in changed[:MOST]]
    more = len(changed) - len(rows)
    note = f"\n\n{more} more flows changed." if more > 0 else ""
    return [table(("flow", "decision", "what changed"), rows) + note] if rows else []


def _heads(causes: Sequence[Cause], gate: Gate) -> str:
    lines = [f"- {plain(said.shortened(wording.cause_head(cause, gate)))}: {len(cause.cells)}" for cause in causes]
    more = [f"- and {len(lines) - MOST} more causes"] if len(lines) > MOST else []
    return "\n".join([*lines[:MOST], *more])


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>" if body else ""


def _cause(letter: str, cause: Cause, gate: Gate) -> str:
    first = gate.cell(cause.cells[0])
    # A code fence: messages of libraries can hold any text, and none of it may act as markup.
    facts = inert("\n".join(wording.cause_facts(cause, gate))).replace("```", "'''")
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
