"""Which release to be on: the newest final stack on which the most flows of documented usage train."""

from __future__ import annotations

import builders as b
from atlas_builders import FIELD, kept, on
from finetune_compat.atlas.answers import Range, answers, best, ranges_of
from finetune_compat.atlas.survey import State, Survey, survey
from finetune_compat.contract.records import Observation, Stage


def field(*seen: Observation) -> Survey:
    """A survey of one baseline."""
    return survey({"cpu": kept(*seen)})


def crashing(trl: str, flow: str) -> Observation:
    """A cell that ends with an unlisted error."""
    return b.failed(on(trl, flow=flow), "AttributeError", "no such thing", Stage.TRAINER)


def test_flows_of_documented_usage_come_first() -> None:
    """With the releases on which they train."""
    first, second = answers(survey(FIELD))
    assert (first.flow.name, first.flow.correct, second.flow.correct) == ("sft-peft-config", True, False)
    (trl,) = second.axes
    assert trl.ranges == (Range("0.19.1", "0.19.1", newest=False), Range("0.24.0", "0.24.0", newest=True))
    assert (trl.axis, trl.newest, trl.newest_state) == ("trl", "0.24.0", State.TRAINS)


def test_a_gap_ends_a_range() -> None:
    """A release on which the flow was not measured is a gap, too: nothing is known there."""
    columns = survey(FIELD).on_axis("trl")
    states = [State.TRAINS, State.TRAINS, State.UNKNOWN, State.TRAINS]
    ranges = ranges_of(zip(columns, states, strict=True), State.TRAINS)
    assert [(one.first, one.last, one.newest) for one in ranges] == [
        ("0.19.1", "0.20.0", False),
        ("0.24.0", "0.24.0", True),
    ]
    assert ranges_of([], State.TRAINS) == ()


def test_a_flow_that_trains_on_no_release_says_what_it_does_instead() -> None:
    """On the newest release."""
    (answer,) = answers(field(b.frozen(on("0.20.0")), b.frozen_loud(on("0.22.2", variant=b.NF4_NOGC))))
    assert (answer.axes[0].newest, answer.axes[0].newest_state) == (None, State.CRASHES)


def test_the_newest_stack_on_which_every_documented_flow_trains() -> None:
    """A flow that is not documented does not count."""
    found = best(
        field(
            on("0.22.2", flow="sft-peft-config"),
            on("0.24.0", flow="sft-peft-config"),
            b.frozen(on("0.24.0")),
            crashing("0.25.0", "sft-peft-config"),
        )
    )
    assert found is not None
    assert (found.column.stack, [flow.name for flow in found.trains], found.others) == (
        "trl0.24-py311",
        ["sft-peft-config"],
        (),
    )


def test_without_such_a_stack_it_is_the_one_with_the_most() -> None:
    """And the flows that do not train on it are named."""
    found = best(
        field(
            *(on("0.22.2", flow=flow) for flow in ("sft-peft-config", "trainer-peft-model")),
            on("0.24.0", flow="trainer-peft-model"),
            crashing("0.24.0", "sft-peft-config"),
            crashing("0.22.2", "sft-all-linear"),
        )
    )
    assert found is not None
    assert found.column.stack == "trl0.22-py311"
    assert [flow.name for flow in found.others] == ["sft-all-linear"]


def test_a_pre_release_is_never_recommended() -> None:
    """However new."""
    new = b.healthy("sft-peft-config", stack="pre-py311", versions=b.on_trl("2.0.0rc1"))
    found = best(field(on("0.24.0", flow="sft-peft-config"), new))
    assert found is not None
    assert found.column.stack == "trl0.24-py311"


def test_nothing_is_recommended_where_nothing_trains() -> None:
    """Not even the newest."""
    assert best(field(crashing("0.24.0", "sft-peft-config"))) is None


def test_cells_of_which_nothing_is_known_are_counted() -> None:
    """They are no reason against a stack, and must be said."""
    lost = b.out_of_memory(on("0.24.0", flow="sft-peft-config", variant=b.INT8))
    found = best(field(on("0.24.0", flow="sft-peft-config"), lost))
    assert found is not None
    assert found.unknown == 1
