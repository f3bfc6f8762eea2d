"""The values of the opinion layer."""

from __future__ import annotations

import pytest
from finetune_compat.contract.verdict import Kind, Opinion, Outcome, Result, Symptom, Verdict, worst


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((), None),
        ((Kind.PLATFORM,), Kind.PLATFORM),
        ((Kind.PLATFORM, Kind.TRAP), Kind.TRAP),
        ((Kind.TRAP, Kind.PLATFORM, Kind.UPSTREAM), Kind.UPSTREAM),
    ],
)
def test_a_bug_of_a_release_is_worse_than_a_trap_and_a_trap_worse_than_a_platform(
    kinds: tuple[Kind, ...], expected: Kind | None
) -> None:
    """The order in which the kinds are listed does not matter."""
    assert worst(kinds) is expected
    assert worst(reversed(kinds)) is expected


def test_only_checks_that_fail_are_causes() -> None:
    """A blocked check repeats another failure, and one that does not apply says nothing."""
    opinions = tuple(Opinion(result.name, "a check", result, "") for result in Result)
    verdict = Verdict("a/b[c]@cpu", Outcome.FAIL, "", Symptom.FLAT, (*opinions, Opinion("second", "", Result.FAIL, "")))
    assert verdict.failing == ("FAIL", "second")
