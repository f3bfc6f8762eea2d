"""What the atlas said before: news last until there are others, and writing it twice changes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import builders as b
import pytest
from atlas_builders import DAY, FIELD, drawn, kept, on
from finetune_compat.atlas.answers import best
from finetune_compat.atlas.issues import lines
from finetune_compat.atlas.record import Record, news, next_record, read_record, record_text
from finetune_compat.atlas.survey import survey
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.records import Observation

FIRST = drawn(FIELD)[2]


def after(stored: Record, *seen: Observation, ledger: Ledger = b.LISTED) -> Record:
    """The record of a baseline with these cells, after another record."""
    found = survey({"cpu": kept(*seen, ledger=ledger)})
    return next_record(found, lines(found, ledger), best(found), stored)


def test_the_first_atlas_has_no_news() -> None:
    """There is nothing to compare it with."""
    assert FIRST.before is None
    assert news(FIRST) == ()


def test_the_same_facts_leave_the_record_as_it_is() -> None:
    """So the news of the last change stay."""
    found, issues, _ = drawn(FIELD)
    assert next_record(found, issues, best(found), FIRST) is FIRST
    moved = after(FIRST, on("0.24.0"))
    assert moved.before == FIRST.now
    assert after(moved, on("0.24.0")) is moved


def test_a_record_reads_as_it_was_written(tmp_path: Path) -> None:
    """With what was said before."""
    record = after(FIRST, on("0.24.0"))
    (tmp_path / "atlas.json").write_text(record_text(record), encoding="utf-8")
    assert read_record(tmp_path / "atlas.json") == record
    assert read_record(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", record_text(FIRST).replace('"schema": 1', '"schema": 2'), '{"x": 1,' + record_text(FIRST)[1:]],
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    """It is never taken for the first atlas."""
    (tmp_path / "atlas.json").write_text(text, encoding="utf-8")
    with pytest.raises(RecordsError, match=r"atlas\.json: not what an atlas said: .*\n.*\nRestore it from git"):
        read_record(tmp_path / "atlas.json")


def test_a_window_that_moved_is_news() -> None:
    """With both windows; a flow and a stack are named too."""
    record = after(
        FIRST,
        on("0.19.1"),
        b.frozen(on("0.20.0")),
        b.frozen(on("0.21.0")),
        on("0.22.2"),
        b.frozen(on("0.24.0")),
    )
    assert news(record) == (
        "The stack to be on is none; it was trl0.24-py311.",
        f"Other releases show: {b.issue().title} (trl#3926): trl 0.20.0 to 0.21.0; it was trl 0.20.0 to 0.22.2.",
        "New stacks: trl0.21-py311.",
        "No longer measured: latest-py311.",
        "The flow sft-peft-config is no longer measured.",
        "sft-peft-model: trains on 1 stack where it was: silently does not (trl0.22-py311).",
        "sft-peft-model: silently does not on 1 stack where it was: trains (trl0.24-py311).",
    )


def test_issues_and_flows_that_come_and_go_are_news() -> None:
    """By title, with the id."""
    other = dataclasses.replace(b.issue(name="trl#1"), title="Another one")
    ledger = Ledger(issues=(other,))
    record = after(FIRST, on("0.24.0", flow="sft-full", variant=b.FULL), ledger=ledger)
    assert {
        "New known issue: Another one (trl#1).",
        f"No longer listed: {b.issue().title} (trl#3926).",
        "New flows: sft-full.",
    } <= set(news(record))


def test_days_only_widen() -> None:
    """A baseline that was measured again has no old days, and the record keeps them."""
    later = dataclasses.replace(b.frozen(on("0.22.2")), started_at="2026-12-24T08:00:00+00:00")
    issue = after(FIRST, later).now.issues["trl#3926"]
    assert (issue.first_day, issue.last_day) == (DAY, "2026-12-24")
