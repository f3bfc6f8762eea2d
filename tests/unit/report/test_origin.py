"""Sentences about the origin of a baseline."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import pytest
from builders import FULL, ran, summary_of
from finetune_compat.report import markdown, origin
from finetune_compat.results.age import Age, Part
from finetune_compat.results.run_files import Origin
from report_builders import STACK, at

ORIGIN = Origin("2026-11-20T16:38:10+00:00", "2026-11-20T17:12:17+00:00", "0.1.0", "5f" * 20)


def aged(*, flows: tuple[str, ...] = (), locks: tuple[str, ...] = (), checks: tuple[str, ...] = (), **how: Any) -> str:
    """What a page says of a baseline of that age."""
    age = Age(flows, how.get("every", False), locks, checks, how.get("unknown", ()))
    return origin.provenance(dataclasses.replace(summary_of([ran(at())], at()), age=age))


def test_what_changed_since_a_baseline_was_measured_is_said() -> None:
    """Flows, stacks and checks by name. What is not known is not called unchanged."""
    assert aged() == "Not changed since: sources, locks, checks."
    assert aged(flows=("sft-full",), locks=(STACK, "x-py311"), checks=("C104",)) == (
        "Changed since: the sources of sft-full; the locks of trl0.22-py311, x-py311; the check C104."
    )
    assert aged(flows=("sft-full",), every=True, checks=("C104", "G401")) == (
        "Changed since: the sources of every flow; the checks C104, G401."
    )
    assert aged(unknown=(Part.SOURCES, Part.CHECKS)) == (
        "Not changed since: locks. "
        "Not known, because the baseline has no digests of them: whether sources, checks changed."
    )
    assert aged(unknown=tuple(Part)) == (
        "Not known, because the baseline has no digests of them: whether sources, locks, checks changed."
    )


@pytest.mark.parametrize(
    ("day", "ago"), [("2026-11-20", "today"), ("2026-11-21", "1 day ago"), ("2026-12-01", "11 days ago")]
)
def test_who_reads_a_baseline_is_told_how_old_it_is(day: str, ago: str) -> None:
    """A page that is committed has the date alone."""
    summary = dataclasses.replace(summary_of([ran(at())], at()), origin=ORIGIN)
    assert f"to 2026-11-20 17:12 UTC, {ago}, with harness" in origin.provenance(summary, date.fromisoformat(day))
    assert "to 2026-11-20 17:12 UTC with harness" in markdown.render(summary)


def test_the_fields_that_a_run_lacks_are_named_with_their_cells() -> None:
    """Those that the same cells lack together; most cells first."""
    both = ("Observation.deep", "Observation.sizes")
    first = dataclasses.replace(at(), lacks=("Memory.peak_bytes", *both))
    second = dataclasses.replace(at("sft-full", FULL), lacks=both)
    summary = summary_of([ran(first, second)], first, second)
    assert [(lack.fields, lack.flows, lack.cells) for lack in summary.lacks] == [
        (both, ("sft-peft-model", "sft-full"), 2),
        (("Memory.peak_bytes",), ("sft-peft-model",), 1),
    ]
    assert "Not recorded" not in origin.provenance(summary)  # a run that is no baseline
    assert (
        "Not recorded, and recorded by today's cells: Observation.deep, Observation.sizes (2 cells of every flow); "
        "Memory.peak_bytes (1 cell of sft-peft-model)."
    ) in origin.provenance(dataclasses.replace(summary, origin=ORIGIN))
