"""Measure which weights training changed: what it should change by class, what it should not by digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from finetune_compat.cell.instruments.census import area_of, is_adapter, seat_of
from finetune_compat.cell.instruments.fingerprints import fingerprints, read
from finetune_compat.contract.records import Area, Frozen, ParameterClass

_EXAMPLES = 5


def class_of(name: str) -> str:
    """The class of the parameter called `name`: the suffix that says what it is, and its part of the model where that
    is not the language model.
    """
    suffix, seat = (_adapter_suffix(name), seat_of(name)) if is_adapter(name) else (_suffix(name), area_of(name))
    return f"{seat} {suffix}" if seat in (Area.VISION, Area.PROJECTOR) else suffix


def _adapter_suffix(name: str) -> str:
    parts = name.split(".")
    return next((part for part in parts if part.startswith("lora_")), "modules_to_save")


def _suffix(name: str) -> str:
    area = area_of(name)
    if area in (Area.EMBEDDING, Area.NORM, Area.HEAD):
        return str(area)
    owner, _, leaf = name.rpartition(".")
    return leaf if leaf == "bias" else owner.rpartition(".")[2]


_LAYER = re.compile(r"\b(?:layers|blocks|h)\.\d+")


def layer_of(name: str) -> str | None:
    """The layer of the parameter called `name`, such as `layers.1`; None if it is in none."""
    found = _LAYER.search(name)
    return found[0] if found else None


class ClassLog:
    """What happens to each trainable tensor from the begin of training on, by class."""

    def __init__(self, trained: Mapping[str, nn.Parameter], keep_on: str | None = None) -> None:
        """A copy of `trained` is kept where they are, or on the device `keep_on`."""
        self._trained = trained
        self._before = {name: p.detach().to(keep_on or p.device, copy=True) for name, p in trained.items()}
        self._reached: dict[str, int] = {}
        self._last_gradient: dict[str, int] = {}
        self._last_moved: dict[str, int] = {}
        self._now: list[int] | None = None

    def gradient(self, name: str, step: int) -> None:
        """Note a gradient other than zero for `name` in `step`, counted from 1."""
        self._reached.setdefault(name, step)
        self._last_gradient[name] = step

    def begin(self) -> None:
        """Look at every tensor, to know at the end of each step which of them it moved."""
        self._now = self._fingerprints()

    def end_step(self, step: int) -> None:
        """Note which tensors `step` moved; nothing before `begin`."""
        if self._now is None:
            return
        before, self._now = self._now, self._fingerprints()
        for name, old, new in zip(self._trained, before, self._now, strict=True):
            if old != new:
                self._last_moved[name] = step

    def _fingerprints(self) -> list[int]:
        # As numbers: no tensor of the recorder's is alive when the flow's are counted.
        return read(fingerprints(self._trained.values()))

    def changes(self) -> dict[str, float]:
        """Largest absolute change of each tensor. Other dtypes than float32 would round small ones away."""
        return {
            name: float((self._trained[name].detach().to(old.device).float() - old.float()).abs().max())
            for name, old in self._before.items()
        }

    def classes(self) -> dict[str, ParameterClass]:
        """What was noted, by class."""
        changes = self.changes()
        members: dict[str, list[str]] = {}
        for name in self._trained:
            members.setdefault(class_of(name), []).append(name)
        return {kind: self._class(names, changes) for kind, names in members.items()}

    def still_layers(self) -> tuple[str, ...]:
        """Layers of which nothing changed."""
        moved = {name: change != 0 for name, change in self.changes().items()}
        layers = dict.fromkeys(layer for name in self._trained if (layer := layer_of(name)))
        return tuple(layer for layer in layers if not any(moved[name] for name in moved if layer_of(name) == layer))

    def _class(self, names: list[str], changes: Mapping[str, float]) -> ParameterClass:
        of_class = [changes[name] for name in names]
        return ParameterClass(
            tensors=len(names),
            reached=_over_all(max, self._reached, names),
            unchanged=sum(change == 0 for change in of_class),
            largest_change=max(of_class),
            gradients_until=_over_all(min, self._last_gradient, names),
            moving_until=_over_all(min, self._last_moved, names),
        )


def _over_all(pick: Callable[[Iterable[int]], int], steps: Mapping[str, int], names: list[str]) -> int | None:
    """The latest or the earliest of the steps of all `names`; None if one of them has none."""
    return pick(steps[name] for name in names) if all(name in steps for name in names) else None


def frozen_digests(model: nn.Module) -> dict[str, str]:
    """Digest of every parameter of `model` that is not trainable now, by name; floating point is read as float32."""
    frozen = ((name, p) for name, p in model.named_parameters() if not p.requires_grad)
    return {name: _digest(parameter) for name, parameter in frozen if not _cast_in_place(model, name)}


def compared(before: Mapping[str, str], model: nn.Module) -> Frozen:
    """What of `before` is not what it was."""
    named = dict(model.named_parameters())
    changed = [name for name, digest in before.items() if _digest(named[name]) != digest]
    return Frozen(len(before), len(changed), tuple(changed[:_EXAMPLES]))


def _cast_in_place(model: nn.Module, name: str) -> bool:
    """Whether bitsandbytes changes this parameter's dtype, and so its value, at every forward (from 0.50 on)."""
    owner, _, leaf = name.rpartition(".")
    return leaf == "bias" and type(getattr(model.get_submodule(owner), "weight", None)).__name__ == "Params4bit"


def _digest(parameter: torch.Tensor) -> str:
    values = parameter.detach()
    values = values.float() if values.is_floating_point() else values
    return hashlib.sha256(values.cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
