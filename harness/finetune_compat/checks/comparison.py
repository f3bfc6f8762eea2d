"""What becomes of a cell between two stacks: one pure function from two verdicts to a `Change`.

Verdicts are relative to the ledger: an xfail deviates exactly as listed. A gate asks what the user gets, which is the
cell's `Health`: a listed deviation is as bad for training as an unlisted one, and a listed deviation that did not
appear is a healthy cell.
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
    """All they are entitled to."""
    REFUSED = "refused"
    """An error that says what is wrong with the flow, before anything runs."""
    DEVIATES = "deviates"
    """Something else, listed or not."""
    ABSENT = "absent"
    """There is no such cell: not in these versions, or no environment of them can be made."""
    UNKNOWN = "unknown"
    """The machine failed."""


class Change(StrEnum):
    """What becomes of a cell between a baseline and a candidate."""

    UNCHANGED = "unchanged"
    """The user gets what they are entitled to, before and after."""
    REGRESSED = "regressed"
    """They did before, and do not after."""
    FIXED = "fixed"
    """They do after, and did not before."""
    STILL_FAILING = "still failing"
    """They do neither before nor after, for no other reason than before. Both trained, or both deviate as listed."""
    NEWLY_FAILING = "newly failing"
    """They do not after, for a reason that the baseline did not show: another one, the same one grown silent, or in a
    cell that the baseline does not have.
    """
    NOW_REFUSED = "now refused"
    """It trained, and is now refused with an error that says what to change in the script."""
    OBJECTIVE_CHANGED = "objective changed"
    """It trains before and after, and something else is computed before any update."""
    LOST_COVERAGE = "lost coverage"
    """The candidate does not have the cell."""
    GAINED_COVERAGE = "gained coverage"
    """The baseline does not have the cell, and the candidate is healthy."""
    INCONCLUSIVE = "inconclusive"
    """The machine failed on either side, neither side has the cell, or neither reached training."""


def compare(baseline: Verdict | None, candidate: Verdict | None, drifts: Sequence[drift.Change] = ()) -> Change:
    """What becomes of one cell.

    Args:
        baseline: its verdict on the stack in use; None if the cell does not exist or was not selected there.
        candidate: the same on the stack that is asked about.
        drifts: what the two observations compute differently, as `drift.changes` tells it.
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
    """What the user gets, whatever the ledger says of it."""
    if verdict is None:
        return Health.ABSENT
    match verdict.outcome:
        case Outcome.PASS:
            return Health.REFUSED if verdict.refused else Health.TRAINS
        case Outcome.XFAIL:
            return Health.DEVIATES
        case Outcome.FAIL if not verdict.failing:  # what is listed did not appear
            return Health.REFUSED if verdict.refused else Health.TRAINS
        case Outcome.FAIL:
            return Health.DEVIATES
        case Outcome.INFRASTRUCTURE:
            return Health.UNKNOWN
        case Outcome.UNINSTALLABLE:
            return Health.ABSENT
    assert_never(verdict.outcome)


def is_judged(verdict: Verdict | None) -> bool:
    """Whether a verdict says what the user gets from training: it was reached, or refused for a good reason."""
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
    if _news(baseline, candidate):
        return Change.NEWLY_FAILING
    # An error that nobody listed may hide whatever training would show.
    listed = baseline.outcome is candidate.outcome is Outcome.XFAIL
    return Change.INCONCLUSIVE if candidate.untrained and not listed else Change.STILL_FAILING


def _news(baseline: Verdict, candidate: Verdict) -> bool:
    """Whether a deviating candidate shows what its deviating baseline does not."""
    # A failure that was loud and is silent now is found out much later.
    if baseline.symptom is Symptom.ERROR and candidate.symptom is not Symptom.ERROR:
        return True
    if baseline.outcome is candidate.outcome is Outcome.XFAIL:
        return not set(candidate.issues) <= set(baseline.issues)
    if candidate.untrained and not baseline.untrained:
        return True
    return not _roots(candidate) <= _roots(baseline)


def _roots(verdict: Verdict) -> frozenset[str]:
    """Codes and messages of the failing checks, without what moves from release to release: numbers and call chains."""
    failing = [opinion for opinion in verdict.opinions if opinion.result is Result.FAIL]
    return frozenset(f"{opinion.code} {_unmoving(opinion.message)}" for opinion in failing)


def _unmoving(message: str) -> str:
    return re.sub(r"0x[0-9a-f]+|[0-9]+", "#", message.partition("; frozen by ")[0])
