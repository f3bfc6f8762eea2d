"""The answer as Markdown, within the size limits of where it is shown."""

from __future__ import annotations

from dataclasses import replace

from finetune_compat.checks.comparison import Change
from finetune_compat.contract.records import Stage
from finetune_compat.gate.decision import Aspect, Difference, Gate
from finetune_compat.gate.report import html, markdown
from gate_printing import hostile


def test_a_comment_that_is_too_long_says_what_it_omits(gate: Gate) -> None:
    """The decision and the first cause always fit."""
    text = markdown.render(gate, 2_500)
    assert len(text.encode()) <= 2_500
    assert text.startswith(f"{markdown.MARKER}\n# BLOCK: ")
    assert "sections left out, as no more than 2,500 bytes are shown here. gate.html has all of it." in text


def test_the_limits_are_those_of_github(gate: Gate) -> None:
    """GitHub allows 65,536 characters in a comment and 1 MiB in a step summary."""
    assert markdown.COMMENT < 65_536
    assert markdown.STEP_SUMMARY < 1024**2
    assert len(markdown.render(gate, markdown.COMMENT).encode()) <= markdown.COMMENT


def test_differences_in_healthy_cells_are_reported(gate: Gate) -> None:
    """The terminal refers to gate.md for all differences."""
    differs = Difference(Aspect.CHECKPOINTING, Stage.TRAINER, "off", "reentrant")
    first, *others = gate.cells
    changed = replace(gate, cells=(replace(first, change=Change.UNCHANGED, differences=(differs,)), *others))
    row = f"| gradient checkpointing | trainer | off | reentrant | 1 | {first.flow} |"
    assert row in markdown.render(changed, markdown.STEP_SUMMARY)
    assert '<td data-head="to">reentrant</td><td data-head="cells">1</td>' in html.render(changed)


def test_a_comment_is_short(every_gate: Gate) -> None:
    """A reviewer reads it; the decision and its reason always stand in it."""
    text = markdown.comment(every_gate)
    assert len(text) < 3000
    assert text.startswith(f"{markdown.MARKER}\n## {every_gate.decision}")


def test_no_text_of_others_acts_as_markup_in_a_comment(every_gate: Gate) -> None:
    """It would notify people, hide text or link anywhere."""
    text = markdown.comment(hostile(every_gate)).rpartition("```sh")[0]
    assert "<script>" not in text.replace("\\<script>", "")
    assert "@everyone" not in text
    assert "\x1b" not in text and "\u202e" not in text
