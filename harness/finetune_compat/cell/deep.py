"""The deep tier: run a flow again with other setups, and compare.

The flow's file is not changed. A probe in place of the recorder measures when training begins, and then ends the flow.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import TrainerCallback, set_seed

from finetune_compat.cell import adapt, handicaps
from finetune_compat.cell.data import EOS
from finetune_compat.cell.instruments.batches import LabelLog
from finetune_compat.cell.instruments.emulation import presented
from finetune_compat.cell.instruments.perturbation import evaluation_responds
from finetune_compat.cell.instruments.steps import differences
from finetune_compat.cell.objectives import Objective
from finetune_compat.cell.runner import Facts, failure
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import ACCUMULATED_ROWS, Flow, Handicap
from finetune_compat.contract.records import Deep, Failure, Labels, LossPair, Response, Stage, StepPair

REPEATS = 2
WANDERERS = 2
_ORDERED_STEPS = 2
"""Steps whose order of rows is compared. Two random orders agree in 16 of 64 rows with a probability of 1e-28."""

_T = TypeVar("_T")
_Measure = Callable[[Any], _T]
"""Receives the flow's trainer, before training."""


def measured(flow: Flow, objective: Objective, setup: Setup, facts: Facts) -> Deep:
    """The measurements of the deep tier for `flow`; an empty `Deep` if training did not finish."""
    if facts.training is None:
        return Deep()
    clock = time.perf_counter()
    again = _Again(flow, objective, setup)
    repeats = [again.run("repeats", _losses) for _ in range(REPEATS - 1)]
    last = again.run("repeats", _losses_and_response)
    wanderers = [again.run("wanderers", _hindered(Handicap.WANDERING, seed)) for seed in range(WANDERERS)]
    return Deep(
        repeats=_there(*repeats, last and last[0]),
        twin=again.run("twin", _hindered(Handicap.FROZEN, 0)),
        wanderers=_there(*wanderers),
        accumulation=_accumulation(again),
        checkpointing=_checkpointing(again) if setup.gradient_checkpointing else None,
        evaluation=last and last[1],
        other_order=_other_order(again, objective, setup) or (),
        failures=again.failures,
        duration_s=round(time.perf_counter() - clock, 3),
    )


def _there(*pairs: LossPair | None) -> tuple[LossPair, ...]:
    return tuple(pair for pair in pairs if pair is not None)


class _Measured(BaseException):
    """Ends a flow after its measurement. A `BaseException`, because libraries catch `Exception`."""


class _Probe:
    """Replaces the recorder: does nothing until training, measures instead of training, and ends the flow."""

    def __init__(self, measure: _Measure[Any]) -> None:
        self._measure = measure
        self.now = Stage.IMPORT
        self.result: Any = None

    @contextmanager
    def at(self, stage: Stage) -> Iterator[None]:
        self.now = stage
        yield

    def census(self, model: nn.Module) -> None:
        pass

    def train(self, trainer: Any, rates_asked: tuple[float, ...]) -> None:
        self.now = Stage.TRAINING
        self.result = self._measure(trainer)
        raise _Measured


class _Again:
    """Runs one flow with variations of one setup, and collects the errors."""

    def __init__(self, flow: Flow, objective: Objective, setup: Setup) -> None:
        self._flow = flow
        self._objective = objective
        self._setup = setup
        self.failures: dict[str, Failure] = {}

    def run(self, name: str, measure: _Measure[_T], **changes: Any) -> _T | None:
        """The result of `measure` with `changes` to the setup. If an error is raised, it is recorded under `name`, and
        None is returned.
        """
        setup = dataclasses.replace(self._setup, **changes, dropped=[])
        probe = _Probe(measure)
        set_seed(setup.seed)
        try:
            with presented() if setup.emulates else nullcontext():
                importlib.import_module(self._flow.module).run(setup, probe)
        except _Measured:
            found: _T = probe.result
            return found
        except Exception as error:  # noqa: BLE001 - every exception of a library is an observation
            self.failures[name] = failure(error, probe.now)
        return None

    def step(self, name: str, **changes: Any) -> _Step | None:
        """One step without dropout, with `changes` to the setup."""
        lora = dataclasses.replace(self._setup.lora, dropout=0.0)
        measure = functools.partial(_one_step, self._objective, self._setup.seed)
        return self.run(name, measure, lora=lora, steps=1, **changes)

    def checkpointed(self, name: str, *, on: bool) -> _Step | None:
        """One step, with or without gradient checkpointing."""
        return self.step(name, variant=dataclasses.replace(self._setup.variant, gradient_checkpointing=on))


# -------------------------------------------------------------------------------------------------------- eval losses


def _losses(trainer: Any) -> LossPair:
    before = trainer.evaluate().get("eval_loss")
    trainer.train()
    return LossPair(before, trainer.evaluate().get("eval_loss"))


def _losses_and_response(trainer: Any) -> tuple[LossPair, Response | None]:
    losses = _losses(trainer)
    if losses.after is None:
        return losses, None
    return losses, evaluation_responds(trainer.model, trainer.evaluate)


def _hindered(handicap: Handicap, seed: int) -> _Measure[LossPair]:
    def measure(trainer: Any) -> LossPair:
        trainer.add_callback(handicaps.callback(handicap, seed))
        return _losses(trainer)

    return measure


def _other_order(again: _Again, objective: Objective, setup: Setup) -> tuple[int, ...] | None:
    """The rows of the first steps of the flow with a seed that is one higher; None for real weights."""
    if setup.model.weights_sha256 is None:
        return None
    seed = setup.seed + 1
    labels = LabelLog(EOS, objective.given(dataclasses.replace(setup, seed=seed)))

    def measure(trainer: Any) -> tuple[int, ...]:
        with objective.listening(trainer, labels):
            trainer.train()
        return tuple(labels.rows)

    return again.run("other_order", measure, seed=seed, steps=_ORDERED_STEPS)


# ------------------------------------------------------------------------------------------------------------ one step


@dataclass(frozen=True, slots=True)
class _Step:
    loss: float | None
    gradients: dict[str, torch.Tensor]
    labels: Labels | None


class _GradientCopies(TrainerCallback):
    """Copies the gradients after the last backward pass, before they are clipped."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        for name, parameter in given["model"].named_parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._copier(name))

    def _copier(self, name: str) -> Callable[[torch.Tensor], None]:
        def copy(parameter: torch.Tensor) -> None:
            self.gradients[name] = parameter.grad.detach().float().cpu().clone()  # type: ignore[union-attr]

        return copy


def _one_step(objective: Objective, seed: int, trainer: Any) -> _Step:
    """One step of an adapter with nonzero `lora_B`, so that every class has a gradient from the first step on."""
    adapt.pretend_trained(trainer.model, seed)
    trainer.data_collator = objective.unequal(trainer.data_collator)
    copies, labels = _GradientCopies(), LabelLog(EOS)
    trainer.add_callback(copies)
    with objective.listening(trainer, labels):
        trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return _Step(losses[0] if losses else None, copies.gradients, labels.labels())


def _accumulation(again: _Again) -> StepPair | None:
    one = again.step("accumulation", rows=ACCUMULATED_ROWS)
    other = again.step("accumulation", rows=1, accumulation=ACCUMULATED_ROWS)
    return _compared(one, other)


def _checkpointing(again: _Again) -> StepPair | None:
    one = again.checkpointed("checkpointing", on=False)
    other = again.checkpointed("checkpointing", on=True)
    return _compared(one, other)


def _compared(one: _Step | None, other: _Step | None) -> StepPair | None:
    if one is None or other is None:
        return None
    same = one.labels is not None and other.labels is not None
    return StepPair(
        loss_one=one.loss,
        loss_other=other.loss,
        same_labels=same and one.labels.labels_sha256 == other.labels.labels_sha256,  # type: ignore[union-attr]
        classes=differences(one.gradients, other.gradients),
    )
