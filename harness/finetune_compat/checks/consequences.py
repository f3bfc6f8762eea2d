"""When the failure of one check of a cell proves the failure of another.

A failing check that a required check explains is blocked, so that a verdict names causes. But a second fault may hide
behind the first. So each function here asks whether the recorded numbers are those that the first failure must cause.
If not, both checks fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from finetune_compat.checks.case import Case
from finetune_compat.checks.rules import behind_zeros
from finetune_compat.contract.records import Area, Census, Failure, ParameterClass, Stage, Training
from finetune_compat.contract.verdict import Symptom

Causes = frozenset[str]
"""Codes of the required checks that failed or are blocked."""

UNTRAINABLE = ("does not require grad", "optimizer got an empty parameter list")
"""What torch says if nothing requires a gradient: `backward()`, and an optimizer."""

REPLACED_SHARE = 0.1
"""Share of an adapter's largest effect on a logit by which a reload may differ where the trainer merged an earlier
adapter into the base. In the 54 such cells of `reports/baseline/cpu` it is at most 0.078.
"""

STEP_SHARE = 2e-2
"""Share by which a gradient in bfloat16 may differ from the reference; a wrong one differs by more."""


WRONG_STEPS = frozenset({"G406", "O302", "B101", "B103", "B201"})
"""Codes whose failure says that the model was trained or evaluated in another way than requested."""


# ------------------------------------------------------------------------------------------------------------- stages


def adapters_all_train(stage: Stage) -> Callable[[Case, Causes], bool]:
    """C120: the count differs because other adapters exist, and all of them are trainable."""

    def follows(case: Case, _: Causes) -> bool:
        found = case.census(stage)
        adapters = found.by_area.get(Area.ADAPTER) if found else None
        return found is not None and adapters is not None and found.trainable == adapters.trainable == adapters.total

    return follows


def still_trainable(case: Case, causes: Causes) -> bool:
    """C103: what was not trainable before is not trainable when training begins."""
    if "C103" in causes:
        return _same_trainable(case.census(Stage.PEFT), case.census(Stage.TRAINER))
    return adapters_all_train(Stage.TRAINER)(case, causes)


def trainable_as_it_began(case: Case, _: Causes) -> bool:
    """C104: training leaves trainable what the trainer did."""
    return _same_trainable(case.census(Stage.TRAINER), case.census(Stage.AFTER_TRAINING))


def _same_trainable(one: Census | None, other: Census | None) -> bool:
    return one is not None and other is not None and one.trainable == other.trainable


def totals_off_by_adapters(case: Case, _: Causes) -> bool:
    """C120: the totals are off by the number of adapter parameters that are too many or too few."""
    found = case.census(Stage.TRAINER)
    if found is None:
        return False
    adapters = found.by_area.get(Area.ADAPTER)
    own = adapters.total if adapters else 0
    return (found.total_logical, found.total) == (case.sizes.logical + own, case.sizes.stored + own)


def ends_for_want_of_a_gradient(case: Case, _: Causes) -> bool:
    """C103, C104: torch says in training that nothing requires a gradient."""
    error = case.seen.error
    return error is not None and _trainable(case) == 0 and _untrainable(error)


def _untrainable(error: Failure) -> bool:
    return error.stage in (Stage.TRAINER, Stage.TRAINING) and any(words in error.message for words in UNTRAINABLE)


def _trainable(case: Case) -> int | None:
    found = case.census(Stage.TRAINER)
    return found.trainable if found else None


# ----------------------------------------------------------------------------------------------- adapters and answers


def other_subject(case: Case, _: Causes) -> bool:
    """C105: the adapters of the trained model are not those that the trainer had, so the digest is of other tensors."""
    began, ended = case.census(Stage.TRAINER), case.census(Stage.AFTER_TRAINING)
    return began is not None and ended is not None and _adapters(began) != _adapters(ended)


def _adapters(found: Census) -> int:
    adapters = found.by_area.get(Area.ADAPTER)
    return adapters.total if adapters else 0


def without_effect_as_it_began(case: Case, _: Causes) -> bool:
    """C104, W701: an unmoved adapter that began without effect has none; weights of NaN give logits of NaN."""
    reply = case.seen.reply
    if reply is None or reply.without_adapter is None:
        return False
    if not math.isfinite(reply.without_adapter):
        return not case.training.subject_finite
    return not case.flow.trained_before and _no_effect_yet(case.training)


def _no_effect_yet(training: Training) -> bool:
    """Whether no factor that starts at zero moved: the product with the other factor is still zero."""
    moved = [name for name, seen in training.classes.items() if seen.unchanged < seen.tensors]
    return _unmoved(training) or (bool(moved) and all(map(behind_zeros, moved)))


def answers_of_another_model(case: Case, causes: Causes) -> bool:
    """A201, A202, A204, C104, P103, W701, W702: the reload lacks what training had in the model, has its NaN, or drops
    values at random.
    """
    reply = case.seen.reply
    if reply is None or reply.reloaded is None:
        return False
    if "P103" in causes and _drops_in_evaluation(case):
        return True
    if not math.isfinite(reply.reloaded):
        return "W701" in causes and not case.training.subject_finite
    effect = reply.without_adapter or 0.0
    if "A202" in causes and "A201" in causes:  # the trained adapter is lost: the reload answers like the base model
        return reply.reloaded == effect
    if "A201" in causes:  # what was merged into the base is lost
        return reply.reloaded <= REPLACED_SHARE * effect
    if "A204" in causes:  # the reload puts the adapter back into the forward pass
        return case.seen.training is not None and not _unmoved(case.training)
    return bool({"A202", "W702"} & causes) or ("C104" in causes and _others_train(case))


def _others_train(case: Case) -> bool:
    """Whether parameters outside the adapters were trained: a saved adapter does not hold them."""
    found = case.census(Stage.TRAINER)
    adapters = found.by_area.get(Area.ADAPTER) if found else None
    return found is not None and adapters is not None and found.trainable > adapters.trainable


# ------------------------------------------------------------------------------------------------- steps and gradients


def end_tokens_masked(case: Case, causes: Causes) -> bool:
    """L501: only rows without any label lack the label of their end token. L503: labels are those of other tokens."""
    labels = case.seen.labels
    return "L503" in causes or (labels is not None and labels.ends_masked <= labels.all_masked)


def nothing_to_hold(case: Case, _: Causes) -> bool:
    """C104: the optimizer holds what is trainable, and that is nothing."""
    held = case.training.optimizer
    return held.parameters == held.missing == held.extra == 0 and _trainable(case) == 0


def no_rate_without_parameters(case: Case, _: Causes) -> bool:
    """O301: an optimizer without parameters has no group, so no learning rate."""
    training = case.training
    return not training.optimizer.parameters and not training.learning_rate and training.rates_agree is not False


def gradients_absent(case: Case, causes: Causes) -> bool:
    """L501, O301: no tensor is trainable, no row has a label, or the optimizer lacks the tensors that must move."""
    training = case.training
    seen = training.gradients
    if not seen.tensors:
        return _trainable(case) == 0 and not any(training.grad_norm) and _unmoved(training)
    if "L501" in causes and _unlabelled(case):
        return seen.tensors == seen.non_finite or (
            seen.tensors in (seen.zero, seen.silent) and not any(training.grad_norm)
        )
    lacking = training.optimizer.missing
    return "O301" in causes and lacking > 0 and not seen.silent and not seen.non_finite


def _unlabelled(case: Case) -> bool:
    """Whether rows without any label were trained on, or rows of which no label reached the model."""
    labels = case.seen.labels
    return labels is None or labels.all_masked > 0


def norm_of_these_gradients(case: Case, _: Causes) -> bool:
    """G401: the norm is zero where all gradients are, and not finite where some are not."""
    training = case.training
    seen = training.gradients
    norms = (*training.grad_norm, *(training.grad_norm_logged or ()))
    if seen.non_finite:
        return any(not math.isfinite(norm) for norm in norms)
    return not any(norms) and seen.tensors in (0, seen.zero, seen.silent, seen.zero + seen.silent)


def gradients_end_with_the_norm(case: Case, _: Causes) -> bool:
    """G401: the whole gradient is zero, or not finite, at the last step."""
    last = case.training.grad_norm[-1:]
    return any(not norm or not math.isfinite(norm) for norm in last)


def unmoved_by_these_steps(case: Case, causes: Causes) -> bool:
    """C104, O301, G401, R601: no step could move the tensors that stood still."""
    training = case.training
    if not training.subject_finite:
        return training.gradients.non_finite > 0
    if _unmoved(training):
        return _no_step(training)
    if not training.gradients.tensors:
        return False
    lacking = "O301" in causes and training.optimizer.missing > 0
    if "C104" in causes and _still(training) == _untrained(training):
        return True
    return lacking or all(_explained(seen) for seen in training.classes.values())


def _still(training: Training) -> int:
    return sum(seen.unchanged for seen in training.classes.values())


def _untrained(training: Training) -> int:
    """Tensors of the adapters, or of the model, that were not trainable when training began."""
    return sum(seen.tensors for seen in training.classes.values()) - training.gradients.tensors


def _no_step(training: Training) -> bool:
    """Whether nothing trainable was held, the learning rate was always zero, or no gradient other than zero arrived."""
    seen = training.gradients
    rates = training.learning_rate
    return (
        training.optimizer.parameters <= training.optimizer.extra
        or not any(rates)
        or seen.tensors in (seen.zero, seen.silent, seen.zero + seen.silent)
        or not any(training.grad_norm)
    )


def _explained(seen: ParameterClass) -> bool:
    """Whether tensors of the class stood still only if some of its tensors never received a gradient."""
    return not seen.unchanged or seen.reached is None


def _unmoved(training: Training) -> bool:
    return training.subject_delta == 0 and training.subject_finite


def stopped_with_the_gradients(case: Case, causes: Causes) -> bool:
    """W701, G405: each class stopped changing no earlier than its gradients did."""
    ended = [seen for seen in case.training.classes.values() if seen.moving_until is not None]
    last = len(case.training.grad_norm)
    early = [seen for seen in ended if seen.moving_until is not None and seen.moving_until < last]
    return "W701" in causes or all(seen.gradients_until is not None and seen.gradients_until < last for seen in early)


# ---------------------------------------------------------------------------------------------------- rows and forwards


def rows_with_other_tokens(case: Case, _: Causes) -> bool:
    """L501, L502, L503: a collator that changes masks or labels also changes the tokens by which rows are recognised.
    No row is repeated or of the evaluation set.
    """
    rows = case.training.rows
    return rows is not None and all(row < 0 for row in rows.trained)


def evaluated_rows_unknown(case: Case, _: Causes) -> bool:
    """E801, B101: the evaluation did not run, or no row of it is recognised."""
    rows = case.training.rows
    return rows is not None and all(row < 0 for seen in rows.evaluated for row in seen)


def order_as_given(case: Case, causes: Causes) -> bool:
    """B101, B102: rows are unknown, or in the order of the training set whatever the seed is."""
    return "B102" in causes or all(row < 0 for row in case.deep.other_order)


def forward_at_random(case: Case, causes: Causes) -> bool:
    """P103, W701, B201: dropout is active, the weights are not finite, or a row depends on its padding as on any later
    token.
    """
    return _drops_in_evaluation(case) or not case.training.subject_finite or "B201" in causes


def no_share_of_dropout(case: Case, _: Causes) -> bool:
    """C120, C104, G401: the model has no adapter that could drop anything, or activations of NaN, of which none is
    zero.
    """
    dropout = case.training.dropout
    return dropout is not None and (not dropout.layers or case.training.gradients.non_finite > 0)


def _drops_in_evaluation(case: Case) -> bool:
    dropout = case.training.dropout
    return dropout is not None and bool(dropout.evaluation)


# ----------------------------------------------------------------------------------------------- a step computed again


def gradient_without_tensors(case: Case, _: Causes) -> bool:
    """G401: each class whose gradient is wrong has tensors that had received no gradient by then, or NaN."""
    training, reference = case.training, case.training.reference
    if reference is None:
        return False
    if training.gradients.non_finite:
        return True
    wrong = [name for name, seen in reference.classes.items() if seen.relative > STEP_SHARE]
    return all(_late(training.classes.get(name), reference.step) for name in wrong)


def _late(seen: ParameterClass | None, step: int) -> bool:
    return seen is None or seen.reached is None or seen.reached > step


def logged_norm_is_no_number(case: Case, _: Causes) -> bool:
    """G404: the logged norm, or the measured one, is zero at every step, or not finite."""
    training = case.training
    pairs = (training.grad_norm, training.grad_norm_logged or ())
    return any(not any(norms) or not all(map(math.isfinite, norms)) for norms in pairs)


def other_loss(case: Case, causes: Causes) -> bool:
    """E807, G406: the logged loss is no number, or a loss whose gradient is another one is another loss."""
    losses = case.training.loss
    no_number = not any(losses) or not all(map(math.isfinite, losses))
    return "G406" in causes or ("E807" in causes and no_number)


def other_step_of_adamw(case: Case, causes: Causes) -> bool:
    """O301, R601, G401, W701, W703: AdamW lacked tensors, a learning rate, or gradients, or its step was undone."""
    return bool({"O301", "R601", "W701", "W703"} & causes) or case.training.gradients.non_finite > 0


# -------------------------------------------------------------------------------------------------------------- losses


def loss_of_these_rows(case: Case, causes: Causes) -> bool:
    """L501, G401: without labels a loss is 0 or NaN; it is NaN where gradients are."""
    training = case.training
    finite = all(map(math.isfinite, training.loss))
    if not finite:
        return training.gradients.non_finite > 0
    return "L501" in causes and _unlabelled(case)


def eval_loss_of_these_weights(case: Case, causes: Causes) -> bool:
    """L501, W701: the evaluation has no labels either, or training left weights that are not finite."""
    training = case.training
    if "L501" in causes:
        return training.evaluated is None or training.evaluated.all_masked > 0
    return not training.subject_finite and training.eval_before is not None and math.isfinite(training.eval_before)


def unlearned(case: Case, causes: Causes) -> bool:
    """W701, W703, E801: weights that did not move give the same eval loss and accuracy. G406, O302, B101, B103, B201:
    steps, rows or answers that are wrong need not lead down.
    """
    training = case.training
    if "E801" in causes:
        return case.symptom is Symptom.NOT_FINITE
    if WRONG_STEPS & causes and not _unmoved(training):
        return True
    if _unmoved(training):
        return case.symptom is Symptom.FLAT and _same_accuracy(training)
    return case.symptom in (Symptom.BARELY, Symptom.FLAT) or "W703" in causes


def _same_accuracy(training: Training) -> bool:
    return training.accuracy_before == training.accuracy_after or any(
        value is not None and math.isnan(value) for value in (training.accuracy_before, training.accuracy_after)
    )


def no_fall(case: Case, _: Causes) -> bool:
    """W701, E801, E802: an eval loss that does not fall does not fall by more than chance."""
    return case.symptom is not Symptom.FALLS


def not_a_number(case: Case, _: Causes) -> bool:
    """E801: an eval loss that is not a number depends on nothing."""
    return case.symptom is Symptom.NOT_FINITE


def unreadable_before(case: Case, causes: Causes) -> bool:
    """L501, E801, G406: the evaluation has no labels either, its loss before training is not a number, or the trainer
    computes another loss.
    """
    before, evaluated = case.training.eval_before, case.training.evaluated
    if "L501" in causes and evaluated is not None and evaluated.all_masked:
        return True
    return "G406" in causes or (before is not None and not math.isfinite(before))


def step_for_want_of_a_gradient(measurement: str) -> Callable[[Case, Causes], bool]:
    """C104, G401: the step of the deep tier ended since nothing requires a gradient, or has no gradients."""

    def follows(case: Case, causes: Causes) -> bool:
        error = case.deep.failures.get(measurement)
        if error is None:
            return "G401" in causes
        return _untrainable(error)

    return follows


def never(_: Case, __: Causes) -> bool:
    """No failure of a required check causes this one."""
    return False


FOLLOWS: Mapping[str, Callable[[Case, Causes], bool]] = {
    "B101": rows_with_other_tokens,
    "B102": never,
    "B103": evaluated_rows_unknown,
    "B104": order_as_given,
    "B201": forward_at_random,
    "B202": forward_at_random,
    "E809": other_loss,
    "G406": gradient_without_tensors,
    "G407": logged_norm_is_no_number,
    "L503": never,
    "O302": other_step_of_adamw,
    "P103": no_share_of_dropout,
    "C103": adapters_all_train(Stage.PEFT),
    "C104": still_trainable,
    "C105": trainable_as_it_began,
    "C106": adapters_all_train(Stage.RELOAD),
    "C110": totals_off_by_adapters,
    "F001": ends_for_want_of_a_gradient,
    "A202": other_subject,
    "A203": answers_of_another_model,
    "A204": without_effect_as_it_began,
    "L502": end_tokens_masked,
    "O301": nothing_to_hold,
    "R601": no_rate_without_parameters,
    "G401": gradients_absent,
    "G402": step_for_want_of_a_gradient("accumulation"),
    "G403": step_for_want_of_a_gradient("checkpointing"),
    "G404": norm_of_these_gradients,
    "G405": gradients_end_with_the_norm,
    "W701": unmoved_by_these_steps,
    "W702": never,
    "W703": stopped_with_the_gradients,
    "E801": eval_loss_of_these_weights,
    "E802": unlearned,
    "E804": no_fall,
    "E805": not_a_number,
    "E806": unreadable_before,
    "E807": loss_of_these_rows,
}
"""By code: whether a failure follows from the failures of the required checks."""
