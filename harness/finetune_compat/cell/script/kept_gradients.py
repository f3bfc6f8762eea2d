"""Whether an optimizer step uses gradients of an earlier step in addition to its own.

A cleared `grad` is no proof: the script may keep a copy of the gradients and add it later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

_TENSORS = 3
"""Parameters that are followed: the same code treats all of them."""

_ELEMENTS = 1 << 18
"""Most elements of a followed parameter."""

_FITS = 1e-3
"""Largest relative rest of a fit that counts as exact: gradients are summed in their own precision."""

_DIFFERS = 1e-2
"""Least relative rest that counts as a difference. Clipping only multiplies, and leaves none."""

_FEWEST = 3
"""Least number of steps that must show it."""


class KeptGradients(TrainerCallback):
    """Compares what the optimizer gets with what the backward passes gave."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        small = [p for p in parameters if p.requires_grad and p.numel() <= _ELEMENTS]
        self._followed = small[:: max(1, len(small) // _TENSORS)][:_TENSORS]
        self._arrived: dict[int, torch.Tensor] = {}
        self._before: torch.Tensor | None = None
        self._compared = self._kept = 0
        self._handles = [parameter.register_hook(self._arriving(parameter)) for parameter in self._followed]

    def _arriving(self, parameter: nn.Parameter) -> Callable[[torch.Tensor], None]:
        def note(gradient: torch.Tensor) -> None:
            new, old = gradient.detach().double(), self._arrived.get(id(parameter))
            self._arrived[id(parameter)] = new.clone() if old is None else old + new

        return note

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        arrived, self._arrived = self._arrived, {}
        whole = [p for p in self._followed if p.grad is not None and id(p) in arrived]
        if not whole or len(whole) != len(self._followed):
            self._before = None
            return
        used = torch.cat([p.grad.detach().double().flatten() for p in whole])  # type: ignore[union-attr]
        own = torch.cat([arrived[id(p)].flatten() for p in whole])
        if self._before is not None:
            self._compared += 1
            self._kept += _holds(used, own, self._before)
        self._before = used

    def first(self) -> int | None:
        """The first step that used gradients of the step before; None if there is none."""
        return 2 if self._kept >= _FEWEST and self._kept == self._compared else None

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()


def _holds(used: torch.Tensor, own: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether `used` is a sum of `own` and `before` with factors above 0, and no multiple of `own`."""
    size = float(used.norm())
    if not size or not bool(torch.isfinite(torch.stack([used, own, before])).all()):
        return False
    if _rest(used, own.unsqueeze(1))[0] < _DIFFERS * size:
        return False
    rest, factors = _rest(used, torch.stack([own, before], dim=1))
    return rest < _FITS * size and bool((factors > 0).all())


def _rest(used: torch.Tensor, parts: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The rest of the least squares fit of `used` by the columns of `parts`, and their factors."""
    factors = torch.linalg.lstsq(parts, used.unsqueeze(1)).solution
    return float((used - (parts @ factors).squeeze(1)).norm()), factors
