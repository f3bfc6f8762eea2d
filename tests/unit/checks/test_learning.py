"""Checks of learning: what each one names and allows."""

from __future__ import annotations

import dataclasses

import builders as b
import deep_builders as d
import pytest
from builders import UNLISTED, healthy
from finetune_compat.checks import Outcome, Result, Symptom
from finetune_compat.contract.records import LossPair, MetricResponse, Response
from finetune_compat.results.run_files import judge_one
from opinions import failures, judged, why


def test_a_cell_that_diverges_fails() -> None:
    """A learning rate that is far too high causes it."""
    assert failures(b.losses(healthy(), 4.85, 208.0)) == {"E802": "eval loss rises: 4.850000 -> 208.000000"}


# --------------------------------------------------------------------------------------------- E802 and E806: eval loss


@pytest.mark.parametrize(("loss", "plausible"), [(4.4, True), (4.85, True), (5.3, True), (4.3, False), (5.5, False)])
def test_an_eval_loss_that_no_random_model_has_is_named(loss: float, plausible: bool) -> None:
    """ln 128 is 4.852; a fabricated fall starts elsewhere."""
    seen = healthy()
    assert seen.training is not None
    training = dataclasses.replace(seen.training, eval_before=loss, eval_after=loss * 0.8)
    said = f"eval_loss was {loss:.4f} before training, expected about 4.8520: a random model guesses uniformly"
    assert failures(dataclasses.replace(seen, training=training)) == ({} if plausible else {"E806": said})


@pytest.mark.parametrize(("loss", "plausible"), [(0.6931, True), (0.6914, True), (0.69, False), (0.7, False)])
def test_a_preference_begins_undecided(loss: float, plausible: bool) -> None:
    """A new adapter has no effect: every margin is 0, and -log sigmoid(0) is ln 2, also for real weights."""
    seen = healthy("dpo-peft-config")
    assert seen.training is not None
    seen = dataclasses.replace(seen, training=dataclasses.replace(seen.training, eval_before=loss))
    said = f"eval_loss was {loss:.4f} before training, expected about 0.6931: an adapter without effect has ln 2"
    assert failures(seen) == ({} if plausible else {"E806": said})
    real = dataclasses.replace(seen, model=None, sizes=b.real().sizes)
    assert failures(real).get("E806") == (None if plausible else said)


@pytest.mark.parametrize(
    ("after", "gaining", "said"),
    [
        (0.5, 1.0, None),
        (0.5, None, None),
        (0.54, 1.0, "eval loss barely moves: 0.693100 -> 0.540000, a fall of 0.1531, under 25% of it"),
        (
            0.5,
            0.5,
            "eval loss falls, and the chosen completion gains in only 50% of held-out pairs",
        ),
    ],
)
def test_a_preference_is_learned_where_most_chosen_completions_gain(
    after: float, gaining: float | None, said: str | None
) -> None:
    """The gain must be large enough, and in most pairs. Older observations have no pairs."""
    seen = healthy("dpo-peft-config")
    assert seen.training is not None
    training = dataclasses.replace(seen.training, eval_after=after, accuracy_after=gaining)
    assert failures(dataclasses.replace(seen, training=training)) == ({} if said is None else {"E802": said})


def test_an_eval_loss_that_leaves_zero_is_judged() -> None:
    """E806 reports a loss of 0.0 before training; the judge does not crash."""
    assert judge_one(b.losses(healthy(), 0.0, 0.1), UNLISTED).failing == ("E806", "E802")


@pytest.mark.parametrize(
    ("after", "said", "symptom"),
    [
        (3.8, None, Symptom.FALLS),
        (3.80001, "eval loss barely moves: 4.000000 -> 3.800010, a fall of 0.2000, under 5% of it", Symptom.BARELY),
        (3.9999994, "eval loss barely moves: 4.000000 -> 3.999999, a fall of 0.0000, under 5% of it", Symptom.BARELY),
        (3.9999996, "eval loss is flat to 6 decimals: 4.000000 -> 4.000000", Symptom.FLAT),
        (4.1, "eval loss rises: 4.000000 -> 4.100000", Symptom.RISES),
    ],
)
def test_a_twentieth_of_the_eval_loss_is_the_least_that_counts_as_learning(
    after: float, said: str | None, symptom: Symptom
) -> None:
    """The message has both losses and the fall; flat differs from small."""
    verdict = judge_one(b.losses(healthy(), 4.0, after), UNLISTED)
    said_by_check = {opinion.code: opinion.message for opinion in verdict.opinions}
    assert (said_by_check["E802"] or None, verdict.symptom) == (said, symptom)


# ------------------------------------------------------------------------------------------------------- E804: the null


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


# ------------------------------------------------------------------------------------------------- E805: the evaluation


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


WIGGLY = (5.0, 4.9, 5.1, 4.8, 5.2, 4.9, 5.1, 4.8, 5.2, 5.0)


def test_e802_reports_all_symptoms() -> None:
    """The message has the numbers."""
    seen = b.losses(b.healthy(), 4.0, 3.9)
    assert seen.training is not None
    training = dataclasses.replace(seen.training, loss=WIGGLY, accuracy_before=0.1, accuracy_after=0.1)
    assert why(dataclasses.replace(seen, training=training), "E802")[1] == (
        "eval loss barely moves: 4.000000 -> 3.900000, a fall of 0.1000, under 5% of it; train loss wiggles between "
        "4.8000 and 5.2000 without learning; accuracy is flat: 0.100000 -> 0.100000"
    )
