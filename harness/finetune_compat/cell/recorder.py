"""Record one cell: a flow reports its stages, and the recorder measures. It does not judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import nn
from transformers import TrainerCallback

from finetune_compat.cell.instruments import batches, census, forwards, freezes, library_calls, messages, training
from finetune_compat.cell.instruments.memory import MemoryLog
from finetune_compat.cell.instruments.rows import Data
from finetune_compat.cell.objectives import Objective
from finetune_compat.cell.runner import Facts, failure
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import Flow, Subject
from finetune_compat.contract.records import (
    CENSUS_STAGES,
    Absence,
    AbsentStage,
    Actor,
    Census,
    Failure,
    Forward,
    Freeze,
    Reply,
    Stage,
    Training,
)


class Recorder:
    """Collects the facts of one cell. Use it as a context manager around the whole flow."""

    def __init__(
        self, flow: Flow, objective: Objective, memory: MemoryLog, data: Data, handicap: TrainerCallback | None = None
    ) -> None:
        """
        Args:
            flow: the flow of the cell.
            objective: the module of its objective.
            memory: receives the memory of the flow.
            data: the tokens and rows of the flow's data.
            handicap: a callback that prevents learning, to measure a flow that does not learn.
        """
        self._flow, self._objective, self._memory = flow, objective, memory
        self._data, self._handicap = data, handicap
        self._now = Stage.IMPORT
        self._model: nn.Module | None = None
        self._scopes, self._watch = ExitStack(), ExitStack()
        self._watching = True
        self._labels = batches.LabelLog(data.end, data.given)
        self._censuses: list[Census] = []
        self._freezes: tuple[Freeze, ...] = ()
        self._training: Training | None = None
        self._error: Failure | None = None
        self._attention: str | None = None
        self._batch: dict[str, Any] | None = None
        self._answer: torch.Tensor | None = None
        self._reply: Reply | None = None
        self._forward: Forward | None = None

    def __enter__(self) -> Self:
        self._messages = self._scopes.enter_context(messages.collected(lambda: self._now))
        self._freeze_log = self._watch.enter_context(freezes.watched())
        return self

    def __exit__(self, *exception: object) -> None:
        self._end_watch()
        self._scopes.close()

    @contextmanager
    def at(self, stage: Stage) -> Iterator[None]:
        """While open, warnings, freezes and errors belong to `stage`. At `Stage.TRAINER`, library calls that prepare or
        wrap a model are observed.
        """
        self._now = self._freeze_log.stage = stage
        with ExitStack() as scope:
            if stage is Stage.TRAINER:
                scope.enter_context(self._observing_the_library())
            yield

    def _observing_the_library(self) -> AbstractContextManager[None]:
        return library_calls.observed(
            {
                "prepare_model_for_kbit_training": lambda model: self._take(model, Stage.PREPARE, Actor.LIBRARY),
                "prepare_model_for_int8_training": lambda model: self._take(model, Stage.PREPARE, Actor.LIBRARY),
                "get_peft_model": lambda model: self._take(model, Stage.PEFT, Actor.LIBRARY),
            }
        )

    def census(self, model: nn.Module) -> None:
        """Count the parameters of `model` at the current stage."""
        self._take(model, self._now, Actor.FLOW)
        if self._now is Stage.RELOAD:
            self._ask_the_reloaded(model)

    def _take(self, model: nn.Module, stage: Stage, actor: Actor) -> None:
        if self._watching:
            self._model = model
        self._attention = _attention_of(model) or self._attention
        has_subject = self._flow.subject is Subject.MODEL or any(
            census.is_adapter(n) for n, _ in model.named_parameters()
        )
        self._censuses.append(census.take(model, stage, actor, digest=has_subject))
        self._memory.look()

    def train(self, trainer: Any, rates_asked: tuple[float, ...]) -> None:
        """Evaluate, train and evaluate again. Freezes are not recorded from here on."""
        self._end_watch()
        self._now = Stage.TRAINING
        if self._handicap is not None:
            trainer.add_callback(self._handicap)
        with self._memory.looking_at_the_first_step():
            self._training, self._batch = training.train(
                trainer, self._objective, self._labels, rates_asked, self._data
            )
        self._ask_with_and_without_adapter(trainer.model)

    def _ask_with_and_without_adapter(self, model: nn.Module) -> None:
        if self._batch is None:
            return
        self._answer = batches.asked_again(model, self._batch)
        alone: float | None = None
        if self._flow.subject is Subject.ADAPTER:
            with batches.without_adapters(model):
                alone = _difference(self._answer, batches.asked_again(model, self._batch))
        self._reply = Reply(alone, None)
        self._forward = forwards.measured(model, self._batch, self._answer, self._data.pad)

    def _ask_the_reloaded(self, model: nn.Module) -> None:
        if self._batch is None or self._answer is None or self._reply is None:
            return
        reloaded = _difference(self._answer, batches.asked_again(model, self._batch))
        self._reply = dataclasses.replace(self._reply, reloaded=reloaded)

    def _end_watch(self) -> None:
        if not self._watching:
            return
        self._watching = False
        if self._model is not None:
            self._freezes = self._freeze_log.of(self._watched_subject(self._model))
        self._model = None  # a reference would keep the model in memory
        self._watch.close()

    def _watched_subject(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters that the flow trains: only their freezes are reported. A base model has no adapters yet."""
        found = census.subject(model)
        if self._flow.subject is Subject.MODEL:
            return found
        return {name: parameter for name, parameter in found.items() if census.is_adapter(name)}

    def failed(self, error: Exception) -> None:
        """Record the exception that ended the flow, with the current stage."""
        self._error = failure(error, self._now)

    def facts(self, setup: Setup) -> Facts:
        """The facts of a flow that ran with `setup`."""
        return Facts(
            absent=self._absent(),
            attention_used=self._attention,
            stages=tuple(self._censuses),
            freezes=self._freezes,
            training=self._training,
            labels=self._labels.labels(),
            reply=self._reply,
            forward=self._forward,
            sizes=setup.model.sizes,
            weights_sha256=setup.model.weights_sha256,
            options_dropped=tuple(dict.fromkeys(setup.dropped)),
            warnings=self._messages.messages(),
            error=self._error,
        )

    def _absent(self) -> tuple[AbsentStage, ...]:
        taken = {taken.name for taken in self._censuses}
        return tuple(AbsentStage(stage, self._why_absent(stage)) for stage in CENSUS_STAGES if stage not in taken)

    def _why_absent(self, stage: Stage) -> Absence:
        order = list(Stage)
        if self._error is not None and order.index(stage) >= order.index(self._error.stage):
            return Absence.NOT_REACHED
        if self._flow.subject is Subject.ADAPTER and stage in (Stage.PREPARE, Stage.PEFT):
            return Absence.NOT_CALLED
        return Absence.NOT_IN_FLOW


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def _attention_of(model: nn.Module) -> str | None:
    used = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return None if used is None else str(used)
