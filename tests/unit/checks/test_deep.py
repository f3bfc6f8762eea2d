"""The checks of the deep tier: what each one names and allows, and that they do not apply without measurements."""

from __future__ import annotations

import dataclasses
import math

import builders as b
import deep_builders as d
import pytest
from finetune_compat.checks import Deviation, Outcome, Result, Sign, Symptom, Verdict, judge
from finetune_compat.checks.case import signs, wiggles
from finetune_compat.checks.codes import DEEP_CHECKS
from finetune_compat.contract.catalog import CATALOG, DEEP_CELLS, flow_named
from finetune_compat.contract.records import (
    LossPair,
    MetricResponse,
    Observation,
    Precision,
    Response,
    Stage,
    StepPair,
    Variant,
)
from opinions import why

NOGC = Variant("qwen2", Precision.FULL, False)


def judged(seen: Observation, *listed: Deviation) -> Verdict:
    return judge(seen, flow_named(seen.flow), listed)


def test_the_deep_tier_selects_cells_of_the_catalog() -> None:
    """Each of its flows has the variant, once."""
    cells = {(flow.name, variant) for flow in CATALOG for variant in flow.variants}
    assert set(DEEP_CELLS) <= cells and len(set(DEEP_CELLS)) == len(DEEP_CELLS)


def test_the_deep_tier_covers_both_field_notes_and_each_kind_of_model() -> None:
    """It covers N1 and N4, with and without TRL and PEFT, and the models Qwen2, Llama and a vision-language model."""
    flows, models = {flow for flow, _ in DEEP_CELLS}, {variant.model for _, variant in DEEP_CELLS}
    assert flows >= {"sft-peft-config", "sft-peft-model", "sft-all-linear", "trainer-peft-model", "sft-full"}
    assert models == {"qwen2", "llama", "qwen2-vl"}


def test_a_healthy_cell_passes_every_deep_check() -> None:
    """Each of them had data."""
    verdict = judged(d.deep())
    assert verdict.outcome is Outcome.PASS, verdict.reason
    assert {said.result for said in verdict.opinions if said.code in DEEP_CHECKS} == {Result.PASS}


def test_without_the_deep_tier_its_checks_do_not_apply() -> None:
    """They neither pass nor fail."""
    opinions = [opinion for opinion in judged(b.healthy()).opinions if opinion.code in DEEP_CHECKS]
    assert {(opinion.result, opinion.message) for opinion in opinions} == {
        (Result.NOT_APPLICABLE, "the deep tier was not run for this cell")
    }


def test_where_a_flow_did_not_finish_nothing_deep_is_blamed() -> None:
    """There is nothing to compare: the error is the cause."""
    seen = d.changed(d.deep(b.healthy()), repeats=(), twin=None, wanderers=(), accumulation=None, checkpointing=None)
    seen = b.failed(d.changed(seen, evaluation=None), "ValueError", "gone", Stage.TRAINING)
    assert judged(seen).failing == ("F001",)


# -------------------------------------------------------------------------------------------------------- accumulation


def test_accumulation_that_multiplies_gradients_is_named_by_g402_alone() -> None:
    """4 instead of 0.5 differs by 1.5 of 2, which is three quarters of the larger."""
    seen = d.changed(d.deep(), accumulation=d.scaled(4))
    assert judged(seen).failing == ("G402",)
    assert why(seen, "G402")[1] == (
        "4 rows at once and 4 rows one by one give different steps: gradient of lora_A off by 75.0% (norms 0.5 and 2), "
        "gradient of lora_B off by 75.0% (norms 2 and 8)"
    )


def test_accumulation_that_multiplies_the_reported_loss_is_named_by_g402_alone() -> None:
    """The steps are correct, and the log is wrong."""
    seen = d.changed(d.deep(), accumulation=d.scaled(1, loss_factor=4))
    assert judged(seen).failing == ("G402",)
    assert why(seen, "G402")[1] == (
        "4 rows at once and 4 rows one by one give different steps: reported loss 4.8000 and 19.2000"
    )


def test_a_loss_rounded_to_four_decimals_is_the_same_loss() -> None:
    """Older releases round what they report."""
    seen = d.changed(d.deep(), accumulation=dataclasses.replace(d.scaled(1), loss_one=4.79996, loss_other=4.8))
    assert judged(seen).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("dtype", "factor", "result"),
    [
        ("float32", 1.0009, Result.PASS),
        ("float32", 1.0012, Result.FAIL),
        ("bfloat16", 1.019, Result.PASS),
        ("bfloat16", 1.022, Result.FAIL),
    ],
)
def test_gradients_in_bfloat16_may_be_rounded_more(dtype: str, factor: float, result: Result) -> None:
    """The limit is a thousandth in float32 and a fiftieth in bfloat16."""
    seen = b.adapter_dtypes(d.changed(d.deep(), accumulation=d.scaled(factor)), (dtype,), (dtype,))
    assert why(seen, "G402")[0] is result


def test_a_gradient_that_is_not_finite_differs_wholly() -> None:
    """NaN is not a small difference."""
    assert why(d.not_finite(d.deep()), "G402") == (
        Result.FAIL,
        "4 rows at once and 4 rows one by one give different steps: gradient of lora_A off by inf% (norms 0.5 and nan)",
    )


def test_other_rows_are_no_comparison() -> None:
    """Values from other labels cannot be compared, and this is a finding."""
    seen = d.changed(d.deep(), accumulation=StepPair(4.8, 4.8, False, {}))
    assert why(seen, "G402")[1] == "4 rows at once and 4 rows one by one were not given the same rows and labels"


# ------------------------------------------------------------------------------------------------------- checkpointing


def test_gradients_that_checkpointing_makes_zero_are_named_by_g403_alone() -> None:
    """The gradients are present and zero."""
    seen = d.changed(d.deep(), checkpointing=d.zeroed("lora_A"))
    assert judged(seen).failing == ("G403",)
    assert why(seen, "G403")[1] == (
        "no checkpointing and checkpointing give different steps: gradient of lora_A off by 100.0% (norms 0.5 and 0)"
    )


def test_a_variant_without_checkpointing_has_nothing_to_compare() -> None:
    """The check does not apply."""
    seen = d.changed(d.deep(b.healthy(variant=NOGC)), checkpointing=None)
    assert why(seen, "G403") == (Result.NOT_APPLICABLE, "the step was not computed in both ways")


# ------------------------------------------------------------------------------------------------------------ learning


def test_an_eval_loss_that_falls_by_itself_is_named_by_e804_alone() -> None:
    """The twin, whose steps were undone, loses 0.5; the flow's 1.0 is less than three times that."""
    seen = d.changed(d.deep(), twin=LossPair(5.0, 4.5))
    assert judged(seen).failing == ("E804",)
    assert why(seen, "E804")[1] == (
        "eval loss fell by 1.000000; without learning it changes by 0.500000 (repeats differ by 0.000000, "
        "the twin whose steps are undone changes by 0.500000, random steps by 0.033333), and the fall must be 3 times "
        "that; "
        "false alarms: 0 of 600 (95 % upper bound 0.5%)"
    )


@pytest.mark.parametrize(("loss", "result"), [(4.68, Result.PASS), (4.66, Result.FAIL), (5.34, Result.FAIL)])
def test_a_fall_is_three_times_what_random_steps_do(loss: float, result: Result) -> None:
    """This holds in both directions: 0.32 is less than a third of 1.0, 0.34 is more."""
    seen = d.changed(d.deep(), wanderers=(LossPair(5.0, loss),))
    assert why(seen, "E804")[0] is result


@pytest.mark.parametrize(("loss", "result"), [(4.3, Result.PASS), (4.4, Result.FAIL)])
def test_a_fall_is_three_times_what_repeats_differ_by(loss: float, result: Result) -> None:
    """One repeat fell by 0.7 or by 0.6 instead of 1.0."""
    seen = d.changed(d.deep(), repeats=(LossPair(5.0, 4.0), LossPair(5.0, loss)))
    assert why(seen, "E804")[0] is result


def test_a_fall_within_what_luck_is_known_to_do_is_none() -> None:
    """A fiftieth of 5.0 is 0.1, even if this machine repeats exactly. E802 fails first; E804 alone would agree."""
    seen = d.with_losses(d.changed(d.deep(), repeats=(), wanderers=()), 5.0, 4.91)
    assert judged(seen).failing == ("E802",)
    assert why(seen, "E804") == (Result.BLOCKED, "E802")


@pytest.mark.parametrize("measurement", ["repeats", "twin", "wanderers"])
def test_a_null_that_ends_in_an_error_is_a_finding(measurement: str) -> None:
    """The flow succeeded, and its repetition did not."""
    seen = d.ended(d.deep(), measurement)
    assert why(seen, "E804") == (
        Result.FAIL,
        f"{measurement} could not be measured: RuntimeError at training: planted",
    )


@pytest.mark.parametrize(("measurement", "code"), [("accumulation", "G402"), ("checkpointing", "G403")])
def test_a_step_that_ends_in_an_error_is_a_finding(measurement: str, code: str) -> None:
    """The flow succeeded, and the measurement of a step did not."""
    seen = d.ended(d.deep(), measurement)
    assert judged(seen).failing == (code,)
    assert why(seen, code)[1] == f"{measurement} could not be measured: RuntimeError at training: planted"


def test_an_infrastructure_failure_in_the_deep_tier_is_no_fault_of_the_versions() -> None:
    """Nothing is known about the versions then."""
    seen = d.ended(d.deep(), "twin")
    assert seen.deep is not None
    failure = dataclasses.replace(seen.deep.failures["twin"], message="CUDA out of memory")
    verdict = judged(d.changed(seen, failures={"twin": failure}))
    assert (verdict.outcome, verdict.reason) == (
        Outcome.INFRASTRUCTURE,
        "the machine failed: RuntimeError: CUDA out of memory",
    )


# ---------------------------------------------------------------------------------------------------------- evaluation


def test_an_evaluation_that_ignores_the_model_is_named_by_e805_alone() -> None:
    """In a lookup the accuracy is 1.0 for any model, next to a correct loss."""
    honest = MetricResponse(4.0, 4.0, 4.9, 5.0)
    seen = d.changed(
        d.deep(), evaluation=Response({"eval_loss": honest, "eval_accuracy": MetricResponse(1.0, 1.0, 1.0, 1.0)})
    )
    assert judged(seen).failing == ("E805",)
    assert why(seen, "E805")[1] == (
        "eval_accuracy stays 1.000000 with the weights scrambled and with the weights zeroed"
    )


def test_a_count_may_stay_what_it_is() -> None:
    """Losses and accuracies depend on a model; other metrics need not."""
    tokens = MetricResponse(384.0, 384.0, 384.0, 384.0)
    honest = MetricResponse(4.0, 4.0, 4.9, 5.0)
    seen = d.changed(d.deep(), evaluation=Response({"eval_loss": honest, "eval_tokens": tokens}))
    assert judged(seen).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("metric", "moved"),
    [
        (MetricResponse(1.0, 1.0, 1.0, 1.0), False),
        (MetricResponse(1.0, 1.0, 0.9, 1.0), True),
        (MetricResponse(1.0, 1.0, 1.0, 0.9), True),
        (MetricResponse(1.0, 0.8, 0.9, 1.1), False),
        (MetricResponse(1.0, 0.8, 0.7, 1.0), False),
        (MetricResponse(1.0, 0.8, 0.3, 1.0), True),
        (MetricResponse(1.0, math.nan, 0.3, 1.0), False),
        (MetricResponse(1.0, 1.0, math.nan, 1.0), True),
        (MetricResponse(1.0, 1.0, math.inf, 1.0), True),
        (MetricResponse(math.nan, math.nan, math.nan, math.nan), False),
        (MetricResponse(math.nan, math.nan, 4.9, math.nan), True),
        (MetricResponse(math.inf, math.inf, math.inf, math.inf), False),
    ],
)
def test_a_metric_moves_by_more_than_its_own_noise(metric: MetricResponse, moved: bool) -> None:
    """The noise is that of a second evaluation of the same model; NaN differs from a number."""
    assert metric.moved is moved


def test_an_evaluation_without_metrics_responds_to_nothing() -> None:
    """There was no metric that could change."""
    assert not Response({}).responds


# -------------------------------------------------------------------------------------------------------------- ledger


LISTED = Deviation(issue="x#1", title="", link="", kind="upstream", check="G402", symptom=Symptom.FALLS)


def test_deviations_of_the_deep_tier_are_not_expected_without_it() -> None:
    """A listed deviation of accumulation cannot appear in a run without accumulation."""
    assert judged(b.healthy(), LISTED).outcome is Outcome.PASS


def test_what_the_deep_tier_shows_and_is_listed_is_an_xfail() -> None:
    """It is reported as missing if it does not appear."""
    assert judged(d.changed(d.deep(), accumulation=d.scaled(4)), LISTED).outcome is Outcome.XFAIL
    assert judged(d.deep(), LISTED).outcome is Outcome.FAIL


# --------------------------------------------------------------------------------------------------------------- signs


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


def test_e802_reports_all_symptoms() -> None:
    """The message has the numbers."""
    seen = b.losses(b.healthy(), 4.0, 3.9)
    assert seen.training is not None
    training = dataclasses.replace(seen.training, loss=WIGGLY, accuracy_before=0.1, accuracy_after=0.1)
    assert why(dataclasses.replace(seen, training=training), "E802")[1] == (
        "eval loss barely moves: 4.000000 -> 3.900000, a fall of 0.1000, under 5% of it; train loss wiggles between "
        "4.8000 and 5.2000 without learning; accuracy is flat: 0.100000 -> 0.100000"
    )


def test_layers_that_stand_still_are_named() -> None:
    """Half of each class stands still, which is one whole layer."""
    assert why(d.half_still(b.healthy()), "W701") == (
        Result.FAIL,
        "while others changed, these tensors stood still: 7 of 14 lora_A, 7 of 14 lora_B, all of layers.1",
    )
