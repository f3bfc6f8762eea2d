"""Assert that a trainer trains: run a few steps, observe them as the guard does, and apply the rules of this project's
flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from transformers import TrainerCallback

from finetune_compat.cell.instruments import census
from finetune_compat.cell.instruments.fingerprints import fingerprints, unchanged
from finetune_compat.cell.instruments.live import StepLook, rewards_make_the_gradient
from finetune_compat.cell.instruments.optimizer import holdings, parameters_held
from finetune_compat.checks import guard_checks, rules
from finetune_compat.checks.guard_checks import Look
from finetune_compat.contract.records import Actor, Census, Gradients, Optimizer, Stage


class _EveryStep(TrainerCallback):
    """Observes every step, and in it all parameters that are trainable when training begins."""

    def __init__(self) -> None:
        self.optimizer = Optimizer(0, 0, 0)
        self.looks: list[Look] = []
        self._open: StepLook | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.optimizer = holdings(given["model"], parameters_held(given["optimizer"]))
        self._trained = {name: p for name, p in given["model"].named_parameters() if p.requires_grad}

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._open = StepLook(given["model"], self._trained, labels=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self._open is not None:
            self.looks.append(self._open.close(state.global_step))

    def release(self) -> None:
        """Remove all hooks, also in the middle of a step."""
        if self._open is not None:
            self._open.release()


def assert_trains(trainer: Any, steps: int = 10) -> None:
    """Train `steps` steps, and assert that they train the model.

    - The same parameters are trainable before and after, and the optimizer holds exactly these.
    - Each of their tensors receives finite gradients, not all of them zero.
    - No row is without a label.
    - Weights change and stay finite.
    - The loss of each eval set, if there is one, is a number and changes in the first six decimals.

    Training loss is not checked: with GRPO it is 0.0 while the model learns, and with a frozen model it varies.

    The call changes `trainer` and its model: they are trained afterwards.

    Raises:
        AssertionError: one of these does not hold. The message lists all that do not.
        ValueError: `steps` is less than 2.
    """
    __tracebackhide__ = True
    if steps < 2:  # noqa: PLR2004 - the step named in the message
        raise ValueError(f"steps={steps}: lora_A has its first gradient in step 2, behind a lora_B that starts at zero")
    before = _counted(trainer)
    if nothing := guard_checks.nothing_trainable(before):
        raise AssertionError(f"{nothing.what}\n{nothing.meaning}\n{nothing.todo}")
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    values, losses = fingerprints(trained), _eval_losses(trainer)
    seen = _trained(trainer, steps)
    moved = not unchanged(values, fingerprints(trained))
    finite = all(bool(torch.isfinite(parameter).all()) for parameter in trained)
    faults = [
        *_faults(seen, steps, moved=moved, finite=finite),
        *_eval_losses_wrong(trainer, losses, _eval_losses(trainer)),
        *_set_changed(before, _counted(trainer)),
    ]
    if faults:
        raise AssertionError("\n".join(("it does not train:", *(f"- {fault}" for fault in faults))))


def _counted(trainer: Any) -> Census:
    return census.take(trainer.model, Stage.TRAINING, Actor.FLOW, digest=False)


def _eval_losses(trainer: Any) -> dict[str, float | None]:
    """The loss of each eval set, by the name under which Trainer reports it; empty without an eval set."""
    sets = trainer.eval_dataset
    if sets is None:
        return {}
    metrics = trainer.evaluate()
    names = [f"eval_{name}_loss" for name in sets] if isinstance(sets, dict) else ["eval_loss"]
    return {name: None if metrics.get(name) is None else float(metrics[name]) for name in names}


def _trained(trainer: Any, steps: int) -> _EveryStep:
    """Train `steps` steps and return what was observed. The trainer's `max_steps` and callbacks are restored."""
    asked, watch = trainer.args.max_steps, _EveryStep()
    trainer.args.max_steps = steps
    trainer.add_callback(watch)
    try:
        trainer.train()
    finally:
        watch.release()
        trainer.remove_callback(watch)
        trainer.args.max_steps = asked
    return watch


def _faults(seen: _EveryStep, steps: int, *, moved: bool, finite: bool) -> Iterator[str]:
    looks = seen.looks
    if len(looks) != steps:
        yield f"training ended after {len(looks)} of {steps} steps"
    rows, masked = sum(look.rows for look in looks), sum(look.masked for look in looks)
    found = (
        rules.optimizer_wrong(seen.optimizer),
        # Trainers that compare completions hand their model no labels.
        rules.labels_masked(rows, masked) if rows else None,
        rules.gradients_absent(_gradients(looks), moved=moved),
        rules.weights_wrong(moved=moved, finite=finite),
    )
    yield from (fault for fault in found if fault)


def _gradients(looks: list[Look]) -> Gradients:
    silent = _in_all(look.silent for look in looks)
    idle = _in_all((*look.silent, *look.zero) for look in looks)
    non_finite = {name for look in looks for name in look.non_finite}
    tensors = looks[0].tensors if looks else 0
    return Gradients(tensors, len(silent), len(idle - silent), len(non_finite))


def _in_all(names: Iterable[Iterable[str]]) -> set[str]:
    return set.intersection(*each) if (each := [set(some) for some in names]) else set()


def _eval_losses_wrong(trainer: Any, before: dict[str, float | None], after: dict[str, float | None]) -> Iterator[str]:
    if rewards_make_the_gradient(trainer.args):
        return
    for name, first in before.items():
        of = "" if name == "eval_loss" else f" ({name})"
        last = after[name]
        if missing := rules.eval_loss_missing(first, last):
            yield f"{missing}{of}"
        elif first is not None and last is not None and (flat := rules.eval_loss_flat(first, last)):
            yield f"{flat}{of}"


def _set_changed(before: Census, after: Census) -> Iterator[str]:
    if before.trainable_names_sha256 != after.trainable_names_sha256:
        yield f"other parameters are trainable than before training: {before.trainable:,} then, {after.trainable:,} now"
