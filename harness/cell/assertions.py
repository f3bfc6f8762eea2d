"""Does this trainer train? A few steps, measured as the flows of this project are and held against the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.cell.instruments import census, training
from harness.cell.instruments.batches import LabelLog
from harness.cell.instruments.live import rewards_make_the_gradient
from harness.checks import live, rules
from harness.records import Actor, Census, Labels, Stage, Training


def assert_trains(trainer: Any, steps: int = 10) -> Training:
    """Train `steps` steps, and demand what makes them training.

    The same parameters are trainable before and after; the optimizer holds exactly these; every one of their tensors
    receives a finite gradient, not always zero; no row has all its labels masked; weights change and stay finite; where
    there is an eval set, eval loss is a number and moves in the first six decimals. Training loss is not asked: that of
    GRPO is 0.0 while it learns, and that of a frozen model wiggles.

    Keeps a copy of what is trained, and goes on from where `trainer` is: give it a small model, or a fresh one.

    Returns:
        What was measured, for assertions of your own.

    Raises:
        AssertionError: something of this does not hold; the message says all that does not.
    """
    __tracebackhide__ = True
    before = _counted(trainer)
    if nothing := live.nothing_trainable(before):
        raise AssertionError(f"{nothing.what}\n{nothing.meaning}\n{nothing.todo}")
    end = _end_token(trainer)
    asked, log = trainer.args.max_steps, LabelLog(end)
    trainer.args.max_steps = steps
    try:
        seen, _ = training.train(trainer, log, (), end)
    finally:
        trainer.args.max_steps = asked
    faults = [
        *_faults(seen, log.labels(), steps),
        *_eval_loss_wrong(trainer, seen),
        *_set_changed(before, _counted(trainer)),
    ]
    if faults:
        raise AssertionError("\n".join(("it does not train:", *(f"- {fault}" for fault in faults))))
    return seen


NO_END = -1
"""In place of an end-of-sequence token where the trainer knows none; no token has it."""


def _end_token(trainer: Any) -> int:
    processing = getattr(trainer, "processing_class", None) or getattr(trainer, "tokenizer", None)
    found = getattr(getattr(processing, "tokenizer", processing), "eos_token_id", None)
    return NO_END if found is None else int(found)


def _counted(trainer: Any) -> Census:
    return census.take(trainer.model, Stage.TRAINING, Actor.FLOW, digest=False)


def _faults(seen: Training, labels: Labels | None, steps: int) -> Iterator[str]:
    done = len(seen.grad_norm)
    if done != steps:
        yield f"training ended after {done} of {steps} steps"
    found = (
        rules.optimizer_wrong(seen.optimizer),
        # Trainers that compare completions hand their model no labels.
        rules.labels_masked(labels) if labels else None,
        rules.gradients_missing(seen),
        rules.weights_stand_still(seen),
    )
    yield from (fault for fault in found if fault)


def _eval_loss_wrong(trainer: Any, seen: Training) -> Iterator[str]:
    if trainer.eval_dataset is None or rewards_make_the_gradient(trainer.args):
        return
    if missing := rules.eval_loss_missing(seen):
        yield missing
    elif seen.eval_before is not None and seen.eval_after is not None:
        flat = rules.eval_loss_flat(seen.eval_before, seen.eval_after)
        yield from [flat] if flat else []


def _set_changed(before: Census, after: Census) -> Iterator[str]:
    if before.trainable_names_sha256 != after.trainable_names_sha256:
        yield f"other parameters are trainable than before training: {before.trainable:,} then, {after.trainable:,} now"
