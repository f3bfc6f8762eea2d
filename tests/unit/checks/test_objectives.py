"""The plausible labels and losses of a training run, by objective."""

from __future__ import annotations

import dataclasses
import math

import builders as b
import pytest
from finetune_compat.checks.objectives import RULES
from finetune_compat.contract.catalog import CATALOG, Objective


def test_every_objective_of_the_catalog_has_rules() -> None:
    """A flow without rules could not be judged."""
    assert {flow.objective for flow in CATALOG} <= set(RULES)


@pytest.mark.parametrize("objective", [Objective.SFT, Objective.PLAIN])
def test_a_random_model_guesses_uniformly(objective: Objective) -> None:
    """With a vocabulary of 128 the loss is ln 128. Real weights are not random, so nothing is expected of them."""
    model = b.healthy().model
    assert model is not None
    start = RULES[objective].start(dataclasses.replace(model, vocab_size=128))
    assert start is not None
    assert start.loss == pytest.approx(4.852030)
    assert RULES[objective].start(None) is None


def test_an_undecided_preference_has_the_loss_of_a_coin() -> None:
    """-log sigmoid(0) is ln 2, for tiny models and for real weights. bfloat16 rounds it to 0.6914."""
    for model in (b.healthy().model, None):
        start = RULES[Objective.PREFERENCE].start(model)
        assert start is not None
        assert start.loss == pytest.approx(math.log(2))
        assert abs(0.69140625 - start.loss) < start.tolerance * start.loss


@pytest.mark.parametrize(("gains", "learned"), [(1.0, True), (0.51, True), (0.5, False), (0.0, False), (None, True)])
def test_most_chosen_completions_gain_where_a_preference_is_learned(gains: float | None, learned: bool) -> None:
    """Half of the pairs is what luck gives. Older observations have no pairs."""
    training = b.healthy("dpo-peft-config").training
    assert training is not None
    said = RULES[Objective.PREFERENCE].unlearned(dataclasses.replace(training, accuracy_after=gains))
    assert (said is None) is learned
