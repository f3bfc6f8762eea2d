"""The grid of flows and stacks: what each state means, and how baselines that have the same cell are joined."""

from __future__ import annotations

import dataclasses

import builders as b
import pytest
from atlas_builders import DAY, FIELD, kept, on
from finetune_compat.atlas.survey import EMPTY, State, state_of, survey, worst
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.records import Observation, Stage
from finetune_compat.contract.verdict import Kind
from finetune_compat.results.run_files import judge_one

PLATFORM = Ledger(issues=(dataclasses.replace(b.issue(), kind=Kind.PLATFORM),))


def state(seen: Observation, ledger: Ledger = b.LISTED) -> State:
    """The state of one observation."""
    return state_of(judge_one(seen, ledger), seen)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (on("0.24.0"), State.TRAINS),
        (b.refused(on("0.27.0", flow="sft-peft-model-and-config")), State.REFUSES),
        (b.frozen(on("0.22.2")), State.SILENT),
        (b.frozen(on("0.24.0")), State.SILENT),
        (b.frozen_loud(on("0.22.2", variant=b.NF4_NOGC)), State.CRASHES),
        (b.failed(on("0.24.0"), "AttributeError", "no such thing", Stage.TRAINER), State.CRASHES),
        (b.out_of_memory(on("0.24.0")), State.UNKNOWN),
        (on("0.22.2"), State.TRAINS),
    ],
    ids=["pass", "refusal", "listed", "unlisted", "listed error", "unlisted error", "machine", "listed and gone"],
)
def test_a_state_is_what_the_user_gets(seen: Observation, expected: State) -> None:
    """Whether it is listed makes no difference to the user."""
    assert state(seen) is expected


def test_a_limit_of_the_machine_says_nothing_about_the_release() -> None:
    """The same cell under an entry of another kind."""
    assert state(b.frozen(on("0.22.2")), PLATFORM) is State.UNKNOWN


def test_unknown_cells_do_not_hide_known_ones() -> None:
    """Only a square without any known cell is unknown."""
    assert worst([State.UNKNOWN, State.TRAINS]) is State.TRAINS
    assert worst([State.TRAINS, State.CRASHES, State.SILENT]) is State.SILENT
    assert worst([State.UNKNOWN]) is worst([]) is State.UNKNOWN


def test_the_same_cell_of_two_baselines_is_one_cell() -> None:
    """Its state is the more serious one: a deeper look found it."""
    good, bad = on("0.22.2"), b.frozen(on("0.22.2"))
    for pair in ((good, bad), (bad, good)):
        found = survey({f"one{i}": kept(seen) for i, seen in enumerate(pair)})
        (cell,) = found.square("sft-peft-model", "trl0.22-py311").cells
        assert (cell.state, len(cell.sights)) == (State.SILENT, 2)
        assert cell.sight.seen == bad


def test_columns_are_in_the_order_of_reports() -> None:
    """A stack on no axis is last, under its own name."""
    columns = survey(FIELD).columns
    assert [(column.axis, column.release) for column in columns] == [
        ("trl", "0.19.1"),
        ("trl", "0.20.0"),
        ("trl", "0.22.2"),
        ("trl", "0.24.0"),
        ("", "latest"),
    ]


def test_a_stack_that_could_not_be_installed_has_its_reason() -> None:
    """And no versions, so it is never recommended."""
    found = survey({"cpu": kept(on("0.24.0"), others=(b.uninstallable("trl0.4-py311", "needs tyro"),))})
    first = found.columns[0]
    assert (first.stack, first.release, first.reason, first.final) == ("trl0.4-py311", "0.4", "needs tyro", False)
    assert found.square("sft-peft-model", "trl0.4-py311") is EMPTY


def test_a_pre_release_is_not_final() -> None:
    """Of any package."""
    seen = b.healthy(stack="pre-py311", versions={**b.VERSIONS, "peft": "0.22.0rc1"})
    assert [column.final for column in survey({"cpu": kept(on("0.24.0"), seen)}).columns] == [True, False]


def test_the_day_is_that_of_the_newest_cell() -> None:
    """Of all baselines."""
    found = survey(FIELD)
    assert (found.day, found.baselines[0].first_day, found.baselines[0].cells) == (DAY, DAY, 8)
    assert found.emulates


def test_counts_say_how_many_of_each() -> None:
    """The most serious first."""
    square = survey(FIELD).square("sft-peft-model", "trl0.22-py311")
    assert list(square.counts.items()) == [(State.SILENT, 1), (State.CRASHES, 1)]
    assert square.state is State.SILENT


def test_a_square_is_mixed_if_some_cells_train_and_others_do_not() -> None:
    """Cells of which nothing is known do not make it mixed."""
    bad, good = b.frozen(on("0.22.2")), on("0.22.2", variant=b.FULL)
    lost = b.out_of_memory(on("0.22.2", variant=b.FULL))
    for cells, mixed in (((bad, good), True), ((bad,), False), ((good,), False), ((bad, lost), False)):
        assert survey({"cpu": kept(*cells)}).square("sft-peft-model", "trl0.22-py311").mixed is mixed
