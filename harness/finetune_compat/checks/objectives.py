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

RULES: Mapping[Objective, Rules] = {
    Objective.SFT: _NEXT_TOKEN,
    Objective.PLAIN: _NEXT_TOKEN,
}
