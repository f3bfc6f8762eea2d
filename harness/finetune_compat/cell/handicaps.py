"""Handicaps: changes that prevent a flow from learning, wholly or nearly, and change nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, assert_never

import torch
from torch import nn
from transformers import TrainerCallback

from finetune_compat.cell.instruments.census import subject
from finetune_compat.cell.instruments.changes import layer_of
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import Handicap

Change = Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]
"""Returns the new value of a tensor after a step, from its name, its value before the step, and its value after it."""

_LIVE_CLASS = "q_proj.lora_B"


class Handicapped(TrainerCallback):
    """Changes the weights after each optimizer step. Gradients and optimizer are not changed."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._before: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._keep(subject(given["model"]))

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        trained = subject(given["model"])
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(self._change(name, self._before[name], parameter.detach().clone()))
        self._keep(trained)

    def _keep(self, trained: dict[str, nn.Parameter]) -> None:
        self._before = {name: parameter.detach().clone() for name, parameter in trained.items()}


def callback(handicap: Handicap | None, seed: int) -> TrainerCallback | None:
    """The callback that gives a trainer `handicap`; None for no handicap, and for one that is a learning rate."""
    match handicap:
        case None | Handicap.HUNDREDTH:
            return None
        case Handicap.FROZEN:
            return Handicapped(_only(lambda _: False))
        case Handicap.WANDERING:
            return Handicapped(_wandering(seed))
        case Handicap.ONE_LAYER:
            return Handicapped(_only(lambda name: layer_of(name) == "layers.0"))
        case Handicap.ONE_CLASS:
            return Handicapped(_only(lambda name: _LIVE_CLASS in name))
    assert_never(handicap)


def slowed(setup: Setup, handicap: Handicap | None) -> Setup:
    """`setup` with the learning rate of `handicap`."""
    if handicap is not Handicap.HUNDREDTH:
        return setup
    return dataclasses.replace(setup, learning_rate=setup.learning_rate / 100)


def _only(lives: Callable[[str], bool]) -> Change:
    return lambda name, before, after: after if lives(name) else before


def _wandering(seed: int) -> Change:
    generator = torch.Generator().manual_seed(seed)

    def turned(_name: str, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        signs = torch.randint(0, 2, before.shape, generator=generator).to(before.device, before.dtype) * 2 - 1
        return before + (after - before) * signs

    return turned
