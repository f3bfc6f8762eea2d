"""What the adapter layers of a model compute with at the end of each training step: switched off, merged, of strength
0, or another adapter than the one that is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import TrainerCallback

from finetune_compat.cell.instruments import census
from finetune_compat.cell.instruments.optimizer import parameters_held
from finetune_compat.contract.script import AdapterStates


def adapter_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of `model` that PEFT adapts."""
    return (module for module in model.modules() if census._is_adapter_layer(type(module)))


class AdapterLog(TrainerCallback):
    """Notes the states when each step ends: by then the callbacks and the loss of the script have done what they do."""

    def __init__(self) -> None:
        self._layers: list[Any] = []
        self._held: set[str | None] = set()
        self._steps = self._disabled = self._merged = self._zero = 0
        self._other: tuple[str, ...] = ()
        self.active: set[str] = set()
        """Adapters that were active at the end of a step."""
        self._other_from: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._layers = list(adapter_layers(given["model"]))
        held = parameters_held(given["optimizer"])
        named = given["model"].named_parameters()
        self._held = {census._adapter_name(name) for name, p in named if id(p) in held} - {None}

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if not self._layers:
            return
        self._steps += 1
        self._disabled += all(layer.disable_adapters for layer in self._layers)
        self._merged += all(layer.merged for layer in self._layers)
        self._zero += _without_strength(self._layers)
        active = tuple(sorted({name for layer in self._layers for name in layer.active_adapters}))
        self.active |= set(active)
        if not self._held or self._held & set(active):
            self._other, self._other_from = (), None
        elif self._other_from is None:
            self._other, self._other_from = active, int(state.global_step)

    def states(self) -> AdapterStates | None:
        """What was noted; None if there was no adapter layer, or no step."""
        if not self._steps:
            return None
        return AdapterStates(
            steps=self._steps,
            disabled=self._disabled,
            merged=self._merged,
            without_strength=self._zero,
            other=self._other,
            other_from=self._other_from,
        )


def _without_strength(layers: list[Any]) -> bool:
    scales = [getattr(layer, "scaling", None) for layer in layers]
    used = [
        float(scale[name])
        for layer, scale in zip(layers, scales, strict=True)
        if isinstance(scale, dict)
        for name in layer.active_adapters
        if name in scale
    ]
    return bool(used) and not any(used)
