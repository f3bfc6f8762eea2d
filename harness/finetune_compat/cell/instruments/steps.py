"""Compute what a training step should have been: the gradient of the loss as the objective defines it, the update of
AdamW, and dropout. The trainer's own step is observed, and not changed.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from finetune_compat.cell.data import IGNORED
from finetune_compat.cell.instruments.batches import Batch, LabelLog
from finetune_compat.cell.instruments.changes import class_of
from finetune_compat.cell.setup import ADAMW
from finetune_compat.contract.records import ClassDifference, Dropout, Reference

REFERENCE_STEP = 2
"""The step that is computed again. In the first one, `lora_A` has no gradient behind a `lora_B` of zeros."""

Loss = Callable[[nn.Module, dict[str, Any], Batch], torch.Tensor]
"""The loss of a model, by the definition of the objective, from the arguments of its forward and its batch."""


class StepLog(TrainerCallback):
    """Observes every step of a training.

    Args:
        labels: receives the batches.
        loss: the loss by its definition.
        rates: the learning rates that the flow requests, by step.
        updates: whether to compute the updates of AdamW, which takes four copies of the trained weights.
    """

    def __init__(self, labels: LabelLog, loss: Loss, rates: Sequence[float], *, updates: bool) -> None:
        self._labels, self._loss, self._rates, self._updates = labels, loss, rates, updates
        self._step = 0
        self._trained: dict[str, nn.Parameter] = {}
        self._gradients: dict[str, torch.Tensor] = {}
        self._before: dict[str, torch.Tensor] = {}
        self._call: _Call | None = None
        self._handles: list[Any] = []
        self._dropout = DropoutLog()
        self._updates_of: AdamW | None = None
        self.reference: Reference | None = None
        self._errors: list[float] = []

    @property
    def _referred(self) -> bool:
        """Whether this step is the one to compute again: the second, or the only one."""
        return self._step == min(REFERENCE_STEP, len(self._rates))

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        model = given["model"]
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._handles = [p.register_post_accumulate_grad_hook(self._copier(name)) for name, p in self._trained.items()]
        self._handles.append(model.register_forward_pre_hook(self._note_call, with_kwargs=True))

    def _copier(self, name: str) -> Callable[[torch.Tensor], None]:
        def copy(parameter: torch.Tensor) -> None:
            if parameter.grad is not None:
                self._gradients[name] = parameter.grad.detach().clone()

        return copy

    def _note_call(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the first forward of the step that needs a gradient."""
        if self._call is None and self._referred and model.training and torch.is_grad_enabled():
            self._call = _Call(model, args, kwargs)

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._step += 1
        self._gradients = {}
        if self._referred:
            self._dropout.attach(given["model"])
        if self._updates or self._referred:
            self._before = {name: p.detach().clone() for name, p in self._trained.items()}

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self._updates:
            self._compare_the_update()
        if self._referred:
            self._dropout.detach()
            self._compute_again(given["model"])
        self._before = {}

    def _compare_the_update(self) -> None:
        self._updates_of = self._updates_of or AdamW()
        rate = self._rates[self._step - 1] if self._step <= len(self._rates) else 0.0
        self._errors.append(self._updates_of.error(self._before, self._gradients, self._trained, rate))

    def _compute_again(self, model: nn.Module) -> None:
        batch = self._labels.last
        if self._call is None or batch is None:
            return
        with (
            self._labels.paused(),
            torch.enable_grad(),
            self._call.same_random_numbers(),
            replaced(model, self._trained, self._before) as fresh,
        ):
            loss = self._loss(model, self._call.inputs, batch)
            loss.backward()
            found = {name: p.grad for name, p in fresh.items() if p.grad is not None}
        wanted = batch.labels != IGNORED
        self.reference = Reference(
            step=self._step,
            loss=float(loss.detach()),
            predicted=int(wanted[:, 1:].sum()),
            label_tokens=int(wanted.sum()),
            classes=differences(found, self._gradients),
        )
        self._call = None

    @contextmanager
    def evaluating(self, model: nn.Module) -> Iterator[None]:
        """While open, observe dropout in an evaluation."""
        self._dropout.attach(model, training=False)
        try:
            yield
        finally:
            self._dropout.detach()

    def dropout(self) -> Dropout:
        """The measurement of dropout."""
        return self._dropout.dropout()

    def update_errors(self) -> tuple[float, ...] | None:
        """The errors of the updates, by step; None if updates are not computed."""
        return tuple(self._errors) if self._updates else None

    def detach(self) -> None:
        """Remove the hooks, and release all tensors."""
        for handle in self._handles:
            handle.remove()
        self._dropout.detach()
        self._trained, self._gradients, self._before = {}, {}, {}
        self._call = self._updates_of = None


class _Call:
    """The arguments of one forward, and the state of the random numbers before it."""

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = {"input_ids": args[0], **kwargs} if args else kwargs
        # Flags can make a model return a loss and no logits.
        self.inputs = {n: value for n, value in named.items() if n != "labels" and isinstance(value, torch.Tensor)}
        self._states = _random_states(model)

    @contextmanager
    def same_random_numbers(self) -> Iterator[None]:
        """While open, random numbers are those of the forward. They are restored on exit."""
        cpu, device, gpu = self._states
        with torch.random.fork_rng([] if device is None else [device]):
            torch.set_rng_state(cpu)
            if gpu is not None:
                torch.cuda.set_rng_state(gpu, device)
            yield


def _random_states(model: nn.Module) -> tuple[torch.Tensor, torch.device | None, torch.Tensor | None]:
    place = next(model.parameters()).device
    if place.type != "cuda":
        return torch.get_rng_state(), None, None
    return torch.get_rng_state(), place, torch.cuda.get_rng_state(place)


@contextmanager
def replaced(
    model: nn.Module, trained: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]
) -> Iterator[dict[str, nn.Parameter]]:
    """While open, `model` has new parameters with `values` in place of `trained`, without the hooks of the old ones."""
    fresh = {name: nn.Parameter(values[name].clone()) for name in trained}
    by_identity = {id(parameter): fresh[name] for name, parameter in trained.items()}
    places = [
        (module, leaf, parameter)
        for module in model.modules()
        for leaf, parameter in module._parameters.items()
        if id(parameter) in by_identity
    ]
    for module, leaf, parameter in places:
        module._parameters[leaf] = by_identity[id(parameter)]
    try:
        yield fresh
    finally:
        for module, leaf, parameter in places:
            module._parameters[leaf] = parameter


def differences(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> dict[str, ClassDifference]:
    """The gradients `one` and `other`, by class of tensors. A missing gradient counts as zero."""
    squares: dict[str, list[float]] = {}
    for name in sorted({*one, *other}):
        none = torch.zeros_like(one[name] if name in one else other[name])
        left, right = (each.get(name, none).double().cpu() for each in (one, other))
        sums = squares.setdefault(class_of(name), [0.0, 0.0, 0.0])
        for at, values in enumerate((left, right, left - right)):
            sums[at] += float(values.square().sum())
    return {kind: ClassDifference(*(math.sqrt(square) for square in sums)) for kind, sums in squares.items()}


# ----------------------------------------------------------------------------------------------------------- optimizer


class AdamW:
    """AdamW by its definition (arXiv:1711.05101, algorithm 2), with the settings of `ADAMW`, and after clipping. Its
    operations have the order and the dtype of torch's, so that they round alike. Tensors of one dtype are one vector.
    """

    def __init__(self) -> None:
        self._step = 0
        self._moments: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor]] = {}

    def error(
        self,
        before: Mapping[str, torch.Tensor],
        gradients: Mapping[str, torch.Tensor],
        after: Mapping[str, torch.Tensor],
        rate: float,
    ) -> float:
        """The distance of `after` from the weights after this step, as a share of the length of the step.

        Args:
            before: the weights before the step, by name.
            gradients: the gradients before clipping. A missing one counts as zero.
            after: the weights after the trainer's step.
            rate: the learning rate.
        """
        self._step += 1
        groups = defaultdict(list)
        for name, weight in before.items():
            groups[weight.dtype].append(name)
        gradient = _clipped({name: gradients.get(name, torch.zeros_like(weight)) for name, weight in before.items()})
        wrong = length = 0.0
        for dtype, names in groups.items():
            start, now = (torch.cat([each[name].detach().flatten() for name in names]) for each in (before, after))
            step = torch.cat([gradient[name].flatten().to(dtype) for name in names])
            expected = self._after(dtype, start.clone(), step, rate)
            wrong += float((now.float() - expected.float()).square().sum())
            length += float((expected.float() - start.float()).square().sum())
        return math.sqrt(wrong / length) if length else (math.inf if wrong else 0.0)

    def _after(self, dtype: torch.dtype, weights: torch.Tensor, gradient: torch.Tensor, rate: float) -> torch.Tensor:
        """`weights` after the step; changed in place."""
        if dtype not in self._moments:
            self._moments[dtype] = torch.zeros_like(weights), torch.zeros_like(weights)
        mean, square = self._moments[dtype]
        mean.lerp_(gradient, 1 - ADAMW.beta1)
        square.mul_(ADAMW.beta2).addcmul_(gradient, gradient, value=1 - ADAMW.beta2)
        size = rate / (1 - ADAMW.beta1**self._step)
        spread = (square.sqrt() / math.sqrt(1 - ADAMW.beta2**self._step)).add_(ADAMW.epsilon)
        return weights.mul_(1 - rate * ADAMW.weight_decay).addcdiv_(mean, spread, value=-size)


def _clipped(gradients: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`gradients`, scaled to a norm of at most `max_grad_norm`. Norms have the dtype of the gradients, as in torch."""
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients.values()]
    if not norms:
        return {}
    total = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].dtype) for norm in norms]))
    scale = (ADAMW.max_grad_norm / (total + 1e-6)).clamp(max=1.0)
    return {name: gradient * scale.to(gradient.dtype) for name, gradient in gradients.items()}


# ------------------------------------------------------------------------------------------------------------- dropout

_DROPOUT = re.compile(r"\.lora_dropout\.[^.]+$")
"""The name of a dropout layer of an adapter in PEFT."""


class DropoutLog:
    """Counts the nonzero inputs of the adapters' dropout layers, and those that they set to zero."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._layers = 0
        self._inputs, self._zeroed = {True: 0, False: 0}, {True: 0, False: 0}

    def attach(self, model: nn.Module, *, training: bool = True) -> None:
        """Observe the layers of `model`, in a training step or in an evaluation."""
        layers = [module for name, module in model.named_modules() if _DROPOUT.search(name)]
        self._layers = len(layers)

        def note(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            given = args[0]
            if output is given:  # as in evaluation
                self._inputs[training] += given.numel()
                return
            self._inputs[training] += int(given.count_nonzero())
            self._zeroed[training] += int(((output == 0) & (given != 0)).sum())

        self._handles = [layer.register_forward_hook(note) for layer in layers]

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def dropout(self) -> Dropout:
        """The measurement."""
        return Dropout(self._layers, self._share(training=True), self._share(training=False))

    def _share(self, *, training: bool) -> float | None:
        return self._zeroed[training] / self._inputs[training] if self._inputs[training] else None
