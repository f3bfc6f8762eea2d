"""Which token each position of a row is taught, read from the gradient of the loss.

The gradient of a cross entropy is negative only at the logit of the label. This holds wherever the loss is computed:
in the model, the trainer or the script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from finetune_compat.cell.script.labels import shifts_labels
from finetune_compat.cell.script.stories import root
from finetune_compat.contract.script import Taught

_FORWARDS = 2
"""Forwards that are looked at: every later batch is treated alike."""

_DIMENSIONS = 3
"""Logits of a language model are [rows, tokens, vocabulary]."""


class TaughtLog:
    """Counts positions by the token that they are taught."""

    def __init__(self) -> None:
        self._left = _FORWARDS
        self._counts = dict.fromkeys(("positions", "following", "after_next", "itself"), 0)

    def hear(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        """A forward hook of a causal language model: look at the gradient of its logits."""
        ids, logits = kwargs.get("input_ids", args[0] if args else None), getattr(output, "logits", None)
        if not self._left or not module.training or not isinstance(ids, torch.Tensor):
            return
        if not isinstance(logits, torch.Tensor) or logits.dim() != _DIMENSIONS or not logits.requires_grad:
            return
        if logits.shape[:2] == ids.shape:
            self._left -= 1
            logits.register_hook(self._noting(ids.detach()))

    def _noting(self, ids: torch.Tensor) -> Callable[[torch.Tensor], None]:
        def note(gradient: torch.Tensor) -> None:
            lowest, tokens = gradient.detach().min(dim=-1)
            # A sum over several losses has several negative logits at a position, and so no one token that is taught.
            single = (gradient < 0).sum(dim=-1) == 1
            kept = (single & (lowest < 0))[:, :-2]
            tokens = tokens[:, :-2]
            following, after_next = tokens == ids[:, 1:-1], tokens == ids[:, 2:]
            self._counts["positions"] += int(kept.sum())
            self._counts["following"] += int((kept & following).sum())
            self._counts["after_next"] += int((kept & after_next & ~following).sum())
            self._counts["itself"] += int((kept & (tokens == ids[:, :-2]) & ~following).sum())

        return note

    def taught(self) -> Taught | None:
        """The counts; None if no position was taught one token."""
        return Taught(**self._counts) if self._counts["positions"] else None


@contextmanager
def listening(model: nn.Module) -> Iterator[TaughtLog]:
    """While open, the log hears the training forwards of `model`, if it is a causal language model of Transformers."""
    log = TaughtLog()
    if not shifts_labels(model):
        yield log
        return
    handle = root(model).register_forward_hook(log.hear, with_kwargs=True)
    try:
        yield log
    finally:
        handle.remove()
