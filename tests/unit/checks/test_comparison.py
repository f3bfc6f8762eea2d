"""The change of a cell: what holds for every pair of verdicts, and the debatable cases."""

from __future__ import annotations

from dataclasses import replace

import builders as b
import pytest
from finetune_compat.checks import Outcome, Symptom, Verdict, drift
from finetune_compat.checks.comparison import Change, Health, compare, health, is_judged
from finetune_compat.contract.verdict import Opinion, Result
from finetune_compat.results.run_files import judge_one
from hypothesis import given
from hypothesis import strategies as st

CODES = ("C104", "F001", "E802")
DRIFT = drift.Change(drift.DriftKind.MODEL, 0.1, "1 -> 2")


def verdict(
    outcome: Outcome,
    *failing: str,
    issues: tuple[str, ...] = (),
    symptom: Symptom = Symptom.FLAT,
    refused: bool = False,
    message: str = "wrong",
    untrained: bool = False,
) -> Verdict:
    """Make a verdict with these failing checks."""
    opinions = tuple(Opinion(code, code, Result.FAIL, message) for code in failing)
    return Verdict("s/f[v]@cpu", outcome, "why", symptom, opinions, issues, refused=refused, untrained=untrained)


PASS = verdict(Outcome.PASS, symptom=Symptom.FALLS)
REFUSED = verdict(Outcome.PASS, symptom=Symptom.ERROR, refused=True)
GONE = verdict(Outcome.FAIL, issues=("a",), symptom=Symptom.FALLS)
LISTED = verdict(Outcome.XFAIL, "C104", issues=("a",))
OTHER = verdict(Outcome.XFAIL, "E802", issues=("b",))
UNLISTED = verdict(Outcome.FAIL, "C104")
LOST = verdict(Outcome.INFRASTRUCTURE, symptom=Symptom.UNKNOWN)
NOT_INSTALLED = verdict(Outcome.UNINSTALLABLE, symptom=Symptom.UNKNOWN)


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict | None:
    """Everything the judge can conclude, and no verdict at all."""
    outcome = draw(st.sampled_from([None, *Outcome]))
    match outcome:
        case None:
            return None
        case Outcome.PASS:
            return draw(st.sampled_from([PASS, REFUSED]))
        case Outcome.XFAIL:
            codes = draw(st.sets(st.sampled_from(CODES), min_size=1))
            issues = tuple(sorted(draw(st.sets(st.sampled_from(("a", "b", "c")), min_size=1))))
            return verdict(outcome, *sorted(codes), issues=issues, symptom=draw(st.sampled_from(Symptom)))
        case Outcome.FAIL:
            codes = draw(st.sets(st.sampled_from(CODES)))
            issues = ("a",) if not codes or draw(st.booleans()) else ()
            message = draw(st.sampled_from(("one", "two", "three 3")))
            return verdict(
                outcome, *sorted(codes), issues=issues, message=message, symptom=draw(st.sampled_from(Symptom))
            )
        case Outcome.INFRASTRUCTURE:
            return LOST
        case Outcome.UNINSTALLABLE:
            return NOT_INSTALLED


DRIFTS = st.sampled_from([(), (DRIFT,)])
HEALTHY = (Health.TRAINS, Health.REFUSED)


class TestEveryPair:
    @given(verdicts(), verdicts(), DRIFTS)
    def test_has_one_change(self, one: Verdict | None, other: Verdict | None, drifts: tuple[drift.Change, ...]) -> None:
        """Every pair of verdicts has a change, without an exception."""
        assert compare(one, other, drifts) in Change

    @given(verdicts(), verdicts(), DRIFTS)
    def test_regressed_one_way_is_fixed_the_other(
        self, one: Verdict | None, other: Verdict | None, drifts: tuple[drift.Change, ...]
    ) -> None:
        """Swapping the sides swaps these two, and swaps lost with gained if what was gained is healthy."""
        there, back = compare(one, other, drifts), compare(other, one, drifts)
        assert (there is Change.REGRESSED) == (back is Change.FIXED)
        assert (there is Change.INCONCLUSIVE) == (back is Change.INCONCLUSIVE)
        assert there is not Change.GAINED_COVERAGE or back is Change.LOST_COVERAGE

    @given(verdicts())
    def test_the_same_verdict_twice_is_unchanged(self, one: Verdict | None) -> None:
        """There is no regression, no fix and no new failure."""
        allowed = {
            Health.TRAINS: Change.UNCHANGED,
            Health.REFUSED: Change.UNCHANGED,
            Health.DEVIATES: Change.STILL_FAILING,
            Health.ABSENT: Change.INCONCLUSIVE,
            Health.UNKNOWN: Change.INCONCLUSIVE,
        }
        assert compare(one, one) is allowed[health(one)]

    @given(verdicts(), DRIFTS)
    def test_an_infrastructure_failure_is_no_fact_about_a_version(
        self, other: Verdict | None, drifts: tuple[drift.Change, ...]
    ) -> None:
        """This holds on either side, whatever the other is."""
        assert compare(LOST, other, drifts) is Change.INCONCLUSIVE
        assert compare(other, LOST, drifts) is Change.INCONCLUSIVE

    @given(verdicts(), verdicts(), DRIFTS)
    def test_harmless_changes_are_healthy(
        self, one: Verdict | None, other: Verdict | None, drifts: tuple[drift.Change, ...]
    ) -> None:
        """A candidate that deviates is never unchanged, fixed, gained or only a change of objective."""
        harmless = (Change.UNCHANGED, Change.FIXED, Change.GAINED_COVERAGE, Change.OBJECTIVE_CHANGED)
        if compare(one, other, drifts) in harmless:
            assert health(other) in HEALTHY

    @given(verdicts(), verdicts(), DRIFTS)
    def test_a_cell_that_trained_and_deviates_regressed(
        self, one: Verdict | None, other: Verdict | None, drifts: tuple[drift.Change, ...]
    ) -> None:
        """Nothing else counts as a regression."""
        regressed = health(one) in HEALTHY and health(other) is Health.DEVIATES
        assert (compare(one, other, drifts) is Change.REGRESSED) == regressed

    @given(verdicts(), verdicts())
    def test_an_error_before_training_is_never_still_failing(self, one: Verdict | None, other: Verdict | None) -> None:
        """This holds whatever failed before, listed or not: the error hides everything that training would show."""
        if other is None or health(other) is not Health.DEVIATES:
            return
        stopped = replace(other, untrained=True)
        assert compare(one, stopped) in (Change.REGRESSED, Change.NEWLY_FAILING, Change.INCONCLUSIVE)
        assert not is_judged(stopped)

    @given(verdicts(), verdicts())
    def test_drift_hides_no_other_change(self, one: Verdict | None, other: Verdict | None) -> None:
        """Drift turns an unchanged cell into a change of objective, and nothing else."""
        without, drifted = compare(one, other), compare(one, other, (DRIFT,))
        assert drifted is (Change.OBJECTIVE_CHANGED if without is Change.UNCHANGED else without)


class TestCases:
    @pytest.mark.parametrize(
        ("before", "after", "change"),
        [
            (PASS, LISTED, Change.REGRESSED),
            (PASS, UNLISTED, Change.REGRESSED),
            (REFUSED, LISTED, Change.REGRESSED),
            (LISTED, PASS, Change.FIXED),
            (LISTED, REFUSED, Change.FIXED),
            (LISTED, GONE, Change.FIXED),
            (PASS, GONE, Change.UNCHANGED),
            (PASS, REFUSED, Change.NOW_REFUSED),
            (REFUSED, PASS, Change.UNCHANGED),
            (LISTED, OTHER, Change.NEWLY_FAILING),
            (None, LISTED, Change.NEWLY_FAILING),
            (NOT_INSTALLED, UNLISTED, Change.NEWLY_FAILING),
            (None, PASS, Change.GAINED_COVERAGE),
            (PASS, None, Change.LOST_COVERAGE),
            (LISTED, None, Change.LOST_COVERAGE),
            (PASS, NOT_INSTALLED, Change.LOST_COVERAGE),
            (None, None, Change.INCONCLUSIVE),
        ],
    )
    def test_a_pair(self, before: Verdict | None, after: Verdict | None, change: Change) -> None:
        """The ledger makes no deviation harmless and no repair a failure."""
        assert compare(before, after) is change

    def test_a_loud_failure_that_became_silent_is_reported(self) -> None:
        """The issue is the same; a run that stopped at once now continues for days."""
        loud = replace(LISTED, symptom=Symptom.ERROR)
        assert compare(loud, LISTED) is Change.NEWLY_FAILING
        assert compare(LISTED, loud) is Change.STILL_FAILING

    def test_fewer_reasons_are_unchanged(self) -> None:
        """One of two faults was repaired; the other is listed."""
        both = verdict(Outcome.XFAIL, "C104", "E802", issues=("a", "b"))
        assert compare(both, LISTED) is Change.STILL_FAILING
        assert compare(LISTED, both) is Change.NEWLY_FAILING

    def test_the_same_check_may_fail_for_another_reason(self) -> None:
        """Another error at F001 is another fault; other line numbers, counts and addresses are not."""
        missing = verdict(Outcome.FAIL, "F001", message="ImportError at import: no top_k 0x7f10")
        moved = verdict(Outcome.FAIL, "F001", message="ImportError at import: no top_k 0x7f99")
        other = verdict(Outcome.FAIL, "F001", message="TypeError at trainer: no argument")
        assert compare(missing, moved) is Change.STILL_FAILING
        assert compare(missing, other) is Change.NEWLY_FAILING

    def test_the_same_error_before_training_is_inconclusive(self) -> None:
        """If one side trained before the error, or the errors differ, the change is reported."""
        stopped = verdict(Outcome.FAIL, "F001", message="ImportError at import: no top_k", untrained=True)
        other = verdict(Outcome.FAIL, "F001", message="TypeError at trainer: no argument", untrained=True)
        trained = replace(stopped, untrained=False)
        assert compare(stopped, stopped) is Change.INCONCLUSIVE
        assert compare(stopped, other) is Change.NEWLY_FAILING
        assert compare(trained, stopped) is Change.NEWLY_FAILING
        assert compare(trained, trained) is compare(stopped, trained) is Change.STILL_FAILING
        assert compare(PASS, stopped) is Change.REGRESSED
        assert compare(stopped, PASS) is Change.FIXED

    def test_a_listed_error_before_training_is_inconclusive_too(self) -> None:
        """Both sides show the listed error, and nothing is known of their training."""
        listed = verdict(Outcome.XFAIL, "F001", issues=("a",), untrained=True)
        assert compare(listed, listed) is Change.INCONCLUSIVE
        assert [is_judged(item) for item in (listed, LISTED, REFUSED, PASS, LOST, None)] == [
            False,
            True,
            True,
            True,
            False,
            False,
        ]

    def test_frozen_by_another_line_is_the_same_fault(self) -> None:
        """The verdicts come from real observations of two releases, unlisted."""
        moved = tuple(replace(frame, line=frame.line + 100) for frame in b.FREEZING_CHAIN)
        one, other = (judge_one(b.frozen(b.healthy(), chain=chain), b.UNLISTED) for chain in (b.FREEZING_CHAIN, moved))
        assert compare(one, other) is Change.STILL_FAILING

    def test_the_flagship(self) -> None:
        """It is healthy before and frozen after, listed or not; the other direction is a fix."""
        well, ill = (
            judge_one(b.healthy(), b.LISTED),
            judge_one(b.frozen(b.healthy(versions=b.on_trl("0.22.2"))), b.LISTED),
        )
        assert ill.outcome is Outcome.XFAIL
        assert compare(well, ill) is Change.REGRESSED
        assert compare(ill, well) is Change.FIXED
