"""The subject of the checks of a cell: what its user sees."""

from __future__ import annotations

import dataclasses
import math

import builders as b
import deep_builders as d
import pytest
from finetune_compat.checks import Result, Sign, Symptom
from finetune_compat.checks.case import Case, before_training, fall_of, freeze_line, null_of, signs, symptom, wiggles
from finetune_compat.contract.catalog import Expect, flow_named
from finetune_compat.contract.records import Absence, AbsentStage, Failure, Frame, Freeze, LossPair, Observation, Stage
from opinions import why


@pytest.mark.parametrize(
    ("losses", "found"),
    [
        ((5.0, 4.9, 5.1, 4.8, 5.2, 4.9, 5.1, 4.8, 5.2, 5.0), True),
        ((5.0, 4.9, 4.8, 4.7, 4.6, 4.5), False),
        ((5.0, 4.91, 4.79, 4.71, 4.59, 4.5), False),
        ((4.5, 4.6, 4.7, 4.85), True),
        ((5.0, 5.0, 5.0, 5.0), False),
        ((5.0, math.nan, 5.1, 4.9, 5.0), False),
        ((5.0, 4.9, 5.1), False),
        ((), False),
    ],
    ids=["up and down", "a line", "nearly a line", "rises", "constant", "not finite", "too few", "none"],
)
def test_a_loss_wiggles_where_it_moves_and_has_no_falling_trend(losses: tuple[float, ...], found: bool) -> None:
    """Its fall along the fitted line is less than three times the scatter around the line."""
    assert wiggles(losses) is found


def looks(seen: Observation, **changes: object) -> tuple[Sign, ...]:
    assert seen.training is not None
    return signs(dataclasses.replace(seen, training=dataclasses.replace(seen.training, **changes)))  # type: ignore[arg-type]


WIGGLY = (5.0, 4.9, 5.1, 4.8, 5.2, 4.9, 5.1, 4.8, 5.2, 5.0)


def test_the_flagship_looks_as_its_users_reported() -> None:
    """Eval loss is flat to six decimals, train loss wiggles, accuracy is flat."""
    seen = b.losses(b.healthy(), 3.2896221, 3.2896219)
    found = looks(seen, loss=WIGGLY, accuracy_before=0.425383, accuracy_after=0.425383)
    assert found == (Sign.EVAL_FLAT, Sign.WIGGLES, Sign.ACCURACY_FLAT)


def test_a_flow_that_learns_has_no_signs_of_death() -> None:
    """This holds whatever its train loss does from batch to batch."""
    assert looks(b.healthy(), loss=WIGGLY, accuracy_before=0.1, accuracy_after=0.1) == ()


@pytest.mark.parametrize(
    ("before", "after", "sign"), [(4.0, 3.9, Sign.EVAL_BARELY), (4.0, 4.1, Sign.EVAL_RISES)], ids=str
)
def test_what_eval_loss_does_comes_first(before: float, after: float, sign: Sign) -> None:
    """Barely moving is not flat, and rising is neither."""
    assert looks(b.losses(b.healthy(), before, after)) == (sign,)


def test_counts_without_sizes_are_not_judged() -> None:
    """Somebody edited the observation."""
    assert why(dataclasses.replace(b.real(), sizes=None), "C110") == (
        Result.NOT_APPLICABLE,
        "the sizes of the model are not known",
    )


@pytest.mark.parametrize(
    ("expect", "counts"),
    [
        (Expect.NONE, {0}),
        (Expect.ADAPTER, {b.ADAPTER}),
        # Packed weights are half of 73,728; the rest is 16,704 and 256 biases.
        (Expect.EVERYTHING, {73_728 // 2 + 16_704 + 256}),
    ],
)
def test_what_is_expected_are_counts_of_stored_elements(expect: Expect, counts: set[int]) -> None:
    """They are those of the tiny Qwen2 in 4 bits."""
    assert Case(b.healthy(variant=b.NF4), flow_named("sft-peft-model")).expected(expect) == counts


def test_an_absent_stage_has_its_recorded_reason() -> None:
    """Without a reason there is none."""
    seen = dataclasses.replace(b.healthy(), absent=(AbsentStage(Stage.PREPARE, Absence.NOT_CALLED),))
    case = Case(seen, flow_named(seen.flow))
    assert (case.absence(Stage.PREPARE), case.absence(Stage.PEFT)) == (Absence.NOT_CALLED, None)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (4.0, 3.8, Symptom.FALLS),
        (4.0, 3.81, Symptom.BARELY),
        (4.0, 4.0000001, Symptom.FLAT),
        (4.0, 4.1, Symptom.RISES),
        (4.0, math.nan, Symptom.NOT_FINITE),
        (math.inf, 4.0, Symptom.NOT_FINITE),
    ],
)
def test_a_symptom_is_the_change_of_eval_loss(before: float, after: float, found: Symptom) -> None:
    """A twentieth is the least fall that counts: 4.0 must reach 3.8."""
    assert symptom(b.losses(b.healthy(), before, after)) is found


def test_without_an_eval_loss_the_symptom_is_an_error_or_unknown() -> None:
    """An error is seen first."""
    assert symptom(dataclasses.replace(b.healthy(), training=None)) is Symptom.UNKNOWN
    assert symptom(b.failed(b.healthy(), "OSError", "gone", Stage.LOAD)) is Symptom.ERROR


@pytest.mark.parametrize(
    ("stage", "before"), [(Stage.LOAD, True), (Stage.TRAINER, True), (Stage.TRAINING, False), (Stage.RELOAD, False)]
)
def test_an_error_is_before_training_until_the_trainer_trains(stage: Stage, before: bool) -> None:
    """The constructor of the trainer is before training."""
    assert before_training(Failure("OSError", "gone", stage, ())) is before


def test_noise_is_the_largest_change_without_learning() -> None:
    """The flow falls by 1.0. Its repeats by 0.9 and 1.2, its twin by -0.1, random steps by 0.05 and -0.25."""
    pairs = [LossPair(5.0, 5.0 - fall) for fall in (0.9, 1.2, -0.1, 0.05, -0.25)]
    seen = d.with_losses(d.changed(d.deep(), repeats=tuple(pairs[:2]), twin=pairs[2], wanderers=tuple(pairs[3:])), 5, 4)
    assert seen.training is not None
    assert seen.deep is not None
    null = null_of(seen.training, seen.deep)
    assert null is not None
    assert (null.repeats, null.twin, null.luck) == pytest.approx((0.3, 0.1, 0.25))
    assert null.noise == pytest.approx(0.3)


@pytest.mark.parametrize("twin", [None, LossPair(5.0, None), LossPair(5.0, math.nan)])
def test_without_a_twin_the_noise_is_unknown(twin: LossPair | None) -> None:
    """Unknown noise is not zero."""
    seen = d.changed(d.deep(), twin=twin)
    assert seen.training is not None
    assert seen.deep is not None
    assert null_of(seen.training, seen.deep) is None


def test_a_rise_is_a_negative_fall() -> None:
    """Losses that are not finite have no difference."""
    assert fall_of(LossPair(5.0, 5.5)) == -0.5
    assert fall_of(LossPair(math.inf, 5.0)) is None


def test_a_freeze_is_named_by_its_chain_and_the_line_at_its_end() -> None:
    """The outermost caller is first."""
    frames = (Frame("trl/a.py", 1, "f", "g()"), Frame("peft/b.py", 2, "g", "p.requires_grad = False"))
    assert freeze_line(Freeze(Stage.TRAINER, 8, 1, frames)) == "trl/a.py:1 -> peft/b.py:2: p.requires_grad = False"
    assert freeze_line(Freeze(Stage.TRAINER, 8, 1, ())) == "an unknown line"
