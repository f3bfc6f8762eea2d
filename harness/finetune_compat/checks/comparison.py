"""How a cell changes between two stacks: a pure function from two verdicts to a `Change`.

Verdicts are relative to the ledger: an xfail deviates exactly as listed. A gate asks for the cell's `Health`, which is
what the user gets. A listed deviation is as bad for training as an unlisted one. A listed deviation that did not appear
is a healthy cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import assert_never

from finetune_compat.checks import drift
from finetune_compat.contract.verdict import Outcome, Result, Symptom, Verdict


class Health(StrEnum):
    """What the user of a cell gets on one stack."""

    TRAINS = "trains"
    """The user gets everything they are entitled to."""
    REFUSED = "refused"
    """Before training, an error says what is wrong with the flow."""
    DEVIATES = "deviates"
    """The cell deviates from the entitlement, listed or not."""
    ABSENT = "absent"
    """There is no such cell in these versions, or their environment cannot be built."""
    UNKNOWN = "unknown"
    """The machine failed."""


class Change(StrEnum):
    """How a cell changes from a baseline to a candidate."""

    UNCHANGED = "unchanged"
    """Healthy before and after."""
    REGRESSED = "regressed"
    """Healthy before, and deviates after."""
    FIXED = "fixed"
    """Deviated before, and is healthy after."""
    STILL_FAILING = "still failing"
    """Deviates before and after, for no new reason, and the candidate trained."""
    NEWLY_FAILING = "newly failing"
    """Deviates after, in a way that the baseline does not show: for another reason, silently where the baseline ended
    in an error, or in a cell that the baseline does not have.
    """
    NOW_REFUSED = "now refused"
    """Trained before, and is now refused with an error that says what to change in the script."""
    OBJECTIVE_CHANGED = "objective changed"
    """Trains before and after, but computes other values before the first update."""
    LOST_COVERAGE = "lost coverage"
    """The candidate does not have the cell."""
    GAINED_COVERAGE = "gained coverage"
    """The baseline does not have the cell, and the candidate is healthy."""
    INCONCLUSIVE = "inconclusive"
    """The machine failed on either side, neither side has the cell, or neither reached training."""


def compare(baseline: Verdict | None, candidate: Verdict | None, drifts: Sequence[drift.Change] = ()) -> Change:
    """How one cell changes.

    Args:
        baseline: the verdict on the stack in use; None if the cell does not exist or was not selected there.
        candidate: the verdict on the candidate stack, or None likewise.
        drifts: the result of `drift.changes` for the two observations.
    """
    before, after = health(baseline), health(candidate)
    if Health.UNKNOWN in (before, after) or before is after is Health.ABSENT:
        return Change.INCONCLUSIVE
    match after:
        case Health.ABSENT:
            return Change.LOST_COVERAGE
        case Health.DEVIATES:
            return _deviating(before, baseline, candidate)
        case Health.TRAINS | Health.REFUSED:
            return _healthy(before, after, drifts)
        case Health.UNKNOWN:
            return Change.INCONCLUSIVE
    assert_never(after)


def health(verdict: Verdict | None) -> Health:
    """What the user gets, whether or not the ledger lists it."""
    if verdict is None:
        return Health.ABSENT
    match verdict.outcome:
        case Outcome.PASS:
            return Health.REFUSED if verdict.refused else Health.TRAINS
        case Outcome.XFAIL:
            return Health.DEVIATES
        case Outcome.FAIL if not verdict.failing:  # the listed deviation did not appear
            return Health.REFUSED if verdict.refused else Health.TRAINS
        case Outcome.FAIL:
            return Health.DEVIATES
        case Outcome.INFRASTRUCTURE:
            return Health.UNKNOWN
        case Outcome.UNINSTALLABLE:
            return Health.ABSENT
    assert_never(verdict.outcome)


def is_judged(verdict: Verdict | None) -> bool:
    """Whether the verdict shows what the user gets: training was reached, or the flow was refused with a reason."""
    match health(verdict):
        case Health.TRAINS | Health.REFUSED:
            return True
        case Health.DEVIATES:
            return verdict is not None and not verdict.untrained
        case Health.ABSENT | Health.UNKNOWN:
            return False


def _healthy(before: Health, after: Health, drifts: Sequence[drift.Change]) -> Change:
    match before:
        case Health.DEVIATES:
            return Change.FIXED
        case Health.ABSENT:
            return Change.GAINED_COVERAGE
        case Health.TRAINS if after is Health.REFUSED:
            return Change.NOW_REFUSED
        case _:
            return Change.OBJECTIVE_CHANGED if drifts else Change.UNCHANGED


def _deviating(before: Health, baseline: Verdict | None, candidate: Verdict | None) -> Change:
    if before in (Health.TRAINS, Health.REFUSED):
        return Change.REGRESSED
    if before is Health.ABSENT or baseline is None or candidate is None:
        return Change.NEWLY_FAILING
    if _is_new(baseline, candidate):
        return Change.NEWLY_FAILING
    # An error before training, listed or not, hides what training would show.
    return Change.INCONCLUSIVE if candidate.untrained else Change.STILL_FAILING


def _is_new(baseline: Verdict, candidate: Verdict) -> bool:
    """Whether a deviating candidate shows a failure that its deviating baseline does not show."""
    # A silent failure that was an error before is worse: users notice it much later.
    if baseline.symptom is Symptom.ERROR and candidate.symptom is not Symptom.ERROR:
        return True
    if baseline.outcome is candidate.outcome is Outcome.XFAIL:
        return not set(candidate.issues) <= set(baseline.issues)
    if candidate.untrained and not baseline.untrained:
        return True
    return not _roots(candidate) <= _roots(baseline)


def _roots(verdict: Verdict) -> frozenset[str]:
    """Codes and messages of the failing checks, without numbers and call chains, which change with every release."""
    failing = [opinion for opinion in verdict.opinions if opinion.result is Result.FAIL]
    return frozenset(f"{opinion.code} {_without_numbers(opinion.message)}" for opinion in failing)


def _without_numbers(message: str) -> str:
    return re.sub(r"0x[0-9a-f]+|[0-9]+", "#", message.partition("; frozen by ")[0])
