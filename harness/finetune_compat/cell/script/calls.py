"""Run a flow written as three functions: `python -m finetune_compat.cell.script.calls FILE [ARGUMENT]...`

`build()` returns the model to train, `train(model, steps)` trains the model in any way, `evaluate(model)` returns a
loss. This is for training loops without a Trainer. A Trainer in `train` is watched as in any script.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from finetune_compat.cell.instruments import census
from finetune_compat.cell.instruments.changes import ClassLog, compared, frozen_digests
from finetune_compat.cell.instruments.optimizer import holdings, parameters_held
from finetune_compat.cell.instruments.training import GradientLog
from finetune_compat.cell.script import process
from finetune_compat.cell.script.stories import precision_of
from finetune_compat.contract.records import Actor, Optimizer, Stage, Training, Variant
from finetune_compat.contract.script import Run


class _Steps:
    """Follows every step of any optimizer. Notes what the first stepping optimizer holds, and its learning rates."""

    def __init__(self, model: nn.Module, gradients: GradientLog) -> None:
        self.optimizer = Optimizer(0, 0, 0)
        self.rates: list[float] = []
        self._model, self._gradients = model, gradients
        self._hooks = (
            register_optimizer_step_pre_hook(self._begins),
            register_optimizer_step_post_hook(lambda *_: gradients.end_step()),
        )

    def _begins(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not self.rates:
            self.optimizer = holdings(self._model, parameters_held(optimizer))
        self.rates.append(float(optimizer.param_groups[0]["lr"]))

    def release(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()


def run(
    watched: process.Process, build: Callable[[], Any], train: Callable[..., Any], evaluate: Callable[..., Any]
) -> None:
    """Build, evaluate, train for the steps of the request, evaluate again, and add the measurements to `watched`."""
    observer = watched.observer
    model = build()
    trained = census.subject(model)
    adapted = census.has_adapters(model)
    stages = [census.take(model, Stage.TRAINER, Actor.FLOW, digest=adapted)]
    freezes = observer.frozen(model)
    classes = ClassLog(trained, keep_on="cpu")
    gradients = GradientLog(classes)
    before = float(evaluate(model))
    frozen = frozen_digests(model)
    gradients.attach(model)
    steps = _Steps(model, gradients)
    try:
        train(model, watched.request.steps)
    finally:
        steps.release()
        gradients.detach()
    if observer.has_trained:
        return  # a trainer was watched: its measurements are more complete than these
    unchanged = compared(frozen, model)
    after = float(evaluate(model))
    stages.append(census.take(model, Stage.AFTER_TRAINING, Actor.FLOW, digest=False))
    training = Training(
        steps=len(gradients.norms),
        loss=(),
        grad_norm=tuple(gradients.norms),
        learning_rate=tuple(steps.rates),
        learning_rate_asked=(),
        eval_before=before,
        eval_after=after,
        accuracy_before=None,
        accuracy_after=None,
        subject_delta=max(classes.changes().values(), default=0.0),
        subject_finite=all(bool(torch.isfinite(p).all()) for p in trained.values()),
        optimizer=steps.optimizer,
        gradients=gradients.gradients(),
        classes=classes.classes(),
        frozen=unchanged,
        still_layers=classes.still_layers(),
    )
    story = observer.story_of(model)
    variant = Variant(story.model_type, precision_of(model), False)
    earlier = tuple(taken for taken in story.stages if taken.name in (Stage.LOAD, Stage.PREPARE, Stage.PEFT))
    seen = observer.observation(
        watched.request.flow, variant, (*earlier, *stages), None, freezes=freezes, training=training
    )
    idle = gradients.idle()
    handed = stages[0] if adapted else None
    watched.by_hand.append(
        Run(seen=seen, trainer=None, asks_for_adapters=adapted, rows_evaluated=0, idle=idle, handed=handed)
    )
    watched.save()


def main(place: str) -> None:
    """Run the file `place` with the rest of the command line as its arguments, then its three functions."""
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(place).resolve().parent))
    calls = runpy.run_path(place)
    if process.current is not None:
        run(process.current, calls["build"], calls["train"], calls["evaluate"])


if __name__ == "__main__":
    main(sys.argv[1])
