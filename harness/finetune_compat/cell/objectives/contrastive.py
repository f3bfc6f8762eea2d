"""Contrastive preference optimisation with TRL's `CPOTrainer`: the next token of the chosen completions, and a higher
likelihood of the chosen completion than of the rejected one (CPO, arXiv:2401.08417, equation 6).
"""

from __future__ import annotations

import torch
from torch import nn

from finetune_compat.cell.instruments.batches import Batch
from finetune_compat.cell.objectives import preference
from finetune_compat.cell.objectives.reference_free import ReferenceFree, listening, log_likelihoods, means

__all__ = ["arguments", "evaluating", "given", "listening", "loss", "trainer", "unequal"]

BETA = 0.1
"""Factor of the log-ratio: TRL's default in every release."""


def losses(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The loss of each pair, [pairs]; all chosen completions have the same number of tokens."""
    each = log_likelihoods(logits, batch.labels)
    chosen, rejected = each.sum(dim=1).view(-1, 2).unbind(dim=1)
    return -means(each, batch.labels)[::2] - nn.functional.logsigmoid(BETA * (chosen - rejected))


_OBJECTIVE = ReferenceFree("CPO", {"beta": BETA, "loss_type": "sigmoid", "cpo_alpha": 1.0}, losses)
trainer, arguments = _OBJECTIVE.trainer, _OBJECTIVE.arguments
evaluating, loss = _OBJECTIVE.evaluating, _OBJECTIVE.loss
given, unequal = preference.given, preference.unequal
