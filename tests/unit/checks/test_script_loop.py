"""Checks of a script's data, loop and effect: each fault is named by its own check, and unusual runs by none."""

from __future__ import annotations

import dataclasses
import math

import builders
import pytest
from finetune_compat.checks.script_checks import ENGINE, judge_run
from finetune_compat.contract.records import Stage
from finetune_compat.contract.script import AdapterStates, Computed, PutBack, Reload, Run, Seen
from finetune_compat.contract.verdict import Outcome, Result
from pipelines import run, training

SEEN = Seen(
    rows=80,
    distinct=64,
    data_rows=64,
    batches=10,
    same_as_last=0,
    pairs=0,
    pairs_alike=0,
    class_labels=0,
    classes=0,
    held_out=16,
    held_out_trained=2,
    first_batch=(4.16, 3.9),
    evaluates_alike=True,
)


def seen(**changes: object) -> Run:
    """A healthy trainer whose batches were seen."""
    return run(seen_batches=dataclasses.replace(SEEN, **changes))  # type: ignore[arg-type]


TURNED = dataclasses.replace(
    training(seen(pairs=80), eval_before=0.69, eval_after=0.91), accuracy=(0.5, 4 / 24), rows_evaluated=24
)
"""A reward model that prefers the rejected rows after training."""


def result(made: Run, code: str) -> Result:
    return next(opinion.result for opinion in ENGINE.opinions(made) if opinion.code == code)


def test_a_healthy_run_passes_all_of_them() -> None:
    assert judge_run(seen()).outcome is Outcome.PASS
    for code in ("B105", "B106", "G408", "E810", "E811"):
        assert result(seen(), code) is Result.PASS


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (seen(distinct=1), "B105"),
        (seen(same_as_last=5), "B105"),
        (seen(data_rows=None, same_as_last=5), "B105"),
        (seen(held_out_trained=12), "B106"),
        (seen(held_out_trained=16, held_out_part="end", held_out_name="validation"), "B106"),
        (seen(held_out_trained=16, held_out_part="beginning", held_out_name="held_out"), "B106"),
        # The best checkpoint is chosen by rows that were trained on.
        (dataclasses.replace(seen(held_out_trained=16, held_out_part="end"), metric="smaller eval_loss"), "B106"),
        # The rows of a preference set have no tokens to compare.
        (seen(held_out=0, held_out_trained=0, held_out_part="end", held_out_name="test"), "B106"),
        (seen(held_out_trained=16, held_out_copies=4), "B106"),
        (seen(pairs=40, pairs_alike=40), "L506"),
        (seen(class_labels=80, classes=1), "L506"),
        (seen(stale_from=2), "G408"),
        (seen(evaluates_alike=False), "E810"),
        (seen(metrics_vary=False), "E815"),
        (seen(first_batch=(4.16, 4.3)), "E811"),
        (seen(first_batch=(4.16, math.nan)), "E811"),
        (seen(first_batch=(4.16, 27.0), pairs=40), "E811"),
        (dataclasses.replace(training(seen(), loss=(33.3, 30.0)), accumulation=8), "E812"),
        (dataclasses.replace(training(seen(), loss=(0.52, 0.5)), accumulation=8), "E812"),
        (training(seen(), loss=(math.log(2),) * 10), "E813"),
        (run(metric="greater eval_loss"), "E814"),
        (dataclasses.replace(training(run(), learning_rate=(0.1,) * 4 + (0.0,) * 6), steps_left=22), "O303"),
        (dataclasses.replace(training(run(), learning_rate=(0.1,) * 4 + (0.0,) * 6), trainer=None), "O303"),
        (dataclasses.replace(training(run(), learning_rate=(1e-9,) * 10), full_rate=1e-4, steps_left=10), "O303"),
        (run(adapters=AdapterStates(steps=10, disabled=0, merged=0, without_strength=0, unused=("first",))), "A206"),
        (run(saved_as="untrained"), "A207"),
        (run(saved_as="early"), "A207"),
        (run(saved_as="changed lora_alpha 64 -> 16"), "A207"),
        (run(ranks=1, ranks_differ=1), "W704"),
        (run(peft_config="AdaLoraConfig", allocations=0), "C121"),
        (run(builders.at_stage(run().seen, Stage.TRAINER, adapter_dtypes=("float16",))), "O304"),
        (run(rewarded=True, rewards_alike=True, reward=(0.0,) * 6), "G409"),
        # Rewards differ between prompts, and the completions of a prompt are one.
        (dataclasses.replace(seen(in_groups=24, in_groups_alike=24), rewarded=True, rewards_alike=True), "G409"),
        (run(put_back=PutBack(compared=28, differ=28)), "E816"),
        (run(put_back=PutBack(itself=True)), "E816"),
        # 4 of 24 pairs: by chance once in 1,300 evaluations.
        (TURNED, "E817"),
        # Before training, a policy is its own reference: all pairs are ties, and the accuracy is 0.
        (dataclasses.replace(training(TURNED, eval_before=math.log(2)), accuracy=(0.0, 0.0)), "E817"),
        (run(unscaled="8 times too small: the scaling (lora_alpha / r) is left out"), "A203"),
        (run(reloads=(Reload(what="adapter", difference=0.3, allowed=1e-3),)), "A203"),
        (run(reloads=(Reload(what="model", difference=None, allowed=0.0, error="ValueError: shape"),)), "A203"),
        (run(computed=Computed(asked="bfloat16", seen=("float32",))), "D803"),
        (run(computed=Computed(load_asked="bfloat16", load_found=("float32",))), "D803"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_each_fault_is_named_by_its_check(made: Run, code: str) -> None:
    assert judge_run(made).failing == (code,)


@pytest.mark.parametrize(
    "made",
    [
        # Rows that every batch has all of; a script that trains on one batch, without a loader.
        seen(rows=80, data_rows=8, distinct=8, same_as_last=9),
        dataclasses.replace(seen(data_rows=None, same_as_last=9), trainer=None),
        # Rare rows are taken several times.
        seen(distinct=20),
        # The evaluation set is a part of the training set, and nothing says that it is held out.
        seen(held_out_trained=16),
        seen(held_out_trained=16, held_out_part="end"),
        # Rare rows were copied after the split.
        seen(held_out_trained=0, held_out_copies=4),
        # A few rows are of one class by chance.
        seen(class_labels=8, classes=1),
        # A preference loss makes both rows of a pair less likely.
        seen(first_batch=(4.16, 4.5), pairs=40),
        seen(first_batch=None, evaluates_alike=None),
        # The last step of a schedule, and a schedule that has ended with the training.
        dataclasses.replace(training(run(), learning_rate=(0.1,) * 9 + (0.0,)), steps_left=5),
        training(run(), learning_rate=(0.1,) * 8 + (0.0,) * 2),
        dataclasses.replace(training(seen(), loss=(5.1, 4.0)), accumulation=8),
        run(metric="greater eval_accuracy"),
        run(saved_as="trained", ranks=1, peft_config="AdaLoraConfig", allocations=10),
        # One of several steps had rewards that differ.
        run(rewarded=True, rewards_alike=False, reward=(0.0,) * 6),
        run(rewarded=True, rewards_alike=True, reward=(0.1, 0.2, 0.1, 0.3)),
        # In one of six groups all completions are the same.
        dataclasses.replace(seen(in_groups=24, in_groups_alike=4), rewarded=True, rewards_alike=False),
        run(put_back=PutBack(compared=28)),
        # A model that memorises its rows guesses: 8 of 24 or fewer are right once in 13 evaluations.
        dataclasses.replace(TURNED, accuracy=(14 / 24, 8 / 24)),
        # All pairs were ties before, and chance explains 8 of 24 after.
        dataclasses.replace(training(TURNED, eval_before=math.log(2)), accuracy=(0.0, 8 / 24)),
        # It was as low before training, or the eval loss fell.
        dataclasses.replace(TURNED, accuracy=(4 / 24, 4 / 24)),
        training(TURNED, eval_before=0.91, eval_after=0.69),
        run(reloads=(Reload(what="merged model", difference=1e-6, allowed=1e-3),)),
        # A router of experts is kept in float32, and so are norms of a loaded model.
        run(computed=Computed(asked="bfloat16", seen=("bfloat16", "float32"))),
        run(computed=Computed(load_asked="bfloat16", load_found=("bfloat16", "float32"))),
        # A script may use autocast by itself.
        run(computed=Computed(seen=("bfloat16",))),
    ],
)
def test_what_is_unusual_is_no_fault(made: Run) -> None:
    assert judge_run(made).outcome is Outcome.PASS
