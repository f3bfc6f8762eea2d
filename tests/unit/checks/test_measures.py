"""The value behind a failing check."""

from __future__ import annotations

import dataclasses

import builders as b
import deep_builders as d
import pytest
from finetune_compat.checks.case import Case
from finetune_compat.checks.measures import (
    SAME_MEASURE,
    accumulated_gradient,
    cut_off,
    gradients_apart,
    rows_without_labels,
    same_measure,
)
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.records import Area, ClassDifference, Observation, StepPair


def case(seen: Observation) -> Case:
    return Case(seen, flow_named(seen.flow))


def with_labels(**changes: int) -> Case:
    seen = b.healthy()
    assert seen.labels is not None
    return case(dataclasses.replace(seen, labels=dataclasses.replace(seen.labels, **changes)))


@pytest.mark.parametrize(
    ("labels", "share"),
    [
        ({"samples": 80, "all_masked": 20, "label_tokens": 1_500}, 0.25),
        ({"samples": 80, "all_masked": 80, "label_tokens": 0}, 1.0),
        ({"samples": 80, "all_masked": 0, "label_tokens": 2_000}, 0.0),
        # Every row is counted as masked, and yet there are labels: one of the counts is wrong.
        ({"samples": 80, "all_masked": 80, "label_tokens": 7}, None),
        ({"samples": 0, "all_masked": 0, "label_tokens": 0}, None),
    ],
)
def test_l501_measures_the_share_of_rows_without_a_label(labels: dict[str, int], share: float | None) -> None:
    """A quarter of 80 rows are 20."""
    assert rows_without_labels(with_labels(**labels)) == share


def test_without_labels_there_is_no_share() -> None:
    """No batch had labels."""
    assert rows_without_labels(case(dataclasses.replace(b.healthy(), labels=None))) is None


@pytest.mark.parametrize("factor", [4.0, 0.25, 1.0])
def test_g402_measures_the_multiple_of_the_plain_gradient(factor: float) -> None:
    """Every class of tensors has the same one."""
    assert accumulated_gradient(case(d.changed(d.deep(), accumulation=d.scaled(factor)))) == pytest.approx(factor)


@pytest.mark.parametrize(
    "pair",
    [
        None,
        StepPair(4.8, 4.8, True, {}),
        # One class has no plain gradient.
        StepPair(4.8, 4.8, True, {"lora_A": ClassDifference(0.0, 1.0, 1.0)}),
        # Twice and four times.
        StepPair(4.8, 4.8, True, {"a": ClassDifference(1.0, 2.0, 1.0), "b": ClassDifference(1.0, 4.0, 3.0)}),
        # Of the same length in another direction: at a right angle the difference is sqrt(2).
        StepPair(4.8, 4.8, True, {"a": ClassDifference(1.0, 1.0, 2**0.5)}),
        # The opposite direction.
        StepPair(4.8, 4.8, True, {"a": ClassDifference(1.0, 1.0, 2.0)}),
    ],
)
def test_another_gradient_is_no_multiple(pair: StepPair | None) -> None:
    """Nothing is measured, or the gradient differs by more than its length."""
    assert accumulated_gradient(case(d.changed(d.deep(), accumulation=pair))) is None


def test_without_the_deep_tier_no_gradient_is_measured() -> None:
    """The step was computed in one way."""
    assert accumulated_gradient(case(b.healthy())) is None


@pytest.mark.parametrize(("share", "same"), [(SAME_MEASURE * 0.9, True), (SAME_MEASURE * 1.1, False)])
def test_two_measures_are_the_same_within_rounding(share: float, same: bool) -> None:
    """The share is of the larger one."""
    assert same_measure(4.0 * (1 - share), 4.0) is same


def test_a_part_is_cut_off_where_exactly_its_tensors_have_no_gradient() -> None:
    """The adapters on the vision encoder have none, those on the language model have some."""
    seen = b.vision_cut_off(b.healthy(variant=b.VISION))
    assert cut_off(case(seen), Area.VISION)
    assert not cut_off(case(seen), Area.LANGUAGE)
    assert not cut_off(case(b.healthy(variant=b.VISION)), Area.VISION)


def test_a_part_is_not_cut_off_where_others_have_no_gradient_either() -> None:
    """Another class never received one, or one tensor more than the part has."""
    seen = b.vision_cut_off(b.healthy(variant=b.VISION))
    assert seen.training is not None
    gradients = dataclasses.replace(seen.training.gradients, silent=seen.training.gradients.silent + 1)
    one_more = dataclasses.replace(seen, training=dataclasses.replace(seen.training, gradients=gradients))
    classes = dict(seen.training.classes)
    classes["lora_A"] = dataclasses.replace(classes["lora_A"], reached=None)
    another = dataclasses.replace(seen, training=dataclasses.replace(seen.training, classes=classes))
    assert not cut_off(case(one_more), Area.VISION)
    assert not cut_off(case(another), Area.VISION)
    assert not cut_off(case(dataclasses.replace(seen, training=None)), Area.VISION)


def test_g402_measures_how_far_apart_gradients_are_that_are_no_multiples() -> None:
    """A multiple has a size of its own, and without the deep tier there is neither."""
    assert gradients_apart(case(d.changed(d.deep(), accumulation=d.turned(0.3)))) == pytest.approx(0.3)
    assert gradients_apart(case(d.changed(d.deep(), accumulation=d.scaled(4.0)))) is None
    assert gradients_apart(case(b.healthy())) is None
