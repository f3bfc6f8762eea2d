"""The sentence that says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import builders as b
import pytest
from finetune_compat.checks.comparison import Change
from finetune_compat.contract.records import Observation, Stage
from finetune_compat.gate.decision import Decision, Gate, SafeTarget, Tried
from finetune_compat.gate.policy import Exempted
from finetune_compat.gate.reason import certain, is_untrained, nearest, reason
from gate_builders import AFTER, BEFORE, TODAY, cell, gate

NAME = "sft-peft-model[qwen2-nf4-gc]@cpu"
TITLE = "SFTTrainer freezes the adapters of a PeftModel it is handed"
TARGET = SafeTarget("trl", "0.23.1", True, (Tried("0.23.1", True, ""),), 0)


def regressed(target: SafeTarget | None = None) -> Gate:
    """The flagship."""
    targets = {NAME: target} if target else {}
    return gate([cell(BEFORE)], [b.frozen(cell(AFTER))], targets, ledger=b.LISTED)


class TestReason:
    def test_a_listed_issue_has_its_title(self) -> None:
        """And its id."""
        assert regressed().reason == f"1 cell of sft-peft-model regressed: {TITLE} (trl#3926)."

    @pytest.mark.parametrize(
        ("target", "end"),
        [
            (TARGET, "trl 0.23.1 is the first release above 0.22.2 that passes."),
            (replace(TARGET, above=False), "trl 0.23.1 is the newest release below 0.22.2 that passes."),
            (replace(TARGET, foretold=True), "trl 0.23.1 is the first measured release above 0.22.2 that passes."),
            (replace(TARGET, version=None), "no other release of trl is known to pass."),
            (
                replace(TARGET, tried=(Tried("0.23.1", True, "", "peft 0.17"),)),
                "trl 0.23.1 is the first release above 0.22.2 that passes, with peft 0.17.",
            ),
        ],
    )
    def test_a_safe_release_stands_at_its_end(self, target: SafeTarget, end: str) -> None:
        """With what must change beside it."""
        assert regressed(target).reason.endswith(f"(trl#3926); {end}")

    def test_an_unlisted_failure_has_its_checks(self) -> None:
        """Not their titles, which say what is healthy."""
        found = gate([cell(BEFORE)], [b.frozen(cell(AFTER))]).reason
        assert found.startswith("1 cell of sft-peft-model regressed: C104 0 trainable")

    def test_other_causes_of_the_same_decision_are_counted(self) -> None:
        """Those of other decisions are not its reason."""
        flows = ("sft-peft-model", "trainer-peft-model", "sft-peft-config")
        before, after = ([cell(stack, flow) for flow in flows] for stack in (BEFORE, AFTER))
        crash = b.failed(after[1], "AttributeError", "gone", Stage.TRAINER)
        found = gate(before, [b.frozen(after[0]), crash, b.losses(after[2], 4.4, 3.9)])
        assert found.decision is Decision.BLOCK
        assert "(and 1 other cause)" in found.reason

    @pytest.mark.parametrize(
        ("before", "after", "sentence"),
        [
            (lambda seen: seen, lambda seen: seen, "Nothing blocks the upgrade in 1 cell."),
            (b.frozen, lambda seen: seen, "Nothing blocks the upgrade in 1 cell, 1 of them fixed."),
        ],
    )
    def test_nothing_blocks(
        self,
        before: Callable[[Observation], Observation],
        after: Callable[[Observation], Observation],
        sentence: str,
    ) -> None:
        """With what was fixed."""
        assert gate([before(cell(BEFORE))], [after(cell(AFTER))]).reason == sentence

    def test_a_cell_that_is_not_judged_is_counted(self) -> None:
        """It ends before training on both sides, and another cell of its flow trains."""
        kinds = (b.NF4, b.INT8)
        before, after = ([cell(stack, variant=kind) for kind in kinds] for stack in (BEFORE, AFTER))
        one, other = (b.failed(cells[0], "ValueError", "no", Stage.TRAINER) for cells in (before, after))
        answer = gate([one, before[1]], [other, after[1]])
        allowed = reason(Decision.ALLOW, answer.before, answer.after, answer.cells, ())
        assert allowed == (
            "Nothing blocks the upgrade in 2 cells, 1 of them not judged, as it ends in an error before training."
        )

    def test_accepted_cells_are_counted(self) -> None:
        """They did not pass."""
        accepted = Exempted("sft-peft-model", None, None, "why", TODAY)
        found = gate([cell(BEFORE)], [b.frozen(cell(AFTER))], exceptions=(accepted,))
        assert found.reason == "Nothing blocks the upgrade in 1 cell, 1 of them accepted by exceptions."

    def test_nothing_is_known_of_a_side_in_use_without_cells(self) -> None:
        """With the reason of the resolver."""
        assert gate([], [cell(AFTER)]).reason == "Nothing is known of trl==0.19.1: no solution found."

    def test_an_error_before_training_on_both_sides(self) -> None:
        """The cells say nothing about the upgrade."""
        before, after = (
            b.failed(cell(stack), "ValueError", "no such option", Stage.TRAINER) for stack in (BEFORE, AFTER)
        )
        found = gate([before], [after])
        assert is_untrained(found.causes[0])
        assert found.reason.startswith("1 cell of sft-peft-model ends in an error before training, on both sides: ")

    def test_many_flows_are_counted(self) -> None:
        """A list of them would hide the rest."""
        flows = ("sft-peft-model", "trainer-peft-model", "sft-peft-config", "sft-all-linear")
        before, after = ([cell(stack, flow) for flow in flows] for stack in (BEFORE, AFTER))
        found = gate(before, list(map(b.frozen, after)))
        assert found.reason.startswith("4 cells of 4 flows regressed: ")

    @pytest.mark.parametrize("change", [one for one in Change if one not in (Change.UNCHANGED, Change.FIXED)])
    def test_every_change_has_words(self, change: Change) -> None:
        """Whichever it is that the policy does not allow; one cell `fails`, two `fail`."""
        found = regressed()
        (one,) = found.causes
        words = [
            reason(Decision.BLOCK, found.before, found.after, found.cells, [replace(one, change=change, cells=cells)])
            for cells in (one.cells, one.cells * 2)
        ]
        assert words[0].startswith("1 cell of sft-peft-model ") and words[1].startswith("2 cells of sft-peft-model ")
        assert all(text.endswith(f": {TITLE} (trl#3926).") for text in words)


class TestCertain:
    def test_a_cell_that_blocks(self) -> None:
        """With its issue, its checks, and the line that froze."""
        (one,) = regressed().cells
        text = certain(one)
        assert text.startswith(f"BLOCK is certain: {NAME} regressed (trl#3926): C104 0 trainable")
        assert f"{b.FREEZING_CHAIN[-1].file}:{b.FREEZING_CHAIN[-1].line}" in text

    def test_a_cell_that_is_gone(self) -> None:
        """There is nothing more to say."""
        (one,) = gate([cell(BEFORE)], [cell(AFTER)]).cells
        assert certain(replace(one, change=Change.LOST_COVERAGE, after=None)) == (
            f"BLOCK is certain: {NAME} can no longer be run"
        )


@pytest.mark.parametrize(
    ("above", "foretold", "text"),
    [
        (True, False, "first release above"),
        (False, False, "newest release below"),
        (True, True, "first measured release above"),
    ],
)
def test_where_the_safe_release_is(above: bool, foretold: bool, text: str) -> None:
    """Seen from the requested one."""
    assert nearest(replace(TARGET, above=above, foretold=foretold)) == text
