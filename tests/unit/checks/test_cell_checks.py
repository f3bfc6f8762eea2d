"""All checks of cells: each has a fault that it alone names."""

from __future__ import annotations

from collections.abc import Callable

import builders as b
import deep_builders as d
import pytest
from builders import UNLISTED, healthy
from finetune_compat.checks import CHECKS, Outcome, Result, Symptom
from finetune_compat.checks.codes import DEEP_CHECKS
from finetune_compat.checks.objectives import RULES
from finetune_compat.contract.catalog import CATALOG, Flow, Head, Method, Subject
from finetune_compat.contract.records import Observation, Variant
from finetune_compat.results.run_files import judge_one
from hypothesis import assume, given
from hypothesis import strategies as st
from opinions import judged, results

Cell = tuple[Flow, Variant]
Fault = Callable[[Observation], Observation]
CELLS = [(flow, variant) for flow in CATALOG for variant in flow.variants]
ADAPTED = [cell for cell in CELLS if (cell[0].subject, cell[0].method) == (Subject.ADAPTER, Method.LORA)]
"""Cells with LoRA: the faults are in its matrices."""


# ------------------------------------------------------------------------------------------------------ older harnesses


NEW = (
    *("P102", "C120", "L502", "R601", "W702", "A203", "A204", "M901"),
    *("G401", "G404", "G405", "W701", "W703"),
    *("L503", "B101", "B102", "B103", "B201", "B202", "P103", "G406", "G407", "E809", "O302"),
)
"""Checks of what older harnesses did not record."""


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell[0].name}[{cell[1]}]")
def test_observations_of_an_older_harness_are_judged_by_what_they_hold(cell: Cell) -> None:
    """No check fails, and checks of what was not recorded do not apply. So gradients and weights were not judged."""
    flow, variant = cell
    seen = b.of_older_harness(healthy(flow.name, variant))
    verdict = judge_one(seen, UNLISTED)
    assert (verdict.outcome, verdict.failing) == (Outcome.INFRASTRUCTURE, ())
    assert verdict.reason == "could not tell: nothing to judge for gradients, weights"
    assert {code: results(seen)[code] for code in NEW} == dict.fromkeys(NEW, Result.NOT_APPLICABLE)


@given(st.sampled_from([b.frozen, b.masked_labels, b.empty_optimizer, b.zero_gradients, b.no_step, b.learns_nothing]))
def test_a_fault_has_the_same_name_in_an_observation_of_an_older_harness(fault: Fault) -> None:
    """New checks explain more and rename nothing."""
    seen = fault(healthy())
    assert judge_one(b.of_older_harness(seen), UNLISTED).failing == judge_one(seen, UNLISTED).failing


# ---------------------------------------------------------------------------------------------------------- all of them

FAULTS: dict[str, Fault] = {
    "P102": b.other_attention,
    "D801": b.half_precision_at_load,
    "C120": b.adapters_elsewhere,
    "D802": lambda seen: b.adapter_dtypes(seen, ("float16",), ("float16",)),
    "L502": b.ends_masked,
    "R601": b.rates_disagree,
    "G401": lambda seen: b.late(seen, "lora_A", 4),
    "W701": lambda seen: b.stands_still(seen, "lora_B"),
    "G404": lambda seen: b.gradient_norm_reported_as(seen, float("nan")),
    "G405": lambda seen: b.ends_early(seen, "lora_A", "gradients", 9),
    "E807": lambda seen: b.training_loss_reported_as(seen, 0.0),
    "W703": lambda seen: b.ends_early(seen, "lora_A", "moving", 9),
    "W702": b.frozen_weights_changed,
    "A204": b.without_effect,
    "A203": b.reload_answers_otherwise,
    "L503": b.labels_shifted,
    "B101": lambda seen: b.with_rows(seen, trained=(b.HELD_OUT[0], *b.SHUFFLED[1:])),
    "B102": lambda seen: b.with_rows(seen, trained=tuple(range(64))),
    "B103": lambda seen: b.with_rows(seen, evaluated=(b.HELD_OUT, b.HELD_OUT[:8])),
    "P103": lambda seen: b.with_dropout(seen, evaluation=0.05),
    "G406": lambda seen: b.gradient_scaled(seen, 4),
    "G407": lambda seen: b.gradient_norm_reported_as(seen, 1.5),
    "E809": lambda seen: b.training_loss_reported_as(seen, 19.4),
    "O302": lambda seen: b.with_update_error(seen, 0.3),
    "B201": lambda seen: b.with_forward(seen, earlier=0.1),
    "B202": lambda seen: b.with_forward(seen, padded=0.1),
    "M901": b.leaking,
}


@pytest.mark.parametrize("code", FAULTS)
@given(st.sampled_from(ADAPTED))
def test_a_fault_is_named_by_its_own_check_alone(code: str, cell: Cell) -> None:
    """This holds in every flow with adapters and every variant, also of vision-language models; eval loss still
    falls.
    """
    flow, variant = cell
    # With a completion of 15 labels, L501 fails because of the missing end.
    assume(code != "L502" or len(flow.row_labels) == 2)
    # The loss of generated completions may be 0 at every step.
    assume(code != "E807" or not RULES[flow.objective].generated)
    assume(code != "B102" or RULES[flow.objective].in_order is None)
    # A score head has no logits of tokens.
    assume(code not in ("B201", "B202") or flow.head is Head.TOKENS)
    verdict = judge_one(FAULTS[code](healthy(flow.name, variant)), UNLISTED)
    assert (verdict.failing, verdict.symptom) == ((code,), Symptom.FALLS)


def test_every_check_has_a_fault_that_it_names() -> None:
    """The fault is here or in the tests of its module; a check that never failed may be unable to fail."""
    elsewhere = {"P101", "C101", "C102", "C103", "C104", "C105", "C106", "C110", "F001", "A201", "A202", "L501", "O301"}
    deep = {"G402", "G403", "E804", "E805", "B104"}
    assert {check.code for check in CHECKS} == elsewhere | deep | {"E801", "E802", "E806"} | set(FAULTS)


# --------------------------------------------------------------------------------------------------------- real weights


def test_real_weights_are_judged_by_the_sizes_recorded_with_them() -> None:
    """A tied head and bfloat16 are as requested, although no tiny model has them."""
    seen = b.real()
    assert judge_one(seen, UNLISTED).outcome is Outcome.PASS
    assert {results(seen)[code] for code in ("D801", "C101", "C104", "C110", "C120")} == {Result.PASS}


# -------------------------------------------------------------------------------------------------------- the deep tier


def test_a_healthy_cell_passes_every_deep_check() -> None:
    """Each of them had data."""
    verdict = judged(d.deep())
    assert verdict.outcome is Outcome.PASS, verdict.reason
    assert {said.result for said in verdict.opinions if said.code in DEEP_CHECKS} == {Result.PASS}


def test_without_the_deep_tier_its_checks_do_not_apply() -> None:
    """They neither pass nor fail."""
    opinions = [opinion for opinion in judged(b.healthy()).opinions if opinion.code in DEEP_CHECKS]
    assert {(opinion.result, opinion.message) for opinion in opinions} == {
        (Result.NOT_APPLICABLE, "the deep tier was not run for this cell")
    }
