"""Follow training loops that a script writes itself: every step of an optimizer that holds parameters of a model."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from finetune_compat.cell.instruments import census
from finetune_compat.cell.instruments.changes import ClassLog
from finetune_compat.contract.records import Actor, Gradients, Optimizer, Stage, Training

FEWEST_STEPS = 2
"""lora_A has its first gradient in step 2, and a single step is no loop."""

_LISTENED = 4
"""Tensors whose gradients are looked at before a backward pass adds to them."""


class Loop:
    """One model that a loop of the script trains, from the first step of an optimizer on."""

    def __init__(self, model: nn.Module) -> None:
        # Imported only here: this module is imported while Transformers or PEFT is, and that one needs both.
        from finetune_compat.cell.script.batches_seen import BatchLog

        self.model = model
        adapted = census.has_adapters(model)
        self.adapted = adapted
        self.census = census.take(model, Stage.TRAINER, Actor.FLOW, digest=adapted)
        self.batches = BatchLog(model)
        self._named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        chosen = census.subject(model)
        self._classes = ClassLog({name: p for name, p in chosen.items() if p.requires_grad} or chosen, keep_on="cpu")
        self._silent, self._zero = set(self._named), set(self._named)
        self._non_finite: set[str] = set()
        self._names = {id(p): name for name, p in self._named.items()}
        self._held: dict[int, nn.Parameter] = {}
        self._steps: dict[int, int] = {}
        self._squares: dict[int, float] = {}
        self._rates: dict[int, float] = {}
        self._losses: list[float] = []
        self._stepped = False
        model.register_forward_pre_hook(self._forward_begins, with_kwargs=True)
        model.register_forward_hook(self._forward_ends, with_kwargs=True)
        for parameter in list(self._named.values())[:_LISTENED]:
            parameter.register_hook(self._arriving(parameter))

    def holds(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Whether one of `parameters` is trainable here."""
        return any(id(parameter) in self._names for parameter in parameters)

    @property
    def steps(self) -> int:
        """Steps of the optimizer that stepped most often."""
        return max(self._steps.values(), default=0)

    # ------------------------------------------------------------------------------------------------------------ steps

    def begins(self, optimizer: Any, held: list[nn.Parameter]) -> None:
        """Note a step before it."""
        number = self._steps[id(optimizer)] = self._steps.get(id(optimizer), 0) + 1
        self._held |= {id(parameter): parameter for parameter in held}
        self._rates.setdefault(number, float(optimizer.param_groups[0]["lr"]))
        self._gradients(held, number)

    def ends(self, optimizer: Any, held: list[nn.Parameter]) -> None:
        """Note a step after it. Optimizers with a closure have their gradients only now."""
        number = self._steps.get(id(optimizer), 0)
        if not self._squares.get(number):
            self._gradients(held, number)
        self._stepped = True

    def _gradients(self, held: list[nn.Parameter], number: int) -> None:
        for parameter in held:
            name = self._names.get(id(parameter))
            if name is None or parameter.grad is None:
                continue
            norm = float(torch.linalg.vector_norm(parameter.grad.detach().float()))
            self._silent.discard(name)
            if not math.isfinite(norm):
                self._non_finite.add(name)
            if norm:
                self._zero.discard(name)
                self._classes.gradient(name, number)
            self._squares[number] = self._squares.get(number, 0.0) + norm * norm

    def _arriving(self, parameter: nn.Parameter) -> Callable[[torch.Tensor], None]:
        def note(gradient: torch.Tensor) -> None:
            if self._stepped and parameter.grad is not None and bool(parameter.grad.any()):
                self.batches.stale_from = self.batches.stale_from or self.steps + 1
            self._stepped = False

        return note

    # ---------------------------------------------------------------------------------------------------------- batches

    def _forward_begins(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled() and module.training:
            self.batches.note(kwargs)

    def _forward_ends(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if not torch.is_grad_enabled():
            self.batches.again(module, args, kwargs, output)
        elif module.training and isinstance(loss := getattr(output, "loss", None), torch.Tensor) and not loss.dim():
            self._losses.append(float(loss.detach()))

    # ----------------------------------------------------------------------------------------------------------- record

    def training(self) -> Training:
        """What was seen of the loop until now."""
        numbers = range(1, self.steps + 1)
        held = list(self._held.values())
        return Training(
            steps=self.steps,
            loss=tuple(self._losses),
            grad_norm=tuple(math.sqrt(self._squares.get(number, 0.0)) for number in numbers),
            learning_rate=tuple(self._rates[number] for number in numbers),
            learning_rate_asked=(),
            eval_before=None,
            eval_after=None,
            accuracy_before=None,
            accuracy_after=None,
            subject_delta=max(self._classes.changes().values(), default=0.0),
            subject_finite=all(bool(torch.isfinite(p).all()) for p in self._named.values()),
            optimizer=self._holdings(held),
            gradients=Gradients(
                len(self._named), len(self._silent), len(self._zero - self._silent), len(self._non_finite)
            ),
            classes=self._classes.classes(),
            still_layers=self._classes.still_layers(),
        )

    def _holdings(self, held: list[nn.Parameter]) -> Optimizer:
        alive = {id(parameter) for parameter in self._named.values()}
        missing = sum(p.numel() for name, p in self._named.items() if id(p) not in self._held)
        known = [parameter for parameter in held if id(parameter) in alive]
        return Optimizer(sum(p.numel() for p in known), missing, sum(p.numel() for p in held) - sum(map(_size, known)))

    def idle(self) -> tuple[str, ...]:
        """Names of the tensors that never had a gradient other than zero."""
        return tuple(sorted(self._zero))


def _size(parameter: nn.Parameter) -> int:
    return parameter.numel()


class Loops:
    """All loops of a script. `busy` says whether a trainer is training, whose steps are its own."""

    def __init__(self, busy: Callable[[], bool], failed: Callable[[Exception], None]) -> None:
        self._busy, self._failed = busy, failed
        self._models: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.all: list[Loop] = []
        self._loaded: int | None = None
        self._follow_loaders()
        register_optimizer_step_pre_hook(lambda optimizer, *_: self._step(optimizer, Loop.begins))
        register_optimizer_step_post_hook(lambda optimizer, *_: self._step(optimizer, Loop.ends))

    def _follow_loaders(self) -> None:
        """Note the largest data set that a loader reads."""
        original = DataLoader.__iter__

        @functools.wraps(original)
        def begin(loader: Any) -> Any:
            with suppress(TypeError, NotImplementedError):  # a stream has no length
                self._loaded = max(len(loader.dataset), self._loaded or 0)
            return original(loader)

        DataLoader.__iter__ = begin  # type: ignore[method-assign]

    def know(self, model: nn.Module) -> None:
        """`model` was made: a loop may train it."""
        self._models.add(model)

    def _step(self, optimizer: Any, note: Callable[[Loop, Any, list[nn.Parameter]], None]) -> None:
        if self._busy():
            return
        try:
            held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            loop = self._loop_of(held)
            if loop is not None:
                loop.batches.loaded = self._loaded
                note(loop, optimizer, held)
        except Exception as error:  # noqa: BLE001 - an instrument must not end the script
            self._failed(error)

    def _loop_of(self, held: list[nn.Parameter]) -> Loop | None:
        found = next((loop for loop in self.all if loop.holds(held)), None)
        if found is not None:
            return found
        wanted = {id(parameter) for parameter in held}
        models = [model for model in list(self._models) if any(id(p) in wanted for p in model.parameters())]
        if not models:
            return None
        self.all.append(Loop(max(models, key=lambda model: sum(1 for _ in model.modules()))))
        return self.all[-1]
