"""Odds ratio preference optimisation with TRL's `ORPOTrainer`: the next token of the chosen sequences, and higher odds
of the chosen completion than of the rejected one (ORPO, arXiv:2403.07691, equations 6 and 7).

TRL takes the first term over prompt and completion; the paper takes the completion alone.
"""

from __future__ import annotations

import torch
from torch import nn

from finetune_compat.cell.data import IGNORED
from finetune_compat.cell.instruments.batches import Batch
from finetune_compat.cell.objectives import preference
from finetune_compat.cell.objectives.reference_free import ReferenceFree, listening, log_likelihoods, means

__all__ = ["arguments", "evaluating", "given", "listening", "loss", "trainer", "unequal"]

BETA = 0.1
"""Weight of the odds ratio: TRL's default in every release."""


def losses(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The loss of each pair, [pairs]; all chosen sequences have the same number of tokens."""
    attended = torch.ones_like(batch.ids) if batch.attended is None else batch.attended
    tokens = batch.ids.masked_fill(attended == 0, IGNORED)
    next_token = -means(log_likelihoods(logits, tokens), tokens)[::2]
    likely = means(log_likelihoods(logits, batch.labels), batch.labels)
    chosen, rejected = (likely - torch.log1p(-likely.exp())).view(-1, 2).unbind(dim=1)
    return next_token - BETA * nn.functional.logsigmoid(chosen - rejected)


_OBJECTIVE = ReferenceFree("ORPO", {"beta": BETA}, losses)
trainer, arguments = _OBJECTIVE.trainer, _OBJECTIVE.arguments
evaluating, loss = _OBJECTIVE.evaluating, _OBJECTIVE.loss
given, unequal = preference.given, preference.unequal
