"""Sentences of the atlas."""

from __future__ import annotations

import dataclasses

import builders as b
from atlas_builders import FIELD, drawn, kept, on
from finetune_compat.atlas import wording
from finetune_compat.atlas.answers import best
from finetune_compat.atlas.issues import lines
from finetune_compat.atlas.survey import EMPTY, State, survey
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.windows_measured import MeasuredEdge, Side
from finetune_compat.results.branches import Uncovered


def test_every_state_has_a_sign_a_class_and_a_meaning() -> None:
    """And no two have the same."""
    for words in (wording.SIGNS, wording.CLASSES, wording.MEANINGS, wording.PLURAL):
        assert set(words) == set(State)
        assert len(set(words.values())) == len(State)


def test_a_number_stands_in_a_square_only_if_it_says_something() -> None:
    """Not if all known cells have the state."""
    found = survey(FIELD)
    assert wording.sign(found.square("sft-peft-model", "trl0.22-py311")) == "!1"
    assert wording.sign(found.square("sft-peft-model", "trl0.20-py311")) == "!"
    lost = survey({"cpu": kept(b.frozen(on("0.22.2")), b.out_of_memory(on("0.22.2", variant=b.INT8)))})
    assert wording.sign(lost.square("sft-peft-model", "trl0.22-py311")) == "!"
    assert wording.sign(EMPTY) == "·"
    assert wording.counts(EMPTY) == "not run"


def test_the_versions_to_install_leave_torch_to_the_machine() -> None:
    """Its build depends on it."""
    found = best(survey(FIELD))
    assert found is not None
    assert wording.pins(found.column).startswith("pip install trl==0.24.0 peft==0.17.1 transformers==4.56.1 ")
    assert "torch" not in wording.pins(found.column)


def test_the_answer_says_what_is_not_known() -> None:
    """And what does not train."""
    assert wording.best(None) == "No measured stack trains any flow of documented usage."
    found = best(survey(FIELD))
    assert found is not None
    assert wording.best(found) == (
        "trl0.24-py311 is the newest stack on which every flow of documented usage trains (1 flow)."
    )
    worse = dataclasses.replace(found, others=found.trains, unknown=3)
    assert wording.best(worse).endswith("not there: sft-peft-config. Of 3 cells of these flows nothing is known here.")


def test_each_edge_says_what_it_rests_on() -> None:
    """Edges that no measurement names lie between stacks."""
    side = Side(version="0.20.0", stack="trl0.20-py311", versions={}, shows="")
    edge = MeasuredEdge(
        issue="trl#3926",
        shows=0,
        package="trl",
        edge="trl>=0.20.0",
        cell="sft-peft-model[qwen2-nf4-gc]",
        inside=side,
        outside=dataclasses.replace(side, version="0.19.1"),
        moved=(),
        holds=True,
        measured="2026-11-30T07:00:00Z",
    )
    ((line,), (other,)) = (lines(survey(FIELD), b.LISTED, measured) for measured in ([edge], []))
    assert wording.edges(line.strips[0]) == ">=0.20.0 by package, <0.23.1 between stacks"
    assert wording.edges(other.strips[0]) == ">=0.20.0 between stacks, <0.23.1 between stacks"


def test_a_window_that_is_not_bound_says_so() -> None:
    """Also if only some of its cells are bound."""
    everywhere = dataclasses.replace(b.FLAGSHIP, windows={})
    for shows, expected in (
        ((b.FLAGSHIP,), ">=0.20.0,<0.23.1"),
        ((everywhere,), "every release"),
        ((everywhere, b.FLAGSHIP), "every release; some variants only >=0.20.0,<0.23.1"),
    ):
        (strip,) = drawn(FIELD, Ledger(issues=(b.issue(*shows),)))[1][0].strips
        assert wording.window(strip) == expected


def test_an_issue_says_what_its_user_sees() -> None:
    """The ending of the flow, silent or loud."""
    line = drawn(FIELD)[1][0]
    assert wording.symptom(line) == "eval loss: flat; RuntimeError: element 0 of tensors does not require grad"
    assert wording.severity(line) == "silently does not or crashes"
    assert wording.seen_on(line.strips[0]) == "TRL: first 0.20.0, last 0.22.2"
    assert wording.without(line.strips[0]) == "TRL 0.24.0 (newer), TRL 0.19.1 (older)"


def test_the_share_of_branches_that_no_cell_took() -> None:
    """A range over the stacks; nothing where no stack was traced."""
    found = kept(b.frozen(on("0.20.0")), b.frozen(on("0.22.2")))
    traced = {"trl0.20-py311": Uncovered(100, 40, 2), "trl0.22-py311": Uncovered(1_000, 455, 0)}
    both = survey({"cpu": dataclasses.replace(found, uncovered=traced)})
    assert "40% to 46% were not taken on this device (2 stacks)" in wording.uncovered_lead(both)
    assert wording.uncovered(both.uncovered["trl0.22-py311"]) == "455 of 1,000"
    one = survey({"cpu": dataclasses.replace(found, uncovered={"trl0.20-py311": Uncovered(100, 40, 2)})})
    assert "40% were not taken on this device (1 stack)" in wording.uncovered_lead(one)
    for nothing in ({}, {"trl0.20-py311": Uncovered(0, 0, 0)}):
        assert wording.uncovered_lead(survey({"cpu": dataclasses.replace(found, uncovered=nothing)})) == ""
