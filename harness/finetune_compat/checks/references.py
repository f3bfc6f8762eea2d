"""The checks of rows, dropout, gradients, losses, updates and forwards, compared with what they should have been."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

from finetune_compat.checks.case import NOT_RECORDED, Case, ended_in
from finetune_compat.checks.engine import NotApplicable
from finetune_compat.checks.steps import EXACT_STEP, LOSS_TOLERANCE, ROUNDED_STEP
from finetune_compat.contract.catalog import Head
from finetune_compat.contract.records import ClassDifference, Forward, Reference, Rows, Stage

ROUNDED_LOSS = 1e-4
"""Allowed absolute difference of a logged loss: Transformers before 5.0 rounds it to four decimals."""

EXACT_UPDATE = 1e-4
"""Share of a float32 step by which AdamW may differ from the reference. Measured on a CPU: 2e-6."""

ROUNDED_UPDATE = 0.15
"""The same share for weights in bfloat16: clipping and moments are rounded to 8 bits. Measured over ten steps: 2e-2
with the fused AdamW of TRL 1.16, 7e-2 with Transformers 4.54 and 4.56, whose AdamW rounds after every operation.
"""

FEWEST_ROWS = 4
"""Rows of a second epoch by which its order is judged. Of 64 rows, four agree by chance once in 15 million."""

DROPOUT_TOLERANCE = 0.2
"""Share of the requested dropout by which the measured one may differ. The smallest cell drops 5 % of 179,200 values:
the standard deviation is 1 % of that.
"""

FORWARD_TOLERANCE = 1e-3
"""Share of the spread of the logits by which another reduction order may change a logit. Measured on a CPU: 2e-6."""

ROUNDED_FORWARD = 5e-2
"""The same share where activations are rounded to 8 bits. Measured on a CPU with int8: 2e-2."""


# ---------------------------------------------------------------------------------------------------------------- rows


def _rows(case: Case) -> Rows:
    rows = case.training.rows
    if rows is None:
        raise _not_measured(case, "rows were recognised")
    return rows


def _not_measured(case: Case, measured: str) -> NotApplicable:
    """The reason why an observation lacks what is measured on tiny models only."""
    return NotApplicable("not measured on real weights" if case.seen.model is None else f"{NOT_RECORDED}{measured}")


def labels_are_tokens(case: Case) -> str | None:
    """Every label is the input token at its position."""
    labels = case.seen.labels
    if labels is None:
        raise NotApplicable("no batch had labels")
    if labels.foreign is None:
        raise NotApplicable(f"{NOT_RECORDED}labels were compared with tokens")
    if not labels.foreign:
        return None
    return f"{labels.foreign:,} of {labels.label_tokens:,} labels are not the token at their position"


def rows_are_those_given(case: Case) -> str | None:
    """Training rows are rows of the training set, each once in an epoch."""
    rows = _rows(case)
    unknown = sum(row < 0 for row in rows.trained)
    held_out = sum(row >= rows.given for row in rows.trained)
    if unknown or held_out:
        return f"of {len(rows.trained)} training rows {unknown} are of no given set, {held_out} of the evaluation set"
    for epoch, start in enumerate(range(0, len(rows.trained), rows.given), 1):
        if twice := _repeated(rows.trained[start : start + rows.given]):
            return f"{twice} training rows came more than once in epoch {epoch}"
    return None if rows.trained else "no training row was seen"


def _repeated(rows: Sequence[int]) -> int:
    return sum(times > 1 for times in Counter(rows).values())


def rows_are_shuffled(case: Case) -> str | None:
    """The order of the training rows is not that of the training set, and each epoch has another."""
    rows = _rows(case)
    if case.rules.in_order is not None:
        raise NotApplicable(f"the rows keep their order: {case.rules.in_order}")
    first = rows.trained[: rows.given]
    if not first:
        raise NotApplicable("no training row was seen")
    if min(rows.trained) < 0:
        raise NotApplicable("some rows were not recognised")
    if all(later == earlier + 1 for earlier, later in itertools.pairwise(first)):
        return f"the first {len(first)} rows were trained in the order of the training set"
    second = rows.trained[rows.given : 2 * rows.given]
    if len(second) >= FEWEST_ROWS and second == first[: len(second)]:
        return f"the second epoch has the order of the first: its first {len(second)} rows are the same"
    return None


def order_depends_on_the_seed(case: Case) -> str | None:
    """With another seed, the order of the rows is another."""
    deep, rows = case.deep, _rows(case)
    if "other_order" in deep.failures:
        return ended_in(deep.failures["other_order"], "the order with another seed")
    if not deep.other_order:
        raise NotApplicable(f"{NOT_RECORDED}the order with another seed was")
    if rows.trained[: len(deep.other_order)] != deep.other_order:
        return None
    return f"another seed gives the same order of rows: {', '.join(map(str, deep.other_order))}"


def evaluation_covers_its_rows(case: Case) -> str | None:
    """Both evaluations see every evaluation row once, and no other row."""
    rows = _rows(case)
    wanted = set(range(rows.given, rows.given + rows.held_out))
    for place, seen in zip(("before", "after"), rows.evaluated, strict=True):
        missing, other = len(wanted - set(seen)), sum(row not in wanted for row in seen)
        if missing or other or _repeated(seen):
            return (
                f"the evaluation {place} training saw {len(seen)} rows: {missing} of {rows.held_out} are missing, "
                f"{_repeated(seen)} came more than once, {other} are not of the evaluation set"
            )
    return None


# ------------------------------------------------------------------------------------------------------------- dropout


def dropout_as_asked(case: Case) -> str | None:
    """Adapters drop the requested share of their inputs in training, and nothing in evaluation."""
    dropout, lora = case.training.dropout, case.seen.lora
    if lora is None:
        raise NotApplicable("the flow has no adapters")
    if dropout is None:
        raise NotApplicable(f"{NOT_RECORDED}dropout was measured")
    if dropout.evaluation:
        return f"dropout is active in evaluation: it sets {dropout.evaluation:.1%} of the inputs to zero"
    asked = lora.dropout if case.rules.dropout else 0.0
    measured = dropout.training or 0.0
    if math.isclose(measured, asked, rel_tol=DROPOUT_TOLERANCE):
        return None
    return f"dropout sets {measured:.1%} of the inputs to zero in training, asked for {asked:.1%}"


# ---------------------------------------------------------------------------------------------------- gradient and loss


def _reference(case: Case) -> Reference:
    reference = case.training.reference
    if reference is None:
        raise NotApplicable(f"{NOT_RECORDED}a step was computed again")
    if not reference.label_tokens or not reference.classes:
        raise NotApplicable("no batch had labels, or no tensor a gradient")
    return reference


def gradient_is_that_of_the_loss(case: Case) -> str | None:
    """The gradient of one step is that of the loss by its definition, with the same batch, weights and dropout.

    Some releases of Transformers divide by all label tokens of a batch, also by the first of a row, which no token
    predicts (docs/evidence.md, first-label-counted). So this share is allowed, too.
    """
    reference = _reference(case)
    allowed = ROUNDED_STEP if _rounded(case) else EXACT_STEP
    factors = (1.0, reference.predicted / reference.label_tokens)
    off = {name: min(_off(seen, factor) for factor in factors) for name, seen in reference.classes.items()}
    wrong = [
        f"{name} off by {share:.1%} (norm {seen.other:.4g}, expected {seen.one:.4g})"
        for (name, seen), share in zip(reference.classes.items(), off.values(), strict=True)
        if share > allowed
    ]
    return f"the gradient of step {reference.step} is not that of its loss: {', '.join(wrong)}" if wrong else None


def _off(seen: ClassDifference, factor: float) -> float:
    """Norm of the trainer's gradient minus `factor` times the reference, as a share of the larger of the two."""
    one, larger = factor * seen.one, max(factor * seen.one, seen.other)
    if not math.isfinite(seen.difference):
        return math.inf
    # From the three norms: |other - factor * one|^2, where the product follows from |other - one|^2.
    twice = seen.one**2 + seen.other**2 - seen.difference**2
    square = one**2 + seen.other**2 - factor * twice
    return math.sqrt(max(square, 0.0)) / larger if larger else 0.0


def logged_loss_is_that_of_the_batch(case: Case) -> str | None:
    """The logged training loss of one step is the loss of its batch by its definition."""
    reference, logged = _reference(case), case.training.loss
    if len(logged) < reference.step:
        raise NotApplicable("the trainer did not log the loss of every step")
    seen = logged[reference.step - 1]
    factors = (1.0, reference.predicted / reference.label_tokens)
    if any(math.isclose(seen, f * reference.loss, rel_tol=LOSS_TOLERANCE, abs_tol=ROUNDED_LOSS) for f in factors):
        return None
    return f"the logged loss of step {reference.step} is {seen:.4f}, the loss of its batch is {reference.loss:.4f}"


def logged_norm_is_that_of_the_gradient(case: Case) -> str | None:
    """The logged gradient norm is the norm measured at the tensors before clipping, at every step."""
    training, logged = case.training, case.training.grad_norm_logged
    if logged is None:
        raise NotApplicable(f"{NOT_RECORDED}the trainer's own log of it was read")
    if not logged:
        raise NotApplicable("the trainer logs no gradient norm")
    allowed = ROUNDED_STEP if _rounded(case) else EXACT_STEP
    if len(logged) != len(training.grad_norm):
        return f"{len(logged)} gradient norms are logged in {len(training.grad_norm)} steps"
    pairs = enumerate(zip(logged, training.grad_norm, strict=True), 1)
    off = [(step, one, two) for step, (one, two) in pairs if not math.isclose(one, two, rel_tol=allowed)]
    if not off:
        return None
    step, one, two = off[0]
    return f"the logged gradient norm differs at {len(off)} steps, first at step {step}: {one:.4g}, measured {two:.4g}"


def update_is_that_of_adamw(case: Case) -> str | None:
    """The weights after every step are those after a step of AdamW as requested, on the same gradients."""
    errors = case.training.update_error
    if errors is None:
        raise _not_measured(case, "updates were computed again")
    allowed = ROUNDED_UPDATE if _rounded(case) else EXACT_UPDATE
    wrong = [(step, error) for step, error in enumerate(errors, 1) if not error <= allowed]
    if not wrong:
        return None
    step, error = max(wrong, key=lambda each: each[1])
    return f"{len(wrong)} steps are not those of AdamW as requested; step {step} is off by {error:.1%} of its length"


def _rounded(case: Case) -> bool:
    """Whether a step is computed in less than float32."""
    census = case.census(Stage.TRAINER)
    adapters = census is not None and "bfloat16" in census.adapter_dtypes
    return case.seen.model is None or case.seen.variant.precision.bf16 or adapters


# ------------------------------------------------------------------------------------------------------------- forward


def _forward(case: Case) -> Forward:
    forward = case.seen.forward
    if case.flow.head is Head.SCORE:
        raise NotApplicable("the model has one score for each sequence, and no logits of its tokens")
    if forward is None and case.seen.training is None:
        raise NotApplicable("training did not finish")
    if forward is None or case.seen.model is None:
        raise _not_measured(case, "the forward was measured")
    return forward


def later_tokens_change_nothing(case: Case) -> str | None:
    """The logits of a position do not depend on later tokens."""
    forward = _forward(case)
    if not forward.last:
        return "another last token does not change the logits of its own position"
    if forward.earlier <= _allowed(case, forward):
        return None
    return (
        f"another last token changes earlier logits by up to {forward.earlier:.4g} (their spread: {forward.spread:.4g})"
    )


def padding_changes_nothing(case: Case) -> str | None:
    """Padding with its attention mask, on both sides of a row, does not change the logits of its tokens."""
    forward = _forward(case)
    if forward.padded <= _allowed(case, forward):
        return None
    return f"padding changes logits by up to {forward.padded:.4g} (their spread: {forward.spread:.4g})"


def _allowed(case: Case, forward: Forward) -> float:
    census = case.census(Stage.AFTER_TRAINING)
    stored = census is not None and bool({"int8", "bfloat16"} & census.dtypes.keys())
    rounds = stored or case.seen.variant.precision.bf16
    return forward.spread * (ROUNDED_FORWARD if rounds else FORWARD_TOLERANCE)
