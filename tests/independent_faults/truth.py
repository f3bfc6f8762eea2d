"""What a run of a flow really did, recorded for the tests of effects, without any instrument of the harness."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from finetune_compat.cell import execution
from finetune_compat.cell.instruments.emulation import presented
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Stage
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import set_seed

Values = dict[str, torch.Tensor]


@dataclass(slots=True)
class Batch:
    """One forward pass. All rows are [rows, tokens]."""

    ids: torch.Tensor
    labels: torch.Tensor | None
    in_training_mode: bool


@dataclass(slots=True)
class Answers:
    """Logits of a model in evaluation mode, [rows, tokens, words], for one fixed batch."""

    plain: torch.Tensor
    after_padding: torch.Tensor
    """The same rows behind masked padding; only the logits of the rows."""
    with_other_end: torch.Tensor
    """The same rows with another last token."""


@dataclass(slots=True)
class Truth:
    """The facts of one run."""

    before: Values = field(default_factory=dict)
    after: Values = field(default_factory=dict)
    """All parameters by name before and after training."""
    trained: set[str] = field(default_factory=set)
    """Names of the parameters that require gradients when training begins."""
    scales: dict[str, float] = field(default_factory=dict)
    """LoRA's scaling by layer, before training."""
    logs: list[dict[str, float]] = field(default_factory=list)
    """The trainer's log, one entry per step."""
    evaluations: list[dict[str, float]] = field(default_factory=list)
    """Metrics of two evaluations before training and of two after it."""
    batches: list[Batch] = field(default_factory=list)
    evaluated: list[Batch] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    """Index in the training set of each row in the order of training; -1 for a row that is not in it."""
    held_out: set[tuple[int, ...]] = field(default_factory=set)
    """The rows of the evaluation set."""
    at_start: Answers | None = None
    at_end: Answers | None = None
    reloaded: Answers | None = None
    reloaded_scales: dict[str, float] = field(default_factory=dict)
    saved: Values = field(default_factory=dict)
    saved_config: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def logged(self, name: str) -> list[float]:
        """The values under `name` in the trainer's log, by step."""
        return [float(entry[name]) for entry in self.logs if name in entry]

    def eval_losses(self) -> list[float]:
        """The loss of each evaluation."""
        return [metrics["eval_loss"] for metrics in self.evaluations]

    def rows(self) -> list[tuple[int, ...]]:
        """The rows of all training batches, in order."""
        return [tuple(row) for batch in self.batches for row in batch.ids.tolist()]


class Witness:
    """Takes the place of the harness's recorder in a flow, and notes the truth."""

    def __init__(self, setup: Any) -> None:
        self.truth = Truth()
        self._setup = setup
        self._stage: Stage | None = None

    @contextlib.contextmanager
    def at(self, stage: Stage) -> Iterator[None]:
        """Note what was saved when the stage after training ends."""
        self._stage = stage
        yield
        if stage is Stage.AFTER_TRAINING:
            self._read_saved(self._setup.scratch / "saved")

    def census(self, model: Any) -> None:
        """Ask the reloaded model."""
        if self._stage is Stage.RELOAD:
            self.truth.reloaded = answers_of(model)
            self.truth.reloaded_scales = _scales(model)

    def train(self, trainer: Any, rates: tuple[float, ...]) -> None:
        """Evaluate twice, train, and evaluate twice again."""
        truth, model = self.truth, trainer.model
        known = _rows_of(trainer.train_dataset)
        truth.held_out = set(_rows_of(trainer.eval_dataset))
        truth.at_start, truth.scales = answers_of(model), _scales(model)
        with _watched(model, truth.evaluated):
            truth.evaluations += [trainer.evaluate(), trainer.evaluate()]
        truth.before = _values(model)
        truth.trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        with _watched(model, truth.batches):
            trainer.train()
        truth.after = _values(model)
        truth.logs = [entry for entry in trainer.state.log_history if "loss" in entry]
        truth.evaluations += [trainer.evaluate(), trainer.evaluate()]
        truth.at_end = answers_of(model)
        truth.order = [known.get(row, -1) for row in truth.rows()]

    def _read_saved(self, folder: Path) -> None:
        for file in sorted(folder.glob("*.safetensors")):
            self.truth.saved |= load_file(file)
        config = folder / "adapter_config.json"
        if config.exists():
            self.truth.saved_config = json.loads(config.read_text(encoding="utf-8"))


def truth_of(plan: Plan, planned: PlannedCell, plant: Any, *, micro_batches: int = 1) -> Truth:
    """Run the flow of `planned` under a witness, with `plant` called once when all is prepared. An error is noted."""
    flow = flow_named(planned.flow)
    set_seed(plan.seed)
    setup = execution.prepared(plan, planned, flow)
    if micro_batches > 1:
        setup = dataclasses.replace(setup, rows=setup.rows // micro_batches, accumulation=micro_batches)
    witness = Witness(setup)
    try:
        plant()
        set_seed(plan.seed)
        with presented() if setup.emulates else contextlib.nullcontext():
            importlib.import_module(flow.module).run(setup, witness)
    except Exception as error:  # noqa: BLE001 - a fault may end a flow, and that is an effect
        witness.truth.error = f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(setup.scratch, ignore_errors=True)
    return witness.truth


_ROW = torch.arange(16).remainder(7) + 3
"""Words that all models of the cells know."""
_PADDING, _OTHER_WORD = 3, 11
"""Number of padding tokens, and the word at the end of the other rows. Token 0 pads: its mask is what hides it."""


def answers_of(model: Any) -> Answers:
    """Ask the model without changing its mode or a random number."""
    training = model.training
    ids = torch.stack([_ROW, _ROW.flip(0)])
    padding = torch.zeros(2, _PADDING, dtype=torch.long)
    padded = torch.cat([padding, ids], dim=1)
    mask = torch.cat([padding, torch.ones_like(ids)], dim=1)
    other = ids.clone()
    other[:, -1] = _OTHER_WORD
    model.eval()
    with torch.no_grad():
        found = Answers(
            model(input_ids=ids).logits.float().clone(),
            model(input_ids=padded, attention_mask=mask).logits[:, _PADDING:].float().clone(),
            model(input_ids=other).logits.float().clone(),
        )
    model.train(training)
    return found


@contextlib.contextmanager
def _watched(model: Any, batches: list[Batch]) -> Iterator[None]:
    def note(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if isinstance(ids := kwargs.get("input_ids"), torch.Tensor):
            labels = kwargs.get("labels")
            batches.append(Batch(ids.clone(), None if labels is None else labels.clone(), bool(module.training)))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _rows_of(dataset: Any) -> dict[tuple[int, ...], int]:
    names = dataset.column_names
    return {tuple(row): number for number, row in enumerate(dataset["input_ids"])} if "input_ids" in names else {}


def _values(model: Any) -> Values:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _scales(model: Any) -> dict[str, float]:
    return {
        name: float(module.scaling["default"])
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer) and "default" in module.scaling
    }
