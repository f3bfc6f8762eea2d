"""The atlas as a small Markdown file: the answer, the issues with their windows, and where each flow trains."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_compat.atlas import wording
from finetune_compat.atlas.answers import answers, best
from finetune_compat.atlas.issues import Line
from finetune_compat.atlas.page import reference
from finetune_compat.atlas.record import Record, news
from finetune_compat.atlas.survey import Survey
from finetune_compat.report.markdown import plain, table
from finetune_compat.results.order import AXES

COMMAND = "compat atlas"


def render(survey: Survey, lines: Sequence[Line], record: Record) -> str:
    """The file."""
    found = best(survey)
    new = news(record)
    parts = [
        f"# {wording.TITLE}",
        plain(wording.LEAD) + f" The page with every cell is index.html, beside this file; `{COMMAND}` writes both.",
        plain(wording.provenance(survey)),
        f"## {wording.ANSWERS_TITLE}",
        plain(wording.best(found)),
        *([f"{plain(wording.versions(found.column))}.", f"```\n{wording.pins(found.column)}\n```"] if found else []),
        _answers(survey),
        *([f"## {wording.NEWS_TITLE}", "\n".join(f"- {plain(one)}" for one in new)] if new else []),
        f"## {wording.ISSUES_TITLE}",
        _issues(lines),
        f"{plain(wording.emulation(survey))}",
        *(
            [f"{plain(wording.uncovered_lead(survey))} [Which ones](../branches/branches.md)."]
            if survey.uncovered
            else []
        ),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _uncovered(survey: Survey) -> str:
    lead = plain(wording.uncovered_lead(survey))
    return f"{lead} [Which ones](../branches/branches.md)." if lead else ""


def _answers(survey: Survey) -> str:
    axes = [axis for axis in AXES if survey.on_axis(axis)]
    head = ["flow", "what it does", *(f"trains on {wording.package(axis)}" for axis in axes)]
    return table(
        head,
        (
            [
                f"`{answer.flow.name}`",
                f"{plain(answer.flow.story)} ({wording.usage(answer)})",
                *(plain(wording.trains_on(trains)) for trains in answer.axes),
            ]
            for answer in answers(survey)
        ),
    )


def _issues(lines: Sequence[Line]) -> str:
    head = ["issue", "kind", "what you get", "releases that show it", "nearest without it", "what to do", "seen in"]
    return table(head, (_issue(line) for line in lines))


def _issue(line: Line) -> list[str]:
    return [
        f"{plain(line.issue.title)} ([{plain(line.issue.id)}]({reference(line.issue.link)}))",
        wording.kind(line),
        wording.severity(line),
        plain("; ".join(map(wording.seen_on, line.strips))),
        plain("; ".join(map(wording.without, line.strips))),
        plain(line.issue.remedy),
        plain(", ".join(text for _, text in wording.evidence(line)) or "no baseline"),
    ]
