"""Rewards of the model's own completions, with TRL's `RLOOTrainer`: as `online`, with the other completions of a prompt
as the baseline, and a KL term in the reward (RLOO, arXiv:2402.14740, section 3.2; one update for each generation).
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from finetune_compat.cell import adapt, constructors
from finetune_compat.cell.data import IGNORED, WORDS
from finetune_compat.cell.instruments.batches import Batch, without_adapters
from finetune_compat.cell.objectives import online
from finetune_compat.cell.objectives.online import evaluating, given, listening, unequal
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import GENERATED_TOKENS, GENERATIONS

__all__ = ["arguments", "evaluating", "given", "listening", "loss", "trainer", "unequal"]

BETA = 0.05
"""Weight of the KL term: TRL's default. Above 0, so that the trainer needs a reference."""


def trainer() -> type[Any]:
    """`RLOOTrainer`. A flow calls it when it is imported: modules of TRL that are first imported in `Stage.TRAINER`
    would keep the observed functions of PEFT, and with them the recorder.
    """
    import trl

    importlib.import_module("trl.trainer.grpo_trainer")  # for `online.arguments`
    return trl.RLOOTrainer


def arguments(setup: Setup) -> dict[str, Any]:
    """Keyword arguments for `RLOOTrainer`, without the model: configuration, and the rest as for `GRPOTrainer`."""
    import trl

    asked = {
        "beta": BETA,
        "num_generations": GENERATIONS,
        "max_completion_length": GENERATED_TOKENS,
        "per_device_train_batch_size": GENERATIONS * setup.rows,
        "temperature": 1.0,
        "normalize_advantages": False,
        "disable_dropout": True,
    }
    config = adapt.configured(trl.RLOOConfig, {**adapt.training_options(setup), **asked}, setup)
    rest = {name: value for name, value in online.arguments(setup).items() if name != "args"}
    return {"args": config, **adapt.named(constructors.options(trainer()), rest, setup)}


def loss(model: nn.Module, _: dict[str, Any], batch: Batch) -> torch.Tensor:
    """The negative advantage of each completion, times its likelihood over the one that it was generated with."""
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attended}
    own = _log_likelihoods(model(**inputs).logits, batch.labels)
    with torch.no_grad(), without_adapters(model):
        other = _log_likelihoods(model(**inputs).logits, batch.labels)
    term = own.detach() - other
    return -(advantages(rewards(batch) - BETA * term) * torch.exp(own - own.detach())).mean()


def rewards(batch: Batch) -> torch.Tensor:
    """The reward of each completion, [completions]."""
    texts = [" ".join(f"w{token}" for token in row if 0 <= token < WORDS) for row in batch.labels.tolist()]
    return torch.tensor(online.mean_word(texts), device=batch.ids.device)


def advantages(rewarded: torch.Tensor) -> torch.Tensor:
    """What each completion got more than the others of its prompt on average; those of a prompt stand together."""
    groups = rewarded.view(-1, GENERATIONS)
    others = (groups.sum(dim=1, keepdim=True) - groups) / (GENERATIONS - 1)
    return (groups - others).flatten()


def _log_likelihoods(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of the labels of each sequence, [sequences]."""
    kept, wanted = logits[:, :-1].float(), labels[:, 1:]
    each = nn.functional.cross_entropy(kept.transpose(1, 2), wanted, reduction="none", ignore_index=IGNORED)
    return -each.sum(dim=1)
