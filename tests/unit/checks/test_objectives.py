"""The plausible labels and losses of a training run, by objective."""

from __future__ import annotations

import dataclasses
import math

import builders as b
import pytest
from finetune_compat.checks import Outcome
from finetune_compat.checks.objectives import RULES
from finetune_compat.contract.catalog import CATALOG, Objective, flow_named
from opinions import judged


def test_every_objective_of_the_catalog_has_rules() -> None:
    """A flow without rules could not be judged."""
    assert {flow.objective for flow in CATALOG} <= set(RULES)


@pytest.mark.parametrize("objective", [Objective.SFT, Objective.PLAIN])
def test_a_random_model_guesses_uniformly(objective: Objective) -> None:
    """With a vocabulary of 128 the loss is ln 128. Real weights are not random, so nothing is expected of them."""
    model, training = b.healthy().model, b.healthy().training
    assert model is not None and training is not None
    start = RULES[objective].start(dataclasses.replace(model, vocab_size=128), training)
    assert start is not None
    assert start.loss == pytest.approx(4.852030)
    assert RULES[objective].start(None, training) is None


def test_an_undecided_preference_has_the_loss_of_a_coin() -> None:
    """-log sigmoid(0) is ln 2, for tiny models and for real weights. bfloat16 rounds it to 0.6914."""
    training = b.healthy("dpo-peft-config").training
    assert training is not None
    for model in (b.healthy().model, None):
        start = RULES[Objective.PREFERENCE].start(model, training)
        assert start is not None
        assert start.loss == pytest.approx(math.log(2))
        assert abs(0.69140625 - start.loss) < start.tolerance * start.loss


def test_an_indifferent_model_has_a_half() -> None:
    """1 - sigmoid(0) is a half, for tiny models and for real weights."""
    training = b.healthy("kto-peft-config").training
    assert training is not None
    for model in (b.healthy().model, None):
        start = RULES[Objective.UNPAIRED].start(model, training)
        assert start is not None and start.loss == 0.5


def test_only_a_trainer_that_needs_the_order_of_the_rows_may_keep_it() -> None:
    """Rows in their order are named in every other objective."""
    ordered = b.with_rows(b.healthy("kto-peft-config"), trained=(*range(64), *range(16)))
    assert judged(ordered).outcome is Outcome.PASS
    ordered = b.with_rows(b.healthy("dpo-peft-config"), trained=(*range(64), *range(16)))
    assert judged(ordered).failing == ("B102",)


def test_the_expected_reward_must_rise_where_the_model_generates() -> None:
    """The loss of generations is 0 and says nothing. What the reward lacks to 1 must fall by 1 %: from 0.5 to 0.495."""
    seen = b.healthy("grpo-peft-config")
    assert seen.training is not None
    for reward, failing in ((0.506, ()), (0.504, ("E802",)), (0.5, ("E802",)), (0.3, ("E802",))):
        training = dataclasses.replace(seen.training, accuracy_after=reward)
        assert judged(dataclasses.replace(seen, training=training)).failing == failing
    said = next(
        opinion.message
        for opinion in judged(b.learns_nothing(seen)).opinions
        if opinion.code == "E802" and opinion.message
    )
    assert said.startswith("what the expected reward lacks to 1 rises: 0.500000 -> 0.501000")


def test_a_loss_of_zero_and_any_number_of_tokens_are_normal_only_for_generations() -> None:
    """A completion has 1 or 2 tokens. The same numbers fail in another objective."""
    seen = b.training_loss_reported_as(b.healthy("grpo-peft-config"), 0.0)
    assert seen.labels is not None and seen.training is not None and seen.training.reference is not None
    zero = dataclasses.replace(seen.training, reference=dataclasses.replace(seen.training.reference, loss=0.0))
    seen = dataclasses.replace(seen, training=zero)
    for tokens, failing in ((160, ()), (211, ()), (320, ()), (159, ("L501",)), (321, ("L501",))):
        labels = dataclasses.replace(seen.labels, label_tokens=tokens)
        assert judged(dataclasses.replace(seen, labels=labels)).failing == failing
    assert judged(b.training_loss_reported_as(b.healthy("dpo-peft-config"), 0.0)).failing == ("E807",)


def test_a_new_head_has_the_loss_of_its_own_scores() -> None:
    """A reported loss that is not the loss of the model's scores is named by E806, and no fixed value is expected."""
    seen = b.healthy("reward-peft-config")
    assert judged(seen).outcome is Outcome.PASS
    assert seen.training is not None
    other = dataclasses.replace(seen.training, reference_before=0.70, reference_after=0.0087)
    assert judged(dataclasses.replace(seen, training=other)).failing == ("E806",)
    older = dataclasses.replace(seen.training, reference_before=None)
    assert RULES[Objective.REWARD].start(seen.model, older) is None


@pytest.mark.parametrize("flow", ["orpo-peft-config", "cpo-peft-config"])
def test_without_a_reference_the_loss_is_that_of_the_models_own_answers(flow: str) -> None:
    """It has no fixed value before training. Another reported loss is named by E806 alone."""
    seen = b.healthy(flow)
    assert judged(seen).outcome is Outcome.PASS
    assert seen.training is not None
    other = dataclasses.replace(seen.training, reference_before=4.8)
    assert judged(dataclasses.replace(seen, training=other)).failing == ("E806",)


@pytest.mark.parametrize("flow", ["dpo-peft-config", "kto-peft-config", "reward-peft-config", "orpo-peft-config"])
@pytest.mark.parametrize(("gains", "learned"), [(1.0, True), (0.51, True), (0.5, False), (0.0, False), (None, True)])
def test_most_chosen_sequences_gain_where_a_preference_is_learned(
    flow: str, gains: float | None, learned: bool
) -> None:
    """Half of the pairs is what luck gives. Older observations have no pairs."""
    training = b.healthy(flow).training
    assert training is not None
    said = RULES[flow_named(flow).objective].unlearned(dataclasses.replace(training, accuracy_after=gains))
    assert (said is None) is learned
