"""Measure which weights training changed: trainable weights by class, frozen weights by digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from finetune_compat.cell.instruments.census import adapter_part, seat_of
from finetune_compat.cell.instruments.fingerprints import fingerprints, read
from finetune_compat.contract.records import Area, Frozen, ParameterClass

_EXAMPLES = 5


def class_of(name: str) -> str:
    """The class of the parameter called `name`: its suffix, for example `lora_A`, preceded by the area of the model if
    that is the vision encoder or the projector.
    """
    added, seat = adapter_part(name), seat_of(name)
    suffix = added or _suffix(name)
    return f"{seat} {suffix}" if seat in (Area.VISION, Area.PROJECTOR) else suffix


def _suffix(name: str) -> str:
    area = seat_of(name)
    if area in (Area.EMBEDDING, Area.NORM, Area.HEAD):
        return str(area)
    owner, _, leaf = name.rpartition(".")
    return leaf if leaf == "bias" else owner.rpartition(".")[2]


_LAYER = re.compile(r"\b(?:layers|blocks|h)\.\d+")


def layer_of(name: str) -> str | None:
    """The layer of the parameter called `name`, for example `layers.1`; None if it is in no layer."""
    found = _LAYER.search(name)
    return found[0] if found else None


class ClassLog:
    """Notes gradients and changes of each trainable tensor from the beginning of training, by class."""

    def __init__(self, trained: Mapping[str, nn.Parameter], keep_on: str | None = None) -> None:
        """Copy `trained`, on the device of each tensor, or on the device `keep_on`."""
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
        """Take a fingerprint of every tensor, so that `end_step` finds the tensors that a step changed."""
        self._now = self._fingerprints()

    def end_step(self, step: int) -> None:
        """Note which tensors `step` changed. Does nothing before `begin`."""
        if self._now is None:
            return
        before, self._now = self._now, self._fingerprints()
        for name, old, new in zip(self._trained, before, self._now, strict=True):
            if old != new:
                self._last_moved[name] = step

    def _fingerprints(self) -> list[int]:
        # As numbers: live tensors of an instrument would count as memory of the flow.
        return read(fingerprints(self._trained.values()))

    def changes(self) -> dict[str, float]:
        """Largest absolute change of each tensor, in float32: other dtypes would round small changes to 0."""
        return {
            name: float((self._trained[name].detach().to(old.device).float() - old.float()).abs().max())
            for name, old in self._before.items()
        }

    def classes(self) -> dict[str, ParameterClass]:
        """The notes by class."""
        changes = self.changes()
        members: dict[str, list[str]] = {}
        for name in self._trained:
            members.setdefault(class_of(name), []).append(name)
        return {kind: self._class(names, changes) for kind, names in members.items()}

    def still_layers(self) -> tuple[str, ...]:
        """Layers in which no tensor changed."""
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
    """`pick` of the steps of all `names`; None if one of the names has no step."""
    return pick(steps[name] for name in names) if all(name in steps for name in names) else None


def frozen_digests(model: nn.Module) -> dict[str, str]:
    """Digest of every parameter of `model` that is now frozen, by name. Floating-point values are read as float32."""
    frozen = ((name, p) for name, p in model.named_parameters() if not p.requires_grad)
    return {name: _digest(parameter) for name, parameter in frozen if not _cast_in_place(model, name)}


def compared(before: Mapping[str, str], model: nn.Module) -> Frozen:
    """The parameters of `model` whose digest differs from the one in `before`."""
    named = dict(model.named_parameters())
    changed = [name for name, digest in before.items() if _digest(named[name]) != digest]
    return Frozen(len(before), len(changed), tuple(changed[:_EXAMPLES]))


def _cast_in_place(model: nn.Module, name: str) -> bool:
    """Whether bitsandbytes changes this parameter's dtype, and therefore its value, at every forward (from 0.50 on)."""
    owner, _, leaf = name.rpartition(".")
    return leaf == "bias" and type(getattr(model.get_submodule(owner), "weight", None)).__name__ == "Params4bit"


def _digest(parameter: torch.Tensor) -> str:
    values = parameter.detach()
    values = values.float() if values.is_floating_point() else values
    return hashlib.sha256(values.cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
