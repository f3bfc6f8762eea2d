"""Observe one training step of a user's run. Hooks are removed at the end of the step, and the device is not
synchronized before then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from finetune_compat.cell.instruments.fingerprints import read
from finetune_compat.checks.guard_checks import Look

_IGNORED = nn.CrossEntropyLoss().ignore_index
"""Label of a token that every loss leaves out."""

_PER_TOKEN = 2
"""Dimensions of labels that have one entry per token: [rows, tokens]."""


class StepLook:
    """Observes one optimizer step, from its beginning to its end."""

    def __init__(self, model: nn.Module, watched: Mapping[str, nn.Parameter], *, labels: bool) -> None:
        self._names = list(watched)
        self._arrived: set[int] = set()
        self._extremes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._rows = 0
        self._with_labels: list[torch.Tensor] = []
        self._handles: list[Any] = [
            p.register_post_accumulate_grad_hook(self._listener(i)) for i, p in enumerate(watched.values())
        ]
        if labels:
            self._handles.append(model.register_forward_pre_hook(self._note_labels, with_kwargs=True))

    def _listener(self, number: int) -> Callable[[torch.Tensor], None]:
        def note(parameter: torch.Tensor) -> None:
            self._arrived.add(number)
            # A layer-wise optimizer has already removed it. After the last micro-batch it is the sum over all of them.
            if parameter.grad is not None:
                self._extremes[number] = torch.aminmax(parameter.grad.detach())

        return note

    def _note_labels(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        labels = kwargs.get("labels")
        # Labels with one entry per row (a class, or a regression target) are never masked.
        if not module.training or not isinstance(labels, torch.Tensor) or labels.dim() < _PER_TOKEN:
            return
        # A decoder-only model predicts the next token, so the first label of a row is not used.
        first = 0 if getattr(getattr(module, "config", None), "is_encoder_decoder", False) else 1
        self._rows += labels.shape[0]
        self._with_labels.append((labels[:, first:] != _IGNORED).flatten(1).any(dim=1).sum())

    def close(self, step: int) -> Look:
        """The observed step. Synchronizes with the device once."""
        self.release()
        values = iter(read([value.float() for pair in self._extremes.values() for value in pair]))
        extremes = {number: (next(values), next(values)) for number in self._extremes}
        finite = {number: all(map(math.isfinite, pair)) for number, pair in extremes.items()}
        return Look(
            step=step,
            tensors=len(self._names),
            silent=tuple(name for number, name in enumerate(self._names) if number not in self._arrived),
            zero=tuple(name for number, name in enumerate(self._names) if extremes.get(number) == (0, 0)),
            non_finite=tuple(name for number, name in enumerate(self._names) if not finite.get(number, True)),
            rows=self._rows,
            masked=self._rows - sum(read(self._with_labels)),
        )

    def release(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def rewards_make_the_gradient(args: Any) -> bool:
    """Whether a trainer with the arguments `args` learns from rewards, for example GRPO and RLOO. Only these have
    `num_generations`.

    Their gradient is zero if all completions of a prompt have the same reward. Their loss is 0.0 while they learn.
    """
    return hasattr(args, "num_generations")
