"""Sentences about the origin of a baseline: its day, what changed since, and what its cells did not record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from finetune_compat.checks.codes import CODES
from finetune_compat.machine.provenance import short
from finetune_compat.machine.units import counted
from finetune_compat.results.age import Age, Part
from finetune_compat.results.summary import Summary


def provenance(summary: Summary, today: date | None = None) -> str:
    """When and with which harness a baseline was measured, what changed since, and what its cells did not record. Of
    another run, the checks that could not judge all of its cells; empty if there are none.

    Args:
        summary: the run.
        today: the day of reading, to say how many days ago that was; None for a page that is committed.
    """
    return " ".join(filter(None, (_origin(summary, today), _unrecorded(summary), _lacks(summary), _since(summary.age))))


def _origin(summary: Summary, today: date | None) -> str:
    origin = summary.origin
    if origin is None:
        return ""
    days = (today - date.fromisoformat(origin.last_cell[:10])).days if today else None
    ago = "" if days is None else f", {counted(days, 'day')} ago," if days else ", today,"
    return (
        f"Measured from {_minute(origin.first_cell)} to {_minute(origin.last_cell)} UTC{ago} with harness "
        f"{origin.harness_version} and kept at commit {short(origin.kept_at_commit)}; the verdicts are those of "
        "the checks that wrote this page."
    )


def _unrecorded(summary: Summary) -> str:
    if not summary.unrecorded:
        return ""
    cells = "; ".join(f"{code} {CODES[code].title} ({counted(number, 'cell')})" for code, number in summary.unrecorded)
    return f"Not judged, since the harness of that day did not record what they look at: {cells}."


def _lacks(summary: Summary) -> str:
    """The fields that today's cells record and a baseline lacks. Of another run, only the checks are named that need
    them: nothing is compared with it.
    """
    if summary.origin is None or not summary.lacks:
        return ""
    parts = []
    for lack in summary.lacks:
        flows = _flows(lack.flows, every=lack.flows == summary.flows)
        parts.append(f"{', '.join(lack.fields)} ({counted(lack.cells, 'cell')} of {flows})")
    return f"Not recorded, and recorded by today's cells: {'; '.join(parts)}."


def _since(age: Age | None) -> str:
    """What changed since a baseline was measured."""
    if age is None:
        return ""
    parts = [
        *([f"the sources of {_flows(age.flows, every=age.every_flow)}"] if age.flows else []),
        *([f"the lock{'s' if len(age.locks) > 1 else ''} of {', '.join(age.locks)}"] if age.locks else []),
        *([f"the check{'s' if len(age.checks) > 1 else ''} {', '.join(age.checks)}"] if age.checks else []),
    ]
    known = [part for part in Part if part not in age.unknown]
    sentences = [f"Changed since: {'; '.join(parts)}."] if parts else []
    if known and not parts:
        sentences.append(f"Not changed since: {', '.join(known)}.")
    if age.unknown:
        sentences.append(
            f"Not known, because the baseline has no digests of them: whether {', '.join(age.unknown)} changed."
        )
    return " ".join(sentences)


def _flows(flows: Sequence[str], *, every: bool) -> str:
    return "every flow" if every else ", ".join(flows)


def _minute(moment: str) -> str:
    return moment[: len("2026-11-20T16:38")].replace("T", " ")
