"""How a guarded run ends, for the tests of the guard."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from finetune_compat import TrainingStopped
from finetune_compat.cell.guard import TrainingWarning
from finetune_compat.cell.instruments.census import is_adapter
from torch import nn

ADAPTER, TENSORS, EVERYTHING = 16_384, 28, 107_072
"""Parameters and tensors of the tiny adapter (2 layers of 7 modules of 2 tensors); parameters of model and adapter."""


@contextmanager
def silence() -> Iterator[None]:
    """Turn every warning of the guard into an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingWarning)
        yield


def stopped(trainer: Any, action: Callable[[], Any] | None = None) -> tuple[str, str, int]:
    """Train until the guard stops it; return the code, the first line of the message, and the finished steps."""
    with pytest.raises(TrainingStopped) as caught, silence():
        (action or trainer.train)()
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.meaning and caught.value.todo
    return caught.value.code, str(caught.value).partition("\n")[0], trainer.state.global_step


def finishes(trainer: Any) -> None:
    """Train to the last step without a warning of the guard."""
    with silence():
        trainer.train()
    assert trainer.state.global_step == trainer.args.max_steps


def warned(trainer: Any) -> list[str]:
    """Train to the last step; return the first lines of the guard's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train()
    assert trainer.state.global_step == trainer.args.max_steps
    found = [str(w.message) for w in caught if issubclass(w.category, TrainingWarning)]
    return [text.partition("\n")[0].removeprefix("TrainingGuard: ") for text in found]


def adapters(trainer: Any) -> dict[str, nn.Parameter]:
    """Return the adapter's parameters by name."""
    return {name: parameter for name, parameter in trainer.model.named_parameters() if is_adapter(name)}


def freeze(parameters: Iterable[nn.Parameter]) -> None:
    """Freeze `parameters`."""
    for parameter in parameters:
        parameter.requires_grad = False
