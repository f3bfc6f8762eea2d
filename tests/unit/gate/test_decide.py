"""Two judged sides and a policy give one decision."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import builders as b
import pytest
from finetune_compat.checks.comparison import Change
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.records import Observation, Stage
from finetune_compat.gate.decide import compared_cells, moved, of_name
from finetune_compat.gate.decision import Decision, Moved
from finetune_compat.gate.policy import Exempted
from gate_builders import AFTER, BEFORE, TODAY, cell, compared, gate

NAME = "sft-peft-model[qwen2-nf4-gc]@cpu"


def same(seen: Observation) -> Observation:
    """The cell as it is."""
    return seen


def drifted(seen: Observation) -> Observation:
    """It learns, and starts from another loss."""
    return b.losses(seen, 4.4012, 3.9011)


def crashed(seen: Observation) -> Observation:
    """An error before training that no issue lists."""
    return b.failed(seen, "AttributeError", "no attribute 'aux_loss'", Stage.TRAINER)


@pytest.mark.parametrize(
    ("before", "after", "change", "decision"),
    [
        (same, same, Change.UNCHANGED, Decision.ALLOW),
        (same, b.frozen, Change.REGRESSED, Decision.BLOCK),
        (same, crashed, Change.REGRESSED, Decision.BLOCK),
        (b.frozen, same, Change.FIXED, Decision.ALLOW),
        (b.frozen, b.frozen, Change.STILL_FAILING, Decision.ALLOW),
        (crashed, crashed, Change.INCONCLUSIVE, Decision.COULD_NOT_TELL),
        (same, drifted, Change.OBJECTIVE_CHANGED, Decision.HOLD),
        (same, b.out_of_memory, Change.INCONCLUSIVE, Decision.COULD_NOT_TELL),
        (b.out_of_memory, same, Change.INCONCLUSIVE, Decision.COULD_NOT_TELL),
    ],
)
def test_a_cell_on_both_sides(
    before: Callable[[Observation], Observation],
    after: Callable[[Observation], Observation],
    change: Change,
    decision: Decision,
) -> None:
    """With the committed policy."""
    found = gate([before(cell(BEFORE))], [after(cell(AFTER))])
    assert [(one.name, one.change) for one in found.cells] == [(NAME, change)]
    assert found.decision is decision


def test_each_cell_has_the_command_that_runs_it_again() -> None:
    """A script is run as a whole, and a flow that no side has by its name."""
    given = compared([cell(BEFORE)], [cell(AFTER)], wanted=("sft-full",))
    assert {one.name: one.again for one in compared_cells(given)} == {
        NAME: f"{given.command} --cell 'sft-peft-model[qwen2-nf4-gc]'",
        "sft-full": f"{given.command} --flows sft-full",
    }
    script = compared([cell(BEFORE)], [cell(AFTER)], script="train.py")
    assert [one.again for one in compared_cells(script)] == [script.command]


class TestTheWhole:
    FLOWS = ("sft-peft-model", "sft-full", "trainer-peft-model")

    def cells(self, *, worst: Callable[[Observation], Observation]) -> list[Observation]:
        """Three flows: unchanged, another loss, and this."""
        one, two, three = (cell(AFTER, flow, b.FULL if flow == "sft-full" else b.NF4) for flow in self.FLOWS)
        return [one, drifted(two), worst(three)]

    def before(self) -> list[Observation]:
        """The same flows, healthy."""
        return [cell(BEFORE, flow, b.FULL if flow == "sft-full" else b.NF4) for flow in self.FLOWS]

    @pytest.mark.parametrize(
        ("worst", "decision"),
        [(same, Decision.HOLD), (b.frozen, Decision.BLOCK), (b.out_of_memory, Decision.HOLD)],
    )
    def test_the_most_urgent_cell_decides(
        self, worst: Callable[[Observation], Observation], decision: Decision
    ) -> None:
        """BLOCK before HOLD before could not tell. Its cause comes first."""
        found = gate(self.before(), self.cells(worst=worst))
        assert (found.decision, found.causes[0].effect) == (decision, decision)
        assert sorted(flow.flow for flow in found.flows) == sorted(self.FLOWS)

    def test_cells_are_in_the_order_of_the_catalog(self) -> None:
        """In whatever order they ran."""
        found = gate(self.before()[::-1], self.cells(worst=same))
        order = [flow.name for flow in CATALOG if flow.name in self.FLOWS]
        assert [one.flow for one in found.cells] == [flow.flow for flow in found.flows] == order

    def test_cells_of_one_reason_are_one_cause(self) -> None:
        """Of several flows."""
        after = [b.frozen(one) if one.flow != "sft-full" else one for one in self.cells(worst=same)]
        found = gate(self.before(), after)
        first = found.causes[0]
        assert (first.change, len(first.cells), len(first.flows)) == (Change.REGRESSED, 2, 2)
        assert sum(len(cause.cells) for cause in found.causes) == sum(one.is_news for one in found.cells)


class TestWithoutAComparison:
    def test_a_side_that_cannot_be_installed(self) -> None:
        """Before: nothing is known of the upgrade. After: what trained does so no longer."""
        assert gate([], [cell(AFTER)]).decision is Decision.COULD_NOT_TELL
        found = gate([cell(BEFORE)], [])
        assert found.cells[0].change is Change.LOST_COVERAGE
        assert found.decision in (Decision.HOLD, Decision.BLOCK)

    def test_a_flow_that_neither_side_has(self) -> None:
        """It was asked for by name, so it is a cell that says nothing."""
        given = compared([cell(BEFORE)], [cell(AFTER)], wanted=("sft-peft-model", "sft-full"))
        assert {one.name: one.change for one in compared_cells(given)} == {
            NAME: Change.UNCHANGED,
            "sft-full": Change.INCONCLUSIVE,
        }

    def test_no_cell_at_all(self) -> None:
        """Nothing speaks for the upgrade."""
        found = gate([], [])
        assert (found.decision, found.cells, found.causes) == (Decision.COULD_NOT_TELL, (), ())


class TestExceptions:
    LISTED = Exempted("sft-peft-model", "trl#3926", None, "we hand over the base model", TODAY)

    def test_one_allows_the_issue_that_it_names(self) -> None:
        """Until its last day, and it says what it covered."""
        found = gate([cell(BEFORE)], [b.frozen(cell(AFTER))], ledger=b.LISTED, exceptions=(self.LISTED,))
        assert (found.decision, found.cells[0].exception) == (Decision.ALLOW, self.LISTED.reason)
        assert [(item.expired, item.cells) for item in found.exceptions] == [(False, (NAME,))]

    def test_one_that_expired_allows_nothing(self) -> None:
        """It is shown with the cells that it covered."""
        old = Exempted("sft-peft-model", "trl#3926", None, "why", TODAY - timedelta(days=1))
        found = gate([cell(BEFORE)], [b.frozen(cell(AFTER))], ledger=b.LISTED, exceptions=(old,))
        assert (found.decision, found.cells[0].exception) == (Decision.BLOCK, None)
        assert [(item.expired, item.cells) for item in found.exceptions] == [(True, (NAME,))]

    def test_one_does_not_cover_another_failure(self) -> None:
        """The cell fails in a way that the issue does not explain."""
        found = gate([cell(BEFORE)], [crashed(cell(AFTER))], ledger=b.LISTED, exceptions=(self.LISTED,))
        assert found.decision is Decision.BLOCK


def test_packages_that_moved() -> None:
    """Those of reports first, then the others by name; equal ones are left out."""
    before = {"zlib": "1", "attrs": "1", "trl": "0.19.1", "torch": "2.13", "gone": "1", "same": "1"}
    after = {"zlib": "2", "attrs": "2", "trl": "0.22.2", "torch": "2.13", "new": "1", "same": "1"}
    assert moved(before, after) == (
        Moved("trl", "0.19.1", "0.22.2"),
        Moved("attrs", "1", "2"),
        Moved("gone", "1", None),
        Moved("new", None, "1"),
        Moved("zlib", "1", "2"),
    )


def test_the_id_of_a_name() -> None:
    """It has no stack."""
    found = of_name(NAME)
    assert (found.stack, found.flow, found.variant, str(found.device)) == ("", "sft-peft-model", "qwen2-nf4-gc", "cpu")
