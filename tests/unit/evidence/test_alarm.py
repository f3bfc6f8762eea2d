"""The nightly run alarms only if a library release broke training."""

from __future__ import annotations

import dataclasses

import builders as b
import pytest
from finetune_compat.checks.ledger import Ledger, Measured
from finetune_compat.contract.records import Observation
from finetune_compat.contract.verdict import Kind
from finetune_compat.evidence import alarm
from finetune_compat.results.summary import Summary


def summary(*seen: Observation, lost: tuple[str, ...] = ()) -> Summary:
    """The summary of one stack, with trl#3926 listed up to TRL 0.23."""
    return b.summary_of([b.ran(*seen, lost=lost)], *seen, ledger=b.LISTED)


def at(trl: str) -> Observation:
    """A healthy cell of that release."""
    return b.healthy(stack="trl0.22-py311", versions=b.on_trl(trl))


def test_an_unlisted_freeze_is_an_alarm_with_the_line_that_did_it() -> None:
    """The release has no listed issue."""
    found = alarm.broken(summary(b.frozen(at("0.24.0"))))
    text = alarm.text(summary(b.frozen(at("0.24.0"))), found, "https://example.org/run")
    assert text.startswith("A library release breaks training: 1 cell, 1 cause.\n")
    assert "peft/utils/other.py:142: param.requires_grad = False" in text
    assert "<https://example.org/run>" in text


@pytest.mark.parametrize(
    "found",
    [
        summary(at("0.24.0")),
        summary(b.frozen(at("0.22.2"))),  # listed
        summary(at("0.22.2")),  # listed, and it did not appear: an error of the ledger
        summary(b.out_of_memory(at("0.24.0"))),
        summary(at("0.24.0"), lost=("trl0.22-py311/sft-full[qwen2-full-gc]@cpu",)),
        b.summary_of([b.uninstallable("trl0.4-py311")]),
    ],
    ids=["healthy", "listed", "gone", "out of memory", "lost", "uninstallable"],
)
def test_nothing_else_is_an_alarm(found: Summary) -> None:
    """Infrastructure failures, unsolvable stacks and fixes do not alarm."""
    assert alarm.broken(found) == ()


def test_another_failure_where_one_is_listed_is_an_alarm() -> None:
    """The listed bug does not hide a new one."""
    assert len(alarm.broken(summary(b.masked_labels(at("0.22.2"))))) == 1


@pytest.mark.parametrize(("kind", "alarms"), [(Kind.UPSTREAM, 1), (Kind.TRAP, 0), (Kind.PLATFORM, 0)])
def test_only_a_release_bug_alarms_on_a_release_that_was_not_measured(kind: Kind, alarms: int) -> None:
    """A trap or a machine limit is no news of the release. Either way the run is not green."""
    entry = dataclasses.replace(b.issue(), kind=kind)
    ledger = Ledger(issues=(entry,), measured=Measured(quick={"sft-peft-model": {"trl": "0.22.0"}}, deep={}))
    seen = b.frozen(at("0.22.2"))
    found = b.summary_of([b.ran(seen)], seen, ledger=ledger)
    assert found.tally.failed == 1
    causes = alarm.broken(found)
    assert len(causes) == alarms
    assert not alarms or "looks like trl#3926, not yet measured on this release" in (
        alarm.text(found, causes, "").replace("\\", "")
    )
