"""Sentences and labels of the reports of a gate."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import builders as b
import pytest
from finetune_compat.checks.comparison import Change
from finetune_compat.contract.records import Stage
from finetune_compat.gate.decision import (
    AppliedException,
    Aspect,
    Cause,
    Decision,
    DefaultChange,
    Difference,
    FlowChange,
    Gate,
    Moved,
    Rule,
    SafeTarget,
    Tried,
)
from finetune_compat.gate.report import wording
from finetune_compat.gate.report.heat import Differing, Marks
from finetune_compat.report.wording import LONGEST_MESSAGE
from finetune_compat.results.run_files import RowState
from gate_builders import AFTER, BEFORE, cell, gate, side

NAME = "sft-peft-model[qwen2-nf4-gc]@cpu"
TARGET = SafeTarget("trl", "0.23.1", True, (Tried("0.23.0", False, "C104 fails"), Tried("0.23.1", True, "")), 0)


@pytest.fixture
def flagship() -> Gate:
    """trl#3926, listed."""
    return gate([cell(BEFORE)], [b.frozen(cell(AFTER))], {NAME: TARGET}, ledger=b.LISTED)


class TestHead:
    def test_the_decision_and_both_sides(self, flagship: Gate) -> None:
        """And who said it, if nothing ran."""
        assert wording.head(flagship) == "BLOCK: trl==0.19.1 to trl==0.22.2"
        told = replace(flagship, foretold_by="the baseline of 2026-11-24")
        assert wording.head(told) == "BLOCK by the baseline of 2026-11-24: trl==0.19.1 to trl==0.22.2"

    def test_where_to_read_more(self, flagship: Gate) -> None:
        """An answer of the baselines has no run."""
        assert wording.more(flagship).startswith(f"All of it: compat report {flagship.run.name} --details, or ")
        told = replace(flagship, foretold_by="the baseline")
        assert wording.more(told) == f"Nothing was run. To confirm: {flagship.command}"


class TestCauses:
    def test_a_listed_cause(self, flagship: Gate) -> None:
        """Its issue, the line that froze, and what to do."""
        (cause,) = flagship.causes
        (issue,) = b.LISTED.issues
        assert wording.cause_head(cause, flagship) == f"BLOCK: regressed, trl#3926: {issue.title}"
        assert wording.cause_cells(cause) == "1 cell of sft-peft-model"
        assert wording.place(cause).startswith("frozen by ")
        assert f"{b.FREEZING_CHAIN[-1].file}:{b.FREEZING_CHAIN[-1].line}" in wording.place(cause)
        assert wording.remedy(cause) == issue.remedy
        assert wording.cause_advice(cause, flagship) == (issue.remedy, wording.target(TARGET, flagship))

    def test_an_error_has_the_line_that_raised_it(self) -> None:
        """Its last frame."""
        crash = b.failed(cell(AFTER), "AttributeError", "gone", Stage.TRAINER)
        (cause,) = gate([cell(BEFORE)], [crash]).causes
        assert crash.error is not None
        last = crash.error.frames[-1]
        assert wording.place(cause).startswith("raised by ") and f"{last.file}:{last.line}" in wording.place(cause)

    def test_an_unlisted_cause_has_its_checks(self) -> None:
        """A fix failed them before."""
        answer = gate([cell(BEFORE)], [b.frozen(cell(AFTER))])
        assert wording.cause_head(answer.causes[0], answer).startswith("BLOCK: regressed, fails C104 (")
        answer = gate([b.frozen(cell(BEFORE))], [cell(AFTER)])
        assert wording.cause_head(answer.causes[0], answer).startswith("ALLOW: fixed, failed C104 (")
        assert wording.remedy(answer.causes[0]) == ""

    def test_a_cause_without_a_side_that_deviates(self) -> None:
        """Its reason is all there is to say."""
        answer = gate([cell(BEFORE)], [b.losses(cell(AFTER), 4.4012, 3.9011)])
        (cause,) = answer.causes
        assert (wording.place(cause), wording.remedy(cause), wording.cause_advice(cause, answer)) == ("", "", ())
        assert wording.cause_facts(cause, answer) == (cause.reason,)

    def test_cells_that_end_before_training_need_other_versions(self) -> None:
        """No release is at fault."""
        one, other = (b.failed(cell(stack), "ValueError", "no", Stage.TRAINER) for stack in (BEFORE, AFTER))
        (cause,) = gate([one], [other]).causes
        assert wording.remedy(cause) == wording.UNTRAINED

    def test_other_causes_in_one_line(self, flagship: Gate) -> None:
        """By decision, with their cells."""
        (cause,) = flagship.causes
        more = [replace(cause, cells=cause.cells * 2), replace(cause, effect=Decision.HOLD)]
        assert wording.others([cause, *more]) == "Also: BLOCK for 2 causes (3 cells), HOLD for 1 cause (1 cell)."
        assert wording.others([]) == ""


class TestTargets:
    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({}, "trl 0.23.1 is the first release above 0.22.2 that passes. 0.23.0 does not."),
            ({"above": False}, "trl 0.23.1 is the newest release below 0.22.2 that passes. 0.23.0 does not."),
            (
                {"version": None, "tried": (Tried("1", False, "x"), Tried("2", False, "x"), Tried("3", False, "x"))},
                "no release of trl that was tried passes. 1, 2 and 3 do not.",
            ),
            (
                {"tried": (Tried("0.23.1", True, "", "peft 0.17"),)},
                (
                    "trl 0.23.1 is the first release above 0.22.2 that passes, "
                    "with peft 0.17 in place of the pinned versions."
                ),
            ),
        ],
    )
    def test_in_short(self, flagship: Gate, changes: dict[str, Any], sentence: str) -> None:
        """With the versions that were tried before."""
        assert wording.safe(replace(TARGET, **changes), flagship) == sentence

    def test_in_full(self, flagship: Gate) -> None:
        """With the reasons, and the releases that were not tried."""
        assert wording.target(replace(TARGET, between="0.20.0"), flagship) == (
            "trl 0.23.1 is the first release above 0.22.2 that passes. 0.20.0 passes too, below it. "
            "Tried and did not pass: 0.23.0 (C104 fails)."
        )
        reason = "trl#3926: C104 0 trainable at trainer"
        same = tuple(Tried(version, False, f"{reason}; frozen by a.py:{version}") for version in ("0.23.0", "0.21.0"))
        tried = (*same, Tried("0.20.0", False, "another"), Tried("0.23.1", True, ""))
        assert wording.target(replace(TARGET, tried=tried), flagship).endswith(
            f"Tried and did not pass: 0.23.0, 0.21.0 ({reason}); 0.20.0 (another)."
        )
        none = replace(TARGET, version=None, tried=TARGET.tried[:1], untried=4)
        assert wording.target(none, flagship) == (
            "No safe release of trl was found. Tried and did not pass: 0.23.0 (C104 fails). 4 more were not tried."
        )


class TestSides:
    def test_rows(self, flagship: Gate) -> None:
        """One for each heading."""
        rows = {head: (one, other) for head, one, other in wording.sides(flagship)}
        assert rows["asked for"] == ("trl==0.19.1", "trl==0.22.2")
        assert rows["stack"] == (BEFORE, AFTER)
        assert rows["result"] == ("ran", "ran")
        assert len(wording.SIDES_HEADS) == 3

    def test_versions_of_the_main_packages(self) -> None:
        """Others are left out."""
        found = side(AFTER, versions={"numpy": "2", "peft": "0.17.1", "trl": "0.22.2"})
        assert wording.versions(found) == "TRL 0.22.2, PEFT 0.17.1"
        assert wording.versions(side(AFTER, versions={})) == "-"

    @pytest.mark.parametrize("rule", Rule)
    def test_each_rule_names_its_day(self, rule: Rule) -> None:
        """As of which the other packages are."""
        assert "as of 2025-09-01" in wording.rule(side(AFTER, rule=rule))

    def test_a_side_that_did_not_run_has_its_reason(self) -> None:
        """In one line."""
        found = side(AFTER, state=RowState.UNINSTALLABLE, reason="no\nsolution")
        assert wording.state(found) == f"{RowState.UNINSTALLABLE}: no solution"
        long = side(AFTER, state=RowState.UNINSTALLABLE, reason="x" * 10_000)
        assert len(wording.state(long)) <= len(RowState.UNINSTALLABLE) + 2 + LONGEST_MESSAGE


class TestTables:
    @pytest.mark.parametrize(
        ("marks", "text"),
        [
            (Marks(3, (), 0, 0), "."),
            (Marks(1, ((0, 6), (27, 1)), 0, 0), "a6ab1"),
            (Marks(1, ((1, 2),), 1, 2), "b2?1-2"),
        ],
    )
    def test_marks(self, marks: Marks, text: str) -> None:
        """A letter for each cause, as the notes below the table explain."""
        assert wording.marks(marks) == text

    def test_changes_of_a_flow(self, flagship: Gate) -> None:
        """By number."""
        flow = FlowChange("sft-full", "", {Change.UNCHANGED: 2, Change.REGRESSED: 1}, Decision.BLOCK)
        assert wording.changes(flow) == wording.flow_changes(flow, flagship) == "2 unchanged, 1 regressed"

    def test_rows_have_as_many_cells_as_their_heads(self, flagship: Gate) -> None:
        """A missing value is shown."""
        what = Difference(Aspect.LOSS, None, "1.0", "2.0")
        assert wording.differing(Differing(what, (NAME,), ("a", "b")), flagship) == (
            *("loss before any update", "-", "1.0", "2.0", "1", "a, b"),
        )
        assert len(wording.DIFFERING_HEADS) == 6
        (one,) = flagship.cells
        rows = wording.differences(replace(one, differences=(what,)), flagship)
        assert rows == (("loss before any update", "-", "1.0", "2.0"),)
        assert wording.moved(Moved("new", None, "1")) == ("new", "-", "1")
        assert wording.default(DefaultChange("SFTConfig", "a", None, "1")) == ("SFTConfig", "a", "no such field", "1")


DAY = date(2027, 1, 31)
USED = AppliedException("sft-full", "trl#1", Change.REGRESSED, "why", DAY, expired=False, cells=("a", "b"))
GONE = replace(USED, flow=None, change=None, reason="old", expired=True)


class TestExceptions:
    def test_rows(self) -> None:
        """What it is for, and whether it applies."""
        assert wording.exception(USED) == ("trl#1, sft-full, regressed", "why", "2027-01-31", "2")
        assert wording.exception(GONE) == ("trl#1", "old", "2027-01-31, EXPIRED: it no longer applies", "2")
        assert wording.exception(replace(GONE, issue=None))[0] == "everything"

    def test_one_line(self) -> None:
        """One that covers nothing is not named."""
        idle = replace(USED, cells=())
        assert wording.exceptions_line([USED, idle, GONE]) == (
            "Allowed by exception: why (until 2027-01-31). Expired: old (2027-01-31)."
        )
        assert wording.exceptions_line([idle]) == ""


class TestLimits:
    def test_what_both_sides_do_not_follow_is_said_once(self, flagship: Gate) -> None:
        """Then what one side does not, and what was not selected."""
        answer = replace(
            flagship,
            before=side(BEFORE, not_followed=("torch", "vllm")),
            after=side(AFTER, not_followed=("torch",)),
            left_out=("sft-full",),
            defaults_unknown="it cannot be imported",
        )
        assert wording.limits(answer) == (
            "both sides: torch",
            "trl==0.19.1: vllm",
            "not selected: sft-full",
            "defaults could not be compared: it cannot be imported",
        )

    def test_flows_that_neither_side_has(self, flagship: Gate) -> None:
        """Only if all were to run."""
        (line,) = wording.limits(flagship)
        assert line.startswith("neither side has these flows: ")
        assert "sft-peft-model," not in line and "sft-full" in line

    @pytest.mark.parametrize(("sections", "text"), [(1, "1 section left out"), (2, "2 sections left out")])
    def test_what_was_cut_off(self, sections: int, text: str) -> None:
        """With the limit."""
        assert wording.left_out(sections, 65_000).startswith(f"{text}, as no more than 65,000 bytes are shown here.")


class TestLines:
    def test_packages_that_moved(self, flagship: Gate) -> None:
        """The main ones by name."""
        moved = (Moved("trl", "1", "2"), Moved("torch", None, "2"), Moved("numpy", "1", "2"), Moved("attrs", "1", "2"))
        assert wording.moved_line(replace(flagship, moved=moved)) == "Moved: trl 1 -> 2, torch - -> 2, 2 more."
        assert wording.moved_line(replace(flagship, moved=())) == ""

    def test_new_defaults_that_the_script_takes(self, flagship: Gate) -> None:
        """A new field that does nothing by default is left out."""
        taken = (
            DefaultChange("SFTConfig", "packing", "False", "True"),
            DefaultChange("SFTConfig", "loss_type", None, "'nll'"),
            DefaultChange("SFTConfig", "off", None, "None"),
            DefaultChange("SFTConfig", "no", None, "False"),
        )
        assert wording.taken_line(replace(flagship, taken=taken)) == (
            "Your script takes these new defaults: SFTConfig.packing False -> True, "
            "SFTConfig.loss_type no such field -> 'nll'."
        )
        assert wording.taken_line(flagship) == ""


@pytest.mark.parametrize("change", Change)
def test_what_is_bad_for_a_user(change: Change) -> None:
    """A result that is equal or better is not."""
    assert wording.bad(change) is (change not in (Change.UNCHANGED, Change.FIXED, Change.GAINED_COVERAGE))


def test_each_decision_has_a_colour() -> None:
    """No two have the same."""
    assert len({wording.tone(decision) for decision in Decision}) == len(Decision)


def test_a_line_that_rests_on_an_emulated_accelerator_is_marked() -> None:
    """Of a script; the precision of a cell of the catalog shows it."""
    answer = gate([cell(BEFORE)], [cell(AFTER)])
    assert cell(AFTER).device.emulates is not None
    assert wording.rests([NAME], answer) == ""
    assert wording.rests([NAME], replace(answer, script="train.py")) == " *"


def test_a_cause_is_the_worst_of_its_cells() -> None:
    """Its flows are named once."""
    flows = ("sft-peft-model", "trainer-peft-model")
    before, after = ([cell(stack, flow) for flow in flows] for stack in (BEFORE, AFTER))
    (cause,) = gate(before, list(map(b.frozen, after))).causes
    assert isinstance(cause, Cause)
    assert wording.cause_cells(cause) == f"2 cells of {', '.join(cause.flows)}"
