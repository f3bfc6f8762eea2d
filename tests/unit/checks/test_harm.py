"""How much a listed deviation harms, from its evidence."""

from __future__ import annotations

import pytest
from finetune_compat.checks import Symptom
from finetune_compat.checks.harm import Harm, harm, worst
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.patterns import PATTERNS


@pytest.mark.parametrize(
    ("check", "symptom", "harmed"),
    [
        ("C104", Symptom.FLAT, Harm.LEARNS_NOTHING),
        ("F001", None, Harm.CRASHES),
        ("A202", Symptom.FALLS, Harm.CANNOT_BE_SAVED),
        ("G402", Symptom.FALLS, Harm.LEARNS_SOMETHING_ELSE),
    ],
)
def test_harm_follows_from_check_and_ending(check: str, symptom: Symptom | None, harmed: Harm) -> None:
    """Of the ledger's signatures."""
    assert harm(check, symptom) is harmed


def test_a_run_that_ends_well_and_learned_nothing_is_worst() -> None:
    """An error costs a minute; a silent run costs all of its time."""
    assert worst(set(Harm)) is Harm.LEARNS_NOTHING
    assert worst({Harm.CRASHES, Harm.CANNOT_BE_SAVED}) is Harm.CANNOT_BE_SAVED


def test_patterns_name_issues_that_are_listed() -> None:
    """Their windows are those of the ledger."""
    assert {pattern.issue for pattern in PATTERNS.values()} - {""} <= {issue.id for issue in load_ledger().issues}
