"""Judging a run in progress: from which step each problem is certain, and what healthy runs may do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from builders import ADAPTER, LINEARS, REST, healthy
from finetune_compat.checks import guard_checks
from finetune_compat.checks.codes import CODES, AppliesTo
from finetune_compat.checks.guard_checks import FEWEST_ROWS, SCALER_SKIPS, Look, Problem
from finetune_compat.contract.records import Area, AreaCount, Optimizer, Stage
from hypothesis import given
from hypothesis import strategies as st

NAMES = ("a.lora_A", "a.lora_B", "b.lora_A", "b.lora_B")


def look(step: int, **seen: object) -> Look:
    """A step in which all four tensors received a gradient and all four rows had labels, with changes."""
    alive = Look(step, tensors=4, silent=(), zero=(), non_finite=(), rows=4, masked=0)
    return dataclasses.replace(alive, **seen)  # type: ignore[arg-type]


def dead(step: int, silent: int = 0, **seen: object) -> Look:
    """A step without any gradient."""
    return look(step, silent=NAMES[:silent], zero=NAMES[silent:], **seen)


def reported(problem: Problem | None) -> tuple[str, str]:
    """Return the code and the message."""
    assert problem is not None
    assert problem.meaning and problem.todo
    return problem.code, problem.what


# ---------------------------------------------------------------------------------------------- before the first step


def frozen_census(areas: dict[Area, AreaCount], total: int) -> guard_checks.Census:
    """A census in which nothing is trainable."""
    some = healthy().census(Stage.TRAINER)
    assert some is not None
    return dataclasses.replace(some, trainable=0, trainable_logical=0, total_logical=total, by_area=areas)


def test_frozen_adapters_are_counted_in_logical_parameters() -> None:
    """The numbers of trl#3926: Qwen2-VL with r 64 in 4 bits, as its users saw them."""
    areas = {Area.ADAPTER: AreaCount(0, 161_480_704), Area.LANGUAGE: AreaCount(0, 4_700_000_000)}
    problem = guard_checks.nothing_trainable(frozen_census(areas, 8_452_856_320))
    assert reported(problem) == (
        "C104",
        "nothing is trainable: 0 of 8,452,856,320 parameters; all 161,480,704 adapter parameters are frozen",
    )
    assert problem is not None and "trl/issues/3926" in problem.meaning and "peft_config" in problem.todo


def test_without_adapters_the_message_names_none() -> None:
    """The message names neither adapters nor TRL."""
    problem = guard_checks.nothing_trainable(frozen_census({Area.LANGUAGE: AreaCount(0, LINEARS)}, LINEARS + REST))
    assert reported(problem) == ("C104", "nothing is trainable: 0 of 90,432 parameters")
    assert problem is not None and "TRL" not in problem.meaning and "requires_grad_(True)" in problem.todo


def test_one_trainable_parameter_is_something() -> None:
    """The user decides how many parameters train."""
    some = frozen_census({Area.ADAPTER: AreaCount(1, ADAPTER)}, ADAPTER)
    assert guard_checks.nothing_trainable(dataclasses.replace(some, trainable=1)) is None


@pytest.mark.parametrize(
    ("held", "missing", "what"),
    [
        (Optimizer(0, 8, 0), 4, "the optimizer is empty: it holds none of the 8 trainable parameters"),
        (Optimizer(3, 8, 3), 4, "the optimizer holds 3 parameters and none of the 8 trainable ones"),
        (Optimizer(6, 2, 0), 1, "the optimizer misses 2 of 8 trainable parameters: a.lora_A"),
        (Optimizer(2, 6, 0), 3, "the optimizer misses 6 of 8 trainable parameters: a.lora_A, a.lora_B, b.lora_A"),
        (
            Optimizer(9, 7, 8),
            4,
            "the optimizer misses 7 of 8 trainable parameters: a.lora_A, a.lora_B, b.lora_A and 1 more",
        ),
    ],
)
def test_what_the_optimizer_lacks_is_reported(held: Optimizer, missing: int, what: str) -> None:
    """It is empty, holds something else, or is incomplete; the message has the names."""
    assert reported(guard_checks.optimizer_incomplete(held, NAMES[:missing], 8)) == ("O301", what)


@pytest.mark.parametrize("held", [Optimizer(8, 0, 0), Optimizer(12, 0, 4)])
def test_an_optimizer_that_holds_all_and_more_is_complete(held: Optimizer) -> None:
    """A frozen parameter in it receives no gradient."""
    assert guard_checks.optimizer_incomplete(held, (), 8) is None


# ------------------------------------------------------------------------------------------------------------ labels


def test_three_steps_without_a_label_are_certain() -> None:
    """The message has the number of steps and of rows."""
    looks = [look(n, masked=4) for n in (1, 2, 3)]
    assert guard_checks.labels_masked(looks[:2], 3, scaled=False) is None
    assert reported(guard_checks.labels_masked(looks, 3, scaled=False)) == (
        "L501",
        "there is nothing to learn in steps 1 to 3: none of 12 rows has a label to predict",
    )


def test_with_few_rows_more_steps_are_needed() -> None:
    """With one row in each step it takes eight steps."""
    looks = [look(n, rows=1, masked=1) for n in range(1, FEWEST_ROWS + 1)]
    assert guard_checks.labels_masked(looks[:-1], 3, scaled=False) is None
    assert guard_checks.labels_masked(looks, 3, scaled=False) is not None


def test_one_row_with_a_label_begins_the_count_anew() -> None:
    """The count of steps starts again."""
    looks = [look(n, masked=4) for n in range(1, 7)]
    looks[3] = look(4, masked=3)
    assert guard_checks.labels_masked(looks, 3, scaled=False) is None


def test_a_gradient_that_no_labels_made_nan_is_in_the_weights_at_once() -> None:
    """A scaler that skips the step prevents it."""
    looks = [look(5, masked=4, non_finite=NAMES)]
    assert reported(guard_checks.labels_masked(looks, 3, scaled=False)) == (
        "L501",
        "there is nothing to learn in step 5: none of 4 rows has a label to predict, and the gradient is not finite",
    )
    assert guard_checks.labels_masked(looks, 3, scaled=True) is None


def test_a_model_that_is_given_no_labels_is_not_judged_by_them() -> None:
    """DPO gives its model no labels."""
    assert guard_checks.labels_masked([look(n, rows=0) for n in range(9)], 3, scaled=False) is None


# --------------------------------------------------------------------------------------------------------- gradients


def test_one_gradient_that_is_not_finite_is_certain_where_nothing_skips_it() -> None:
    """The message names it."""
    assert reported(guard_checks.gradients_not_finite([look(1), look(2, non_finite=NAMES[1:2])], scaled=False)) == (
        "G404",
        "gradients are NaN or infinite in step 2, in 1 of 4 trainable tensors: a.lora_B",
    )


def test_a_gradient_that_became_finite_is_forgotten() -> None:
    """The latest check counts, also after a warning."""
    assert guard_checks.gradients_not_finite([look(1, non_finite=NAMES), look(2)], scaled=False) is None


def test_a_scaler_may_skip_as_often_as_it_can_halve() -> None:
    """From 2**16 to 1 takes 16 steps; a few more are allowed."""
    looks = [look(n, non_finite=NAMES) for n in range(1, SCALER_SKIPS + 2)]
    assert SCALER_SKIPS > 16
    assert guard_checks.gradients_not_finite(looks[:-1], scaled=True) is None
    code, what = reported(guard_checks.gradients_not_finite(looks, scaled=True))
    assert code == "G404"
    assert what.startswith("gradients are NaN or infinite in steps 1 to 21, in 4 of 4 trainable tensors: ")


@pytest.mark.parametrize(("masked", "hint"), [(0, False), (1, True)])
def test_rows_without_labels_are_a_hint_at_the_cause(masked: int, hint: bool) -> None:
    """The hint appears only if such rows exist."""
    problem = guard_checks.gradients_not_finite([look(1, non_finite=NAMES, masked=masked)], scaled=False)
    assert problem is not None
    assert ("1 of 4 rows of the step had no label to predict" in problem.meaning) is hint


@pytest.mark.parametrize(
    ("silent", "received"), [(0, "0 received none and 4 only zeros"), (4, "4 received none and 0 only zeros")]
)
def test_three_steps_without_a_gradient_are_certain(silent: int, received: str) -> None:
    """Missing and zero gradients have different messages."""
    looks = [dead(n, silent) for n in (51, 52, 53)]
    assert guard_checks.no_gradient(looks[:2], 3, rewarded=False) is None
    assert reported(guard_checks.no_gradient(looks, 3, rewarded=False)) == (
        "G401",
        f"no gradient reaches the weights in steps 51 to 53: of 4 trainable tensors {received}",
    )


def test_the_first_step_of_lora_is_alive() -> None:
    """lora_B is zero, so every lora_A has a zero gradient; lora_B has a gradient."""
    first = look(1, zero=NAMES[::2])
    assert not first.dead and not first.suspicious


def test_steps_without_labels_need_no_gradient() -> None:
    """The check of labels reports such steps."""
    assert guard_checks.no_gradient([dead(n, masked=4) for n in range(9)], 3, rewarded=False) is None


def test_a_run_whose_gradients_cannot_be_seen_is_not_dead() -> None:
    """No tensor has a hook."""
    unseen = [look(n, tensors=0) for n in range(9)]
    assert guard_checks.no_gradient(unseen, 3, rewarded=False) is None
    assert not unseen[0].suspicious


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 5))
def test_only_an_unbroken_end_is_certain(alive: Sequence[bool], patience: int) -> None:
    """Whatever came before, `patience` dead steps at the end are needed."""
    looks = [look(n) if living else dead(n) for n, living in enumerate(alive)]
    certain = len(alive) >= patience and not any(alive[len(alive) - patience :])
    assert (guard_checks.no_gradient(looks, patience, rewarded=False) is not None) is certain


# --------------------------------------------------------------------------------------------------- weights and losses


def test_weights_that_stand_still_are_counted_with_the_rate() -> None:
    """The message mentions a learning rate of 0."""
    code, what = reported(guard_checks.weights_stand_still(28, ADAPTER, 4, 0.0))
    assert code == "W701"
    assert what == (
        "the weights never change: after 4 steps all 28 trained tensors (16,384 parameters) are bit for bit what they "
        "were, at a learning rate of 0"
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (3.2896221, 3.2896224, "3.289622 -> 3.289622"),
        (float("nan"), float("nan"), "nan -> nan"),
        (float("inf"), float("inf"), "inf -> inf"),
        (-1.5, -1.5, "-1.500000 -> -1.500000"),
        (1e-4, 1e-4, "0.000100 -> 0.000100"),
    ],
)
def test_a_loss_that_has_not_moved_in_six_decimals_is_flat(before: float, after: float, said: str) -> None:
    """A loss that is NaN at both ends counts too."""
    what = f"eval loss is flat to 6 decimals: {said} (eval_loss, 40 steps apart)"
    assert reported(guard_checks.eval_flat("eval_loss", before, after, 40)) == ("E803", what)


@pytest.mark.parametrize(
    ("before", "after"), [(3.289622, 3.289623), (float("nan"), 3.2), (3.2, float("nan")), (0.0, 0.0), (9e-5, 9e-5)]
)
def test_a_loss_that_moved_or_is_nearly_zero_is_not_flat(before: float, after: float) -> None:
    """Below 0.0001 only two digits are left, and a model may memorise its rows."""
    assert guard_checks.eval_flat("eval_loss", before, after, 40) is None


# ------------------------------------------------------------------------------------------------------ worth a word


def test_tensors_that_never_trained_are_named_and_not_blamed() -> None:
    """Experts may be idle."""
    assert guard_checks.never_trained(NAMES, 28, 10) == (
        "4 of 28 trained tensors received no gradient other than zero in 10 checked steps: a.lora_A, a.lora_B, "
        "b.lora_A and 1 more. Experts may be idle. Other layers are cut off from the loss, for example by gradient "
        "checkpointing over inputs that need no gradient."
    )


def test_rows_without_labels_are_counted() -> None:
    """The message counts the checked rows."""
    assert guard_checks.rows_without_labels(24, 5).startswith("5 of 24 checked rows have no label to predict: ")


def test_the_problems_are_the_codes_that_apply_to_the_guard() -> None:
    """Each code has one problem, so that a script can act on it."""
    problems = [
        guard_checks.nothing_trainable(frozen_census({Area.ADAPTER: AreaCount(0, ADAPTER)}, ADAPTER)),
        guard_checks.optimizer_incomplete(Optimizer(0, 8, 0), NAMES, 8),
        guard_checks.labels_masked([look(n, masked=4) for n in range(3)], 3, scaled=False),
        guard_checks.gradients_not_finite([look(1, non_finite=NAMES)], scaled=False),
        guard_checks.no_gradient([dead(n) for n in range(3)], 3, rewarded=False),
        guard_checks.weights_stand_still(28, ADAPTER, 4, 0.0),
        guard_checks.eval_flat("eval_loss", 3.0, 3.0, 40),
    ]
    codes = [reported(problem)[0] for problem in problems]
    assert sorted(codes) == [name for name, code in CODES.items() if AppliesTo.GUARD in code.applies_to]
