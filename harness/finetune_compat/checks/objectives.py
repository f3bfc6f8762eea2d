"""The plausible labels and losses of a training run, by objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from finetune_compat.contract.catalog import Objective
from finetune_compat.contract.records import ModelShape, Training


@dataclass(frozen=True, slots=True)
class Start:
    """The expected eval loss before training."""

    loss: float
    tolerance: float
    """Share of `loss` by which the measured loss may differ."""
    why: str
    """Why `loss` is expected: for messages."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The label and loss rules of one objective."""

    sequences: int
    """Number of sequences with labels that one row of data becomes."""
    minimum_fall: float
    """Share by which eval loss must fall in ten steps of a healthy cell."""
    start: Callable[[ModelShape | None], Start | None]
    """Expected eval loss of a tiny model, or of real weights (argument None); None if it cannot be predicted."""
    dropout: bool = True
    """Whether the trainer leaves the dropout of the adapters on by default."""
    unlearned: Callable[[Training], str | None] = lambda _: None
    """Another sign that nothing was learned although eval loss fell, as a message; None if there is no such sign."""


# ---------------------------------------------------------------------------------------------------------- next token

MINIMUM_FALL = 0.05
"""Share by which eval loss must fall in ten steps of a healthy cell. In the sweeps over seeds (`reports/learning/`) it
fell by 11.2 % or more in healthy flows, by at most 1.1 % with steps in random directions, and by at most 0.4 % with a
hundredth of the learning rate.
"""

FROM_A_GUESS = 0.1
"""Share by which the loss of a random model may differ from the loss of a uniform guess. In the baseline the difference
ranges from -3.4 % (a release divides by all labels) to +1.5 %.
"""


def _of_a_guess(model: ModelShape | None) -> Start | None:
    """A tiny model is random, so its loss is that of a uniform guess. None for real weights."""
    if model is None:
        return None
    return Start(math.log(model.vocab_size), FROM_A_GUESS, "a random model guesses uniformly")


_NEXT_TOKEN = Rules(1, MINIMUM_FALL, _of_a_guess)

# ---------------------------------------------------------------------------------------------------------- preference

ROUNDING = 3e-3
"""Share by which eval loss may differ from ln 2: bfloat16 rounds ln 2 to 0.6914, which is 2.5e-3 less. In float32 the
difference was 2.7e-9.
"""

MINIMUM_PREFERENCE_FALL = 0.25
"""Share by which eval loss must fall from ln 2 in ten steps of a healthy cell. With 30 seeds on TRL 1.16 it fell by
69.8 % or more in healthy flows, by at most 6.5 % with steps in random directions, and by at most 2.9 % with a hundredth
of the learning rate.
"""

HALF = 0.5


def _undecided(_: ModelShape | None) -> Start:
    """An adapter that starts without effect gives the same output as the reference model. So every margin is 0, and
    -log sigmoid(0) is ln 2, for any weights.
    """
    return Start(math.log(2), ROUNDING, "an adapter without effect has ln 2")


def _chosen_do_not_gain(training: Training) -> str | None:
    """A message unless the chosen completion gains on the rejected one in more than half of the held-out pairs. The
    mean loss alone is not enough: a few pairs with a large margin can lower it.
    """
    gains = training.accuracy_after
    if gains is None or gains > HALF:
        return None
    return f"eval loss falls, and the chosen completion gains in only {gains:.0%} of held-out pairs"


_PREFERENCE = Rules(
    2,
    MINIMUM_PREFERENCE_FALL,
    _undecided,
    dropout=False,  # `disable_dropout` of DPOConfig is True in every release
    unlearned=_chosen_do_not_gain,
)

RULES: Mapping[Objective, Rules] = {
    Objective.SFT: _NEXT_TOKEN,
    Objective.PLAIN: _NEXT_TOKEN,
    Objective.PREFERENCE: _PREFERENCE,
}
