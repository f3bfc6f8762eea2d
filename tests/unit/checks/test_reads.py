"""Which fields a check reads, and what becomes of a pass that rests on a field which an observation lacks."""

from __future__ import annotations

import dataclasses

import pytest
from builders import UNLISTED, healthy, masked_labels, zero_gradients
from deep_builders import deep
from finetune_compat.checks import CHECKS, Outcome, Result
from finetune_compat.checks.case import Case
from finetune_compat.checks.judge import judge
from finetune_compat.checks.reads import fields_of, reading
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.records import Observation
from finetune_compat.contract.verdict import Opinion
from finetune_compat.results.run_files import judge_one

DEEP = deep(healthy())

OTHER_OBJECTIVES = ("dpo-peft-model", "kto-peft-model", "grpo-peft-model", "reward-peft-model", "trainer-peft-model")


def read_by(code: str, seen: Observation) -> frozenset[str]:
    with reading(seen) as (copy, read):
        return fields_of(code, Case(copy, flow_named(seen.flow)), read)


def opinion(code: str, seen: Observation) -> Opinion:
    [found] = [each for each in judge_one(seen, UNLISTED).opinions if each.code == code]
    return found


def without(seen: Observation, *fields: str) -> Observation:
    """As an older harness wrote it. Values are left: what counts is that the field was not in its line."""
    return dataclasses.replace(seen, lacks=fields)


def test_the_fields_that_a_check_reads_are_found_by_running_it() -> None:
    """M901 compares two numbers, and R601 the schedule with the rates."""
    assert read_by("M901", healthy()) == {"Observation.memory", "Memory.start_bytes", "Memory.end_bytes"}
    assert read_by("R601", healthy()) == {
        "Observation.training",
        "Training.learning_rate_asked",
        "Training.learning_rate",
        "Training.rates_agree",
    }


def test_every_check_of_cells_reads_something() -> None:
    """A check that read nothing would say the same of every cell."""
    assert [check.code for check in CHECKS if not read_by(check.code, DEEP)] == []


@pytest.mark.parametrize("seen", [DEEP, *map(healthy, OTHER_OBJECTIVES)], ids=lambda seen: seen.flow)
def test_a_copy_that_reports_reads_is_the_same_observation(seen: Observation) -> None:
    """To the judge, whatever the objective, and in every value."""
    with reading(seen) as (copy, _):
        assert judge(copy, flow_named(seen.flow), ()) == judge(seen, flow_named(seen.flow), ())
        assert dataclasses.asdict(copy) == dataclasses.asdict(seen)


def test_what_is_inside_mappings_and_tuples_is_followed_as_well() -> None:
    """A check reads counts by area, and losses of repeats."""
    with reading(DEEP) as (copy, read):
        judge(copy, flow_named(DEEP.flow), ())
        dataclasses.asdict(copy)
    assert {"Census.trainable", "AreaCount.total", "ParameterClass.tensors", "LossPair.after"} <= set(read)


@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("M901", "Memory.end_bytes"),
        ("C104", "Census.trainable"),
        ("G401", "ParameterClass.reached"),
        ("L502", "Labels.ends_masked"),
        ("E802", "Training.eval_after"),
    ],
)
def test_a_pass_that_rests_on_a_field_that_is_not_there_is_none(code: str, field: str) -> None:
    """Whatever the check, though it says nothing of older observations itself."""
    assert opinion(code, healthy()).result is Result.PASS
    found = opinion(code, without(healthy(), field))
    assert (found.result, found.message) == (Result.NOT_APPLICABLE, f"recorded before {field}")


def test_other_checks_judge_an_older_observation_as_before() -> None:
    """Only what reads the field does not apply."""
    before, after = (judge_one(seen, UNLISTED) for seen in (healthy(), without(healthy(), "Observation.memory")))
    changed = [new.code for old, new in zip(before.opinions, after.opinions, strict=True) if old != new]
    assert (changed, after.outcome) == (["M901"], Outcome.PASS)


def test_a_failure_stays_a_failure() -> None:
    """It rests on something that was recorded."""
    for seen, code in ((masked_labels(healthy()), "L501"), (zero_gradients(healthy()), "G401")):
        older = without(seen, "Labels.positions", "Training.still_layers", "ParameterClass.moving_until")
        assert judge_one(older, UNLISTED).failing == (code,)


def test_all_fields_that_are_missing_are_named() -> None:
    """In the order of their names."""
    older = without(healthy(), "Memory.start_bytes", "Observation.deep", "Memory.end_bytes")
    assert opinion("M901", older).message == "recorded before Memory.end_bytes, Memory.start_bytes"
