"""The plausible labels and losses of a training run, by objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from finetune_compat.contract.catalog import GENERATIONS, Objective
from finetune_compat.contract.records import LossPair, ModelShape, Training


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
    start: Callable[[ModelShape | None, Training], Start | None]
    """Expected eval loss of a tiny model, or of real weights (argument None); None if it cannot be predicted."""
    dropout: bool = True
    """Whether the trainer leaves the dropout of the adapters on by default."""
    generated: bool = False
    """Whether the model generates the completions: a row then has any number of labels between those of the flow, the
    loss is about 0 whatever the model is, and learning is judged by `watched`.
    """
    watches: str = "eval loss"
    """What falls while a flow learns, for messages."""
    watched: Callable[[Training], LossPair] = lambda training: LossPair(training.eval_before, training.eval_after)
    """The values of `watches` before and after training."""
    in_order: str | None = None
    """Why the trainer goes through the rows in their order; None if it has to shuffle them."""
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


def _of_a_guess(model: ModelShape | None, _: Training) -> Start | None:
    """A tiny model is random, so its loss is that of a uniform guess. None for real weights."""
    if model is None:
        return None
    return Start(math.log(model.vocab_size), FROM_A_GUESS, "a random model guesses uniformly")


NEXT_TOKEN = Rules(1, MINIMUM_FALL, _of_a_guess)

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

MINIMUM_UNPAIRED_FALL = 0.1
"""Share by which eval loss must fall from 1/2 in ten steps of a healthy cell. With 8 seeds on TRL 0.22 it fell by
32.9 % or more; with 6 seeds by at most 1.6 % with steps in random directions, with 3 by 0.8 % with a hundredth of the
learning rate.
"""

HALF = 0.5


def _undecided(_: ModelShape | None, __: Training) -> Start:
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

# ------------------------------------------------------------------------------------------------- unpaired preference


def _indifferent(_: ModelShape | None, __: Training) -> Start:
    """With an adapter without effect every log-ratio and the KL term are 0, and 1 - sigmoid(0) is a half."""
    return Start(HALF, ROUNDING, "an adapter without effect has 1 - sigmoid(0)")


def _rows_do_not_move_apart(training: Training) -> str | None:
    """A message unless more than half of the held-out rows became likelier if desirable, and less likely if not."""
    right = training.accuracy_after
    if right is None or right > HALF:
        return None
    return f"eval loss falls, and only {right:.0%} of held-out rows changed their likelihood in the right direction"


_UNPAIRED = Rules(
    1,
    MINIMUM_UNPAIRED_FALL,
    _indifferent,
    dropout=False,  # `disable_dropout` is True by default in every release
    in_order="KTOTrainer makes its KL term of the rows of one batch before training",
    unlearned=_rows_do_not_move_apart,
)

# ----------------------------------------------------------------------------------------------- rewards of generations

MINIMUM_REWARD_RISE = 0.01
"""Share by which what the expected reward lacks to 1 must fall in ten steps of a healthy cell. With 9 seeds on TRL 0.22
and 1.16 it fell by 1.7 % or more; with 4 seeds by at most 0.2 % with steps in random directions, with 3 by less than
0.1 % with a hundredth of the learning rate.
"""


def _by_reward(training: Training) -> LossPair:
    """Rewards lie between 0 and 1. The eval loss of generations is about 0 before and after training: advantages of one
    prompt sum to 0.
    """
    rewards = (training.accuracy_before, training.accuracy_after)
    return LossPair(*(None if reward is None else 1 - reward for reward in rewards))


_ONLINE = Rules(
    GENERATIONS,
    MINIMUM_REWARD_RISE,
    lambda _, __: None,
    dropout=False,  # `disable_dropout` is asked for: generation and loss would have other adapters
    generated=True,
    watches="what the expected reward lacks to 1",
    watched=_by_reward,
)

# --------------------------------------------------------------------------------------------------------------- reward

ROUNDED_SCORE = 1e-2
"""Share by which eval loss may differ from that of the model's own scores: some cells round them to bfloat16."""


def _of_its_own_output(_: ModelShape | None, training: Training) -> Start | None:
    """A new head is random, and so is its loss before training: it is calculated from what the model answers."""
    if training.reference_before is None:
        return None
    return Start(training.reference_before, ROUNDED_SCORE, "the model's own answers have that loss")


MINIMUM_SCORE_FALL = 0.25
"""Share by which eval loss must fall in ten steps of a healthy cell. With 8 seeds on TRL 0.22 it fell by 89.0 % or
more; with 6 seeds by at most 3.9 % with steps in random directions.
"""

_REWARD = Rules(
    2,
    MINIMUM_SCORE_FALL,
    _of_its_own_output,
    unlearned=_chosen_do_not_gain,
)

# ----------------------------------------------------------------------------------------- preference without reference

_REFERENCE_FREE = Rules(
    2,
    MINIMUM_FALL,
    _of_its_own_output,
    dropout=False,  # `disable_dropout` is True by default in every release
    unlearned=_chosen_do_not_gain,
)

RULES: Mapping[Objective, Rules] = {
    Objective.SFT: NEXT_TOKEN,
    Objective.PLAIN: NEXT_TOKEN,
    Objective.PREFERENCE: _PREFERENCE,
    Objective.UNPAIRED: _UNPAIRED,
    Objective.ONLINE: _ONLINE,
    Objective.LEAVE_ONE_OUT: _ONLINE,
    Objective.ODDS_RATIO: _REFERENCE_FREE,
    Objective.CONTRASTIVE: _REFERENCE_FREE,
    Objective.REWARD: _REWARD,
}
