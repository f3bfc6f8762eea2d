"""What a script asks of its model: targets, new parameters, what is saved."""

from __future__ import annotations

import dataclasses

import pytest
from finetune_compat.checks.script_checks import judge_run
from finetune_compat.contract.records import Gradients
from finetune_compat.contract.script import AdapterSetup, AdapterStates, NewParameters, Run, SavedAdapter
from finetune_compat.contract.verdict import Outcome, Result
from pipelines import frozen, run, training


def states(disabled: int, merged: int, without_strength: int) -> AdapterStates:
    """Ten steps, of which so many ended so."""
    return AdapterStates(steps=10, disabled=disabled, merged=merged, without_strength=without_strength)


OTHER = AdapterStates(steps=10, disabled=0, merged=0, without_strength=0, other=("old",), other_from=6)

TARGETS = ("down_proj", "gate_proj", "q_proj")
CODES = ("A204", "A205", "C107", "C120")


def result_of(made: Run, code: str) -> Result:
    """The result of one check."""
    (opinion,) = [one for one in judge_run(made).opinions if one.code == code]
    return opinion.result


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (
            {"setup": AdapterSetup(asked=TARGETS, unreached=("down_proj", "gate_proj"))},
            "C120",
            "2 of 3 target modules are not in the model: down_proj, gate_proj",
        ),
        (
            {"setup": AdapterSetup(asked=TARGETS, patterns_unreached=("mlp.c_proj",))},
            "C120",
            "keys of rank_pattern or alpha_pattern match no module: mlp.c_proj",
        ),
        (
            {"setup": AdapterSetup(scaling={"0": 14})},
            "A204",
            "the scaling of the adapter is 0 in all 14 adapted modules",
        ),
        (
            {"adapters": states(10, 0, 0)},
            "A204",
            "disabled when each of 10 steps ends",
        ),
        (
            {"adapters": states(0, 10, 0)},
            "A204",
            "merged into their base",
        ),
        (
            {"adapters": states(0, 0, 10)},
            "A204",
            "the scaling of the adapter is 0",
        ),
        ({"adapters": OTHER}, "A201", "from step 6 on the active adapter is 'old'"),
        ({"own_idle": ("prompt",)}, "G401", "prompt, which the script defines"),
        ({"new": NewParameters(heads=("score",)), "setup": AdapterSetup()}, "C107", "the new head score is frozen"),
        (
            {"new": NewParameters(rows=2, rows_unchanged=("<think>", "</think>")), "setup": AdapterSetup()},
            "C107",
            "2 of 2 rows that were added to the embedding did not change: <think>, </think>",
        ),
        (
            {"saved": SavedAdapter(trained=5, missing=("a", "b", "c", "d"))},
            "A205",
            "4 of 5 trained tensors outside the adapters are not in the saved file: a, b, c and 1 more",
        ),
    ],
)
def test_each_fault_is_named_by_one_check(changes: dict[str, object], code: str, words: str) -> None:
    verdict = judge_run(run(**changes))
    assert verdict.failing == (code,)
    assert words in verdict.reason


def test_what_is_reached_trained_and_saved_is_healthy() -> None:
    made = run(
        setup=AdapterSetup(asked=TARGETS, scaling={"0": 1, "2": 13}),
        new=NewParameters(heads_trained=("score",), rows=2),
        saved=SavedAdapter(trained=1, missing=()),
    )
    assert judge_run(made).outcome is Outcome.PASS
    assert {result_of(made, code) for code in CODES} == {Result.PASS}


@pytest.mark.parametrize("code", CODES)
def test_without_data_nothing_is_judged(code: str) -> None:
    assert result_of(run(), code) is Result.NOT_APPLICABLE


def test_a_new_head_that_a_script_without_adapters_freezes_is_its_own_decision() -> None:
    made = run(new=NewParameters(heads=("score",)))
    assert result_of(made, "C107") is Result.NOT_APPLICABLE


def test_nothing_is_said_of_new_parameters_where_no_weight_changed() -> None:
    made = training(
        run(new=NewParameters(heads=("score",)), setup=AdapterSetup(), rewarded=True, rewards_alike=True),
        subject_delta=0.0,
    )
    assert result_of(made, "C107") is Result.NOT_APPLICABLE


def test_a_missing_target_hides_no_frozen_adapter() -> None:
    """Both are reported: a target that the model lacks freezes nothing."""
    made = dataclasses.replace(frozen(), setup=AdapterSetup(asked=TARGETS, unreached=("gate_proj",)))
    assert judge_run(made).failing == ("C120", "C104")


def test_a_scaling_of_zero_is_named_beside_the_gradients_that_it_takes_away() -> None:
    zeros = {"gradients": Gradients(28, 0, 28, 0), "grad_norm": (0.0,) * 10, "subject_delta": 0.0}
    made = training(run(setup=AdapterSetup(scaling={"0": 14})), **zeros)
    assert judge_run(made).failing == ("G401", "A204")


def test_adapters_that_rest_in_some_steps_are_healthy() -> None:
    """A strength may rise from 0, and a reference may be computed with the adapters switched off."""
    assert judge_run(run(adapters=states(1, 1, 4))).outcome is Outcome.PASS
