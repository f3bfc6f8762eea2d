"""The checks of learning, from the evaluations before and after training."""

from __future__ import annotations

import math

from finetune_compat.checks import rules
from finetune_compat.checks.case import NULL_MARGIN, Case, ended_in, fall_of, null_of, symptom_of_losses
from finetune_compat.checks.engine import NotApplicable
from finetune_compat.checks.rates import Rate
from finetune_compat.contract.records import LossPair, Training
from finetune_compat.contract.verdict import Sign, Symptom

FALSE_ALARMS = Rate(0, 600)
"""Healthy flows that the sweeps over seeds called dead (`reports/learning/`)."""

MISSES = Rate(0, 1200)
"""Dead flows that the sweeps over seeds called healthy."""

JUDGED_METRICS = ("loss", "accuracy")
"""Suffixes of metrics that must change when the weights of the model are destroyed."""


def eval_loss_present(case: Case) -> str | None:
    """`evaluate()` reports a finite eval_loss before and after training."""
    return rules.eval_loss_missing(case.training.eval_before, case.training.eval_after)


def eval_loss_plausible(case: Case) -> str | None:
    """Before training, the eval loss is near the value of a model that has learned nothing, by objective. Where it
    depends on random weights, it is the loss of the model's own output.
    """
    before, start = case.training.eval_before, case.rules.start(case.seen.model, case.training)
    if start is None or before is None:
        raise NotApplicable("no expected eval loss for these weights, or no eval loss was reported")
    if math.isclose(before, start.loss, rel_tol=start.tolerance):
        return None
    return f"eval_loss was {before:.4f} before training, expected about {start.loss:.4f}: {start.why}"


def eval_loss_falls(case: Case) -> str | None:
    """Eval loss on held-out rows falls by at least the share that every healthy run reaches. Where the model generates
    its completions, the expected reward rises instead.
    """
    training, watched = case.training, case.rules.watched(case.training)
    before, after = watched.before, watched.after
    if before is None or after is None:
        raise NotApplicable(f"{case.rules.watches} was not measured")
    if symptom_of_losses(training, case.rules) is Symptom.FALLS:
        return case.rules.unlearned(training)
    return f"{case.rules.watches} {_how(before, after, case.rules.minimum_fall)}{_other_signs(training, case.signs)}"


def _how(before: float, after: float, minimum_fall: float) -> str:
    if rules.eval_loss_flat(before, after):
        return f"is flat to {rules.DECIMALS} decimals: {before:.{rules.DECIMALS}f} -> {after:.{rules.DECIMALS}f}"
    if after > before:
        return f"rises: {before:.6f} -> {after:.6f}"
    fall = f"a fall of {before - after:.4f}, under {minimum_fall:.0%} of it"
    return f"barely moves: {before:.6f} -> {after:.6f}, {fall}"


def _other_signs(training: Training, seen: tuple[Sign, ...]) -> str:
    """The other signs that the user sees, with their numbers."""
    text = ""
    if Sign.WIGGLES in seen:
        text += f"; train loss wiggles between {min(training.loss):.4f} and {max(training.loss):.4f} without learning"
    if Sign.ACCURACY_FLAT in seen:
        text += f"; accuracy is flat: {training.accuracy_before:.6f} -> {training.accuracy_after:.6f}"
    return text


def learns_beyond_the_null(case: Case) -> str | None:
    """Eval loss falls by more than it changes when nothing can be learned: between repeats, in a twin whose steps are
    undone, and in flows whose steps have random directions.
    """
    deep, training = case.deep, case.training
    failed = next((name for name in ("repeats", "twin", "wanderers") if name in deep.failures), None)
    if failed:
        return ended_in(deep.failures[failed], failed)
    null, fall = null_of(training, deep), fall_of(LossPair(training.eval_before, training.eval_after))
    if null is None or fall is None:
        raise NotApplicable("no eval loss of the flow or of its twin")
    if fall > NULL_MARGIN * null.noise:
        return None
    return (
        f"eval loss fell by {fall:.6f}; without learning it changes by {null.noise:.6f} (repeats differ by "
        f"{null.repeats:.6f}, the twin whose steps are undone changes by {null.twin:.6f}, random steps by "
        f"{null.luck:.6f}), and the fall must be {NULL_MARGIN:g} times that; false alarms: {FALSE_ALARMS}"
    )


def evaluation_depends_on_the_model(case: Case) -> str | None:
    """The metrics of the trainer's evaluation change when the weights are scrambled, or when they are zeroed."""
    deep = case.deep
    if "repeats" in deep.failures or deep.evaluation is None:
        raise NotApplicable("the evaluation was not run with perturbed weights")
    metrics = deep.evaluation.metrics
    still = [name for name in deep.evaluation.ignoring if name.endswith(JUDGED_METRICS)]
    unmoved = ", ".join(f"{name} stays {metrics[name].as_it_is:.6f}" for name in still)
    return f"{unmoved} with the weights scrambled and with the weights zeroed" if unmoved else None
