"""The record of each model of a script, from the call that loads it to the trainer that receives it."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from finetune_compat.cell.instruments import census
from finetune_compat.cell.script.held_out import Cut
from finetune_compat.cell.script.prompts import Ids
from finetune_compat.cell.script.saves import Changed
from finetune_compat.contract.records import Actor, Census, Labels, Precision, Stage, Training
from finetune_compat.contract.script import (
    AdapterStates,
    Computed,
    Lesson,
    NewParameters,
    PutBack,
    SavedAdapter,
    Seen,
    Taught,
)


class Story:
    """The record of one model: its censuses so far. Holds a weak reference, so that the script can free the model."""

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(root(model))
        self.model_type = str(getattr(getattr(root(model), "config", None), "model_type", type(root(model)).__name__))
        self.precision = precision_of(model)
        self.stages: list[Census] = []
        self.wrapped = False
        """Whether PEFT was called to add adapters."""
        self.handed_over = False
        """Whether the model was passed to a trainer."""
        self.missing: frozenset[str] | None = None
        """Names of the parameters that loading did not find; None if the model was not loaded."""
        self.rows_before: int | None = None
        """Rows of the embedding before the script added the first ones; None if it added none."""
        self.rows_now: int | None = None
        self.load_asked = ""
        """The data type that the script asks to load the model in; empty if it asks for none."""
        self.load_found: tuple[str, ...] = ()
        """The data types that loading gave."""
        self.trained_heads: set[str] = set()
        """New heads that an earlier training changed."""
        self.loaded_adapters: dict[str, Path] = {}
        """The configuration of each adapter that was loaded into the model, by the adapter's name."""
        self.used_adapters: set[str] = set()
        """Adapters that the script made active or saved."""

    def model(self) -> nn.Module | None:
        """The model inside its wrappers; None if the script has freed it."""
        return self._model()

    def is_of(self, model: nn.Module) -> bool:
        """Whether `model` is this model, or a wrapper around it."""
        return self._model() is root(model)

    def take(self, model: nn.Module, stage: Stage, actor: Actor) -> None:
        """Add a census of `model`."""
        self.precision = precision_of(model)
        self.stages.append(census.take(model, stage, actor, digest=census.has_adapters(model)))


class Measured:
    """Measurements of one call of `train()`; None or empty where the call did not get that far."""

    def __init__(self) -> None:
        self.training: Training | None = None
        self.labels: Labels | None = None
        self.rows: int | None = None
        self.rewards_alike: bool | None = None
        self.idle: tuple[str, ...] = ()
        self.new_from: int | None = None
        """The first row that the script added to the embedding; None if it added none."""
        self.used: frozenset[int] = frozenset()
        """Tokens from there on that occur in the training rows."""
        self.tokens: Any = None
        """The `labels.Tokens` of the training rows."""
        self.lesson: Lesson | None = None
        self.prompts: set[Ids] = set()
        """As `prompts.Prompts.read`."""
        self.new: NewParameters | None = None
        self.changed_outside: Changed = ()
        """Parameters in no adapter that training changed."""
        self.saved: SavedAdapter | None = None
        self.saved_more = False
        """Whether the script saved weights other than an adapter after training."""
        self.logged_at: tuple[int, ...] = ()
        self.frozen_after: int | None = None
        self.resets = False
        self.unloaded: tuple[int, int] | None = None
        """As `Run.resume_unloaded`."""
        self.seen_batches: Seen | None = None
        self.row_set: frozenset[Hashable] = frozenset()
        """The tokens of the rows that were trained on."""
        self.adapter_names: frozenset[str] = frozenset()
        """The adapters on the model when training ended."""
        self.active_adapters: frozenset[str] = frozenset()
        """Those that were active at the end of a step."""
        self.cut_from_training = Cut()
        self.reward: tuple[float, ...] = ()
        self.steps_left = 0
        self.adapters: AdapterStates | None = None
        self.taught: Taught | None = None
        self.put_back: PutBack | None = None
        self.itself = False
        """Whether the script put back the model's own tensors."""
        self.computed: Computed | None = None
        self.own_idle: tuple[str, ...] = ()
        self.accuracies: tuple[float, ...] = ()
        """Accuracies of the evaluations before and after training."""
        self.probe: Mapping[str, Tensor] | None = None
        """A few tokens of a training batch."""
        self.logits: Any = None
        """The logits for `probe` when training ended; None if not measured."""
        self.cut = False
        """Whether the watch ended training before its last step."""


class Stories:
    """The records of all models, in the order in which they were seen."""

    def __init__(self) -> None:
        self.all: list[Story] = []

    def of(self, model: nn.Module) -> Story:
        """The record of `model`; a new one if the model was not seen before."""
        found = next((story for story in self.all if story.is_of(model)), None)
        if found is None:
            found = Story(model)
            self.all.append(found)
        return found


def root(model: Any) -> nn.Module:
    """The model inside the wrappers of PEFT, TRL's value heads, data parallelism and torch.compile."""
    while True:
        if hasattr(model, "get_base_model"):
            return model.get_base_model()
        inner = next((vars(model)["_modules"].get(name) for name in _WRAPS if name in model._modules), None)
        if inner is None:
            return model
        model = inner


_WRAPS = ("pretrained_model", "module", "_orig_mod")


def precision_of(model: nn.Module) -> Precision:
    """How the base weights of `model` are stored."""
    kinds = {type(parameter).__name__ for parameter in model.parameters()}
    if "Params4bit" in kinds:
        return Precision.NF4
    return Precision.INT8 if "Int8Params" in kinds else Precision.FULL
