"""Conditions: which releases are good or bad, and which give no result."""

from __future__ import annotations

import builders
import pytest
from finetune_compat.checks.judge import judge
from finetune_compat.contract.catalog import Tier, flow_named
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import Observation, Stage
from finetune_compat.contract.verdict import Kind, Outcome, Symptom, Verdict
from finetune_compat.history.condition import condition, levels, worst
from hypothesis import given
from hypothesis import strategies as st

SEEN = builders.healthy("sft-peft-model")


def verdict(seen: Observation) -> Verdict:
    return judge(seen, flow_named(seen.flow), ())


def measured(text: str, seen: Observation, tolerance: float | None = None):  # noqa: ANN201 - the type under test
    return condition(text, tolerance).of(verdict(seen), seen)


class TestCondition:
    def test_the_verdict(self) -> None:
        assert measured("verdict", SEEN).bad is False
        frozen = measured("verdict", builders.frozen(SEEN))
        assert frozen.bad and "C104" in frozen.shown
        assert frozen.state != measured("verdict", SEEN).state

    def test_two_ways_to_be_bad_are_told_apart(self) -> None:
        other = builders.failed(SEEN, "AttributeError", "no", Stage.TRAINING)
        assert measured("verdict", other).bad
        assert measured("verdict", other).state != measured("verdict", builders.frozen(SEEN)).state

    def test_a_check(self) -> None:
        assert measured("C104", SEEN).state == "passes"
        assert measured("C104", builders.frozen(SEEN)).bad

    def test_a_check_that_was_not_reached_is_no_result(self) -> None:
        found = measured("C104", builders.failed(SEEN, "ValueError", "no", Stage.LOAD))
        assert found.state is None and "was not judged: F001" in found.shown

    def test_an_expression(self) -> None:
        assert measured("stages.trainer.trainable == 0", SEEN).bad is False
        frozen = measured("stages.trainer.trainable == 0", builders.frozen(SEEN))
        assert frozen.bad and frozen.shown == "stages.trainer.trainable = 0"

    def test_a_number(self) -> None:
        found = measured("training.eval_before", SEEN, 1e-3)
        assert SEEN.training is not None and found.number == SEEN.training.eval_before
        assert measured("flow", SEEN, 1e-3).state is None

    @pytest.mark.parametrize(
        ("given", "why"),
        [
            (Verdict("x", Outcome.UNINSTALLABLE, "no versions", Symptom.UNKNOWN), "cannot be installed"),
            (Verdict("x", Outcome.INFRASTRUCTURE, "killed", Symptom.UNKNOWN), "could not be judged here"),
            (Verdict("x", Outcome.XFAIL, "", Symptom.ERROR, issues=("cpu",), kind=Kind.PLATFORM), "this machine"),
        ],
    )
    def test_versions_that_cannot_run_are_no_result(self, given: Verdict, why: str) -> None:
        found = condition("verdict", None).of(given, None)
        assert found.state is None and why in found.shown

    def test_an_import_that_fails_is_no_result(self) -> None:
        found = measured("verdict", builders.failed(SEEN, "ImportError", "cannot import name", Stage.IMPORT))
        assert found.state is None and "cannot be imported: ImportError" in found.shown

    @pytest.mark.parametrize(
        ("text", "tier"),
        [
            ("verdict", Tier.FULL),
            ("C104", Tier.FULL),
            ("G402", Tier.DEEP_ONLY),
            ("deep.accumulation.same_labels", Tier.DEEP_ONLY),
            ("training.loss[0] > 1", Tier.FULL),
        ],
    )
    def test_the_tier_that_measures_it(self, text: str, tier: Tier) -> None:
        assert condition(text, None).tier is tier

    @pytest.mark.parametrize(
        ("text", "tolerance"),
        [
            ("C104", 1e-3),
            ("training.steps", 0.0),
            ("C999", None),
            ("training.eval_before", None),
            ("training.grad_norm[0] / 2", None),
            ("stages.trainer.trainable == 0", 1e-3),
            ("not training.subject_finite", 1e-3),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, text: str, tolerance: float | None) -> None:
        with pytest.raises(CompatError):
            condition(text, tolerance)


class TestLevels:
    def test_numbers_within_the_tolerance_share_a_level(self) -> None:
        assert levels((1.0, 1.00001, 0.9583, 0.95831, 1.0), 1e-3) == (0, 0, 1, 1, 0)

    @given(st.lists(st.floats(1, 100), min_size=1), st.floats(1e-6, 0.5))
    def test_equal_numbers_have_equal_levels(self, numbers: list[float], tolerance: float) -> None:
        found = dict(zip(numbers, levels(numbers, tolerance), strict=True))
        assert [found[number] for number in numbers] == list(levels(numbers, tolerance))


def test_the_worst_verdict_of_a_script() -> None:
    good, bad = verdict(SEEN), verdict(builders.frozen(SEEN))
    assert worst([good, bad, good]) is bad
    assert worst([good]) is good
    assert worst([]) is None
