"""What of its labels and its loss is plausible, by what a trainer optimises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from finetune_compat.contract.catalog import Objective
from finetune_compat.contract.records import ModelShape, Training


@dataclass(frozen=True, slots=True)
class Start:
    """The eval loss before training."""

    loss: float
    tolerance: float
    """Share of `loss` by which it may differ."""
    of: str
    """What has this loss, and what the loss is called: for messages."""
    called: str


@dataclass(frozen=True, slots=True)
class Rules:
    """The label and loss rules of one objective."""

    sequences: int
    """Sequences with labels that a row of data becomes."""
    minimum_fall: float
    """Share of the eval loss a healthy cell must lose in ten steps."""
    start: Callable[[ModelShape | None], Start | None]
    """Of a tiny model, or of real weights (None); None where it is not known beforehand."""
    unlearned: Callable[[Training], str | None] = lambda _: None
    """What else says that nothing was learned, although eval loss fell; None: nothing does."""


# ---------------------------------------------------------------------------------------------------------- next token

MINIMUM_FALL = 0.05
"""Share of the eval loss a healthy cell must lose in ten steps. In the sweeps over seeds (`reports/learning/`)
healthy flows lost 11.2 % and more; with steps in random directions 1.1 % at most, with a hundredth of the learning rate
0.4 %.
"""

FROM_A_GUESS = 0.1
"""Share of the loss of a guess by which a random model's may differ from it. Over the baseline it is 3.4 % less, where
a release divides by all labels, to 1.5 % more.
"""


def _of_a_guess(model: ModelShape | None) -> Start | None:
    """A tiny model is random. What real weights know of our rows is not known."""
    if model is None:
        return None
    return Start(math.log(model.vocab_size), FROM_A_GUESS, "a random model", "that of a guess")


_NEXT_TOKEN = Rules(1, MINIMUM_FALL, _of_a_guess)

# ---------------------------------------------------------------------------------------------------------- preference

ROUNDING = 3e-3
"""Share of ln 2 by which eval loss may differ from it: bfloat16 rounds it to 0.6914, which is 2.5e-3 less. In float32
2.7e-9 was measured.
"""

MINIMUM_PREFERENCE_FALL = 0.25
"""Share of ln 2 that a healthy cell must lose in ten steps. With 30 seeds on TRL 1.16 healthy flows lost 69.8 % and
more; with steps in random directions 6.5 % at most, with a hundredth of the learning rate 2.9 %.
"""

HALF = 0.5


def _undecided(_: ModelShape | None) -> Start:
    """An adapter that starts without effect is its own reference: every margin is 0, and -log sigmoid(0) is ln 2. This
    holds for any weights.
    """
    return Start(math.log(2), ROUNDING, "an adapter without effect", "ln 2")


def _chosen_do_not_gain(training: Training) -> str | None:
    """The mean of -log sigmoid falls below ln 2 only if the mean margin is above 0, which a few pairs can bring about:
    in more than half of the held-out pairs the chosen completion must gain on the rejected one.
    """
    gains = training.accuracy_after
    if gains is None or gains > HALF:
        return None
    return f"eval loss falls, and the chosen completion gains in only {gains:.0%} of held-out pairs"


_PREFERENCE = Rules(2, MINIMUM_PREFERENCE_FALL, _undecided, _chosen_do_not_gain)

RULES: Mapping[Objective, Rules] = {
    Objective.SFT: _NEXT_TOKEN,
    Objective.PLAIN: _NEXT_TOKEN,
    Objective.PREFERENCE: _PREFERENCE,
}
