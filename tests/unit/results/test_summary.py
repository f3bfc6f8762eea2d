"""The summary of a run: no selected cell is lost, one reason is one group, and an empty run is not healthy."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import builders as b
import pytest
from builders import FULL, INT8, LISTED, NF4, NF4_NOGC, frozen, frozen_loud, healthy, issue, on_trl, ran, summary_of
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.records import Absence, Actor, Frame, Observation, Precision, Stage, Variant
from finetune_compat.contract.verdict import Kind
from finetune_compat.report import wording
from finetune_compat.results.causes import Group, Span
from finetune_compat.results.lines import CountColumn, Mark, ResultKind, StageCount, count_columns
from finetune_compat.results.order import stack_order
from finetune_compat.results.run_files import RowState, StackRow, unfinished
from finetune_compat.results.summary import Summary, Tally, exit_code_of, summarize
from finetune_compat.stacks.matrix import read_matrix
from hypothesis import given
from hypothesis import strategies as st

OLD = "trl0.22-py311"
Fault = Callable[[Observation], Observation]


def at(stack: str, trl: str = "0.22.2", flow: str = "sft-peft-model", variant: Variant = NF4) -> Observation:
    """Make a healthy cell of a stack."""
    return healthy(flow, variant, stack=stack, versions=on_trl(trl))


def only_group(summary: Summary) -> Group:
    """Return the only root cause of the run."""
    [group] = summary.groups
    return group


# -------------------------------------------------------------------------------------------------------------- order


def test_stacks_are_in_the_order_of_axes_and_of_versions_as_numbers() -> None:
    """0.9 comes before 0.10, patches before the minor that means the newest one, Pythons by number, unknown stacks
    last.
    """
    ordered = [
        "trl0.9-py311",
        "trl0.10-py39",
        "trl0.10-py311",
        "trl0.22.0-py311",
        "trl0.22.1-py311",
        "trl0.22-py311",
        "trl0.22-py312",
        "trl0.23.0-py311",
        "trl1.2-py311",
        "trl1.16-py311",
        "transformers4.57-py311",
        "transformers5.0-py311",
        "peft0.9-py311",
        "peft0.17-py311",
        "accelerate1.0-py311",
        "latest-py311",
        "my_stack",
    ]
    shuffled = ordered.copy()
    random.Random(3).shuffle(shuffled)
    assert sorted(shuffled, key=stack_order) == ordered


def test_the_matrix_is_in_order_already() -> None:
    """The stacks of the committed matrix keep the order of its file."""
    names = [stack.on(python) for stack in read_matrix().stacks for python in stack.pythons]
    assert sorted(names, key=stack_order) == names


def test_rows_are_shown_in_order_however_their_files_sort() -> None:
    """As a string, `trl0.22` sorts before `trl0.9`."""
    new, old = at("trl0.22-py311"), at("trl0.9-py311", "0.9.6")
    summary = summary_of([ran(new), ran(old)], new, old)
    assert [stack.name for stack in summary.stacks] == ["trl0.9-py311", "trl0.22-py311"]
    assert [stack.versions["trl"] for stack in summary.stacks] == ["0.9.6", "0.22.2"]


# ---------------------------------------------------------------------------------------------------------- exit codes

numbers = st.integers(0, 3)


@given(st.builds(Tally, numbers, numbers, numbers, numbers, numbers, numbers, numbers))
def test_the_exit_code_of_a_run_is_that_of_its_worst_result(tally: Tally) -> None:
    """A failure comes first, then infrastructure; healthy needs at least one healthy cell."""
    green = tally.passed + tally.refused + tally.xfailed
    if tally.failed:
        expected = ExitCode.UNHEALTHY
    elif tally.infrastructure or tally.lost or not green:
        expected = ExitCode.COULD_NOT_TELL
    else:
        expected = ExitCode.HEALTHY
    assert exit_code_of(tally) is expected


def test_a_session_that_ended_before_any_cell_is_no_cell() -> None:
    """It has its own count, next to the cells that are unknown because of it."""
    seen, lost = at("trl0.24-py311"), unfinished("trl0.23-py311", ["trl0.23-py311/sft-full[qwen2-full-gc]@cpu"])
    summary = summary_of([ran(seen), lost], seen)
    assert summary.tally == Tally(passed=1, infrastructure=1, lost=1)
    assert (summary.tally.cells, summary.exit_code) == (2, ExitCode.COULD_NOT_TELL)
    alone = summary_of([StackRow("trl0.23-py311", RowState.INFRASTRUCTURE, "pytest ended", ()), ran(seen)], seen)
    assert (alone.tally.cells, alone.exit_code) == (1, ExitCode.COULD_NOT_TELL)
    assert wording.totals(alone.tally, 2) == (
        "1 cell on 2 stacks: 1 pass, 0 xfail, 0 FAIL, 0 infrastructure. 1 session ended before any cell."
    )


def test_an_empty_run_is_not_healthy() -> None:
    """This covers no rows, rows without cells, and stacks that could not be installed."""
    nothing = StackRow(OLD, RowState.RAN, "", ())
    runs = [summary_of([]), summary_of([nothing]), summary_of([b.uninstallable(OLD)])]
    assert {summary.exit_code for summary in runs} == {ExitCode.COULD_NOT_TELL}


def test_an_uninstallable_stack_is_counted_and_changes_no_exit_code() -> None:
    """Next to a healthy stack the run is healthy, and reports that a stack is missing."""
    seen = at("trl0.24-py311")
    summary = summary_of([ran(seen), b.uninstallable("trl0.4-py311")], seen)
    assert (summary.exit_code, summary.tally) == (ExitCode.HEALTHY, Tally(passed=1, uninstallable=1))
    assert summary.exit_code_of("trl0.4-py311") is ExitCode.COULD_NOT_TELL
    with pytest.raises(KeyError):
        summary.exit_code_of("trl9.9-py311")


def test_a_session_answers_for_its_own_stack() -> None:
    """A session's exit code is that of its stack; the run's is that of all."""
    bad, good = b.learns_nothing(at(OLD)), at("trl0.24-py311")
    summary = summary_of([ran(bad), ran(good)], bad, good)
    assert summary.exit_code_of("trl0.24-py311") is ExitCode.HEALTHY
    assert summary.exit_code_of(OLD) is summary.exit_code is ExitCode.UNHEALTHY


# -------------------------------------------------------------------------------------------------------------- lines


def test_every_outcome_has_its_mark_and_its_finding() -> None:
    """There is one cell of each kind, on releases that the ledger lists."""
    seen = [
        at(OLD, flow="sft-peft-config"),
        b.refused(at(OLD, flow="sft-peft-model-and-config")),
        frozen(at(OLD)),
        at(OLD, variant=INT8),
        b.adapter_replaced(at(OLD, variant=Variant("llama", Precision.NF4, True))),
        b.masked_labels(at(OLD, variant=FULL)),
        b.out_of_memory(at(OLD, flow="sft-full", variant=FULL)),
    ]
    [stack] = summary_of([ran(*seen)], *seen, ledger=LISTED).stacks
    assert [(line.mark, line.finding) for line in stack.lines] == [
        (Mark.PASS, None),
        (Mark.REFUSED, None),
        (Mark.XFAIL, ResultKind.LISTED),
        (Mark.FAIL, ResultKind.GONE),
        (Mark.FAIL, ResultKind.DIFFERENT),
        (Mark.FAIL, ResultKind.UNLISTED),
        (Mark.INFRASTRUCTURE, ResultKind.MACHINE),
    ]
    assert stack.tally == Tally(passed=1, refused=1, bugs=1, failed=3, infrastructure=1)


def test_a_line_counts_every_stage_and_the_librarys_second_call() -> None:
    """The user's preparation and the library's are two numbers."""
    seen = frozen(at(OLD))
    [line] = summary_of([ran(seen)], seen).stacks[0].lines
    assert line.counts == (
        StageCount(Stage.LOAD, b.REST, None, None),
        StageCount(Stage.PREPARE, 0, None, 0),
        StageCount(Stage.PEFT, b.ADAPTER, None, None),
        StageCount(Stage.TRAINER, 0, None, None),
        StageCount(Stage.AFTER_TRAINING, 0, None, None),
        StageCount(Stage.RELOAD, b.ADAPTER, None, None),
    )
    assert (line.flow, line.variant, line.device, line.emulates) == ("sft-peft-model", "qwen2-nf4-gc", "cpu", True)
    assert (line.eval_before, line.eval_after, line.symptom.value) == (4.892134, 4.892134, "flat")


def test_the_librarys_only_call_is_no_second_call() -> None:
    """If the flow leaves preparation to the trainer, there is one count."""
    seen = at(OLD, flow="sft-peft-config")
    assert [census.by for census in seen.stages if census.name is Stage.PREPARE] == [Actor.LIBRARY]
    [line] = summary_of([ran(seen)], seen).stacks[0].lines
    assert line.counts[1] == StageCount(Stage.PREPARE, 0, None, None)


def test_a_stage_without_a_census_keeps_its_reason() -> None:
    """Not called, not reached and not recorded are three reasons."""
    seen = b.failed(at(OLD, variant=FULL), "RuntimeError", "boom", Stage.TRAINER)
    lost = f"{OLD}/sft-full[qwen2-full-gc]@cpu"
    first, second = summary_of([ran(seen, lost=(lost,))], seen).stacks[0].lines
    absences = {count.stage: count.absence for count in first.counts}
    assert (absences[Stage.PREPARE], absences[Stage.TRAINER]) == (Absence.NOT_CALLED, Absence.NOT_REACHED)
    assert (second.flow, second.variant) == ("sft-full", "qwen2-full-gc")
    assert {(count.trainable, count.absence) for count in second.counts} == {(None, None)}


def test_second_calls_have_a_column_where_they_happen() -> None:
    """It stands before the trainer's count, and only if a line has one."""
    seen = [frozen(at(OLD)), at(OLD, variant=FULL)]
    first, second = summary_of([ran(*seen)], *seen).stacks[0].lines
    assert CountColumn(Stage.PREPARE, again=True) not in count_columns([second])
    columns = count_columns([first, second])
    assert columns[3:5] == (CountColumn(Stage.PREPARE, again=True), CountColumn(Stage.TRAINER, again=False))
    assert [column.of(first) for column in columns] == [b.REST, 0, b.ADAPTER, 0, 0, 0, b.ADAPTER]


def test_a_freezing_chain_is_the_libraries_part() -> None:
    """The flow's own line differs between flows and is not the cause."""
    seen = frozen(at(OLD))
    [line] = summary_of([ran(seen)], seen).stacks[0].lines
    assert line.freezes == (b.FREEZING_CHAIN[1:],)
    own = frozen(at(OLD), chain=b.FREEZING_CHAIN[:1])
    assert summary_of([ran(own)], own).stacks[0].lines[0].freezes == (b.FREEZING_CHAIN[:1],)


# --------------------------------------------------------------------------------------------------------------- heat


def test_the_heat_map_counts_every_cell_once() -> None:
    """Its axes are stacks and flows; its rows add up to the stacks, and its sum is the run."""
    seen = [
        frozen(at(OLD)),
        at(OLD, variant=INT8),
        at(OLD, flow="sft-full", variant=FULL),
        at("trl0.24-py311", "0.24.0"),
    ]
    summary = summary_of([ran(*seen[:3]), ran(seen[3])], *seen)
    assert summary.flows == ("sft-peft-model", "sft-full")
    tallies = tuple(tuple(heat.tally for heat in row) for row in summary.heat)
    assert tallies == ((Tally(passed=1, failed=1), Tally(passed=1)), (Tally(passed=1), Tally()))
    assert sum(tally.cells for row in tallies for tally in row) == summary.tally.cells == 4


def test_the_heat_map_distinguishes_listed_causes() -> None:
    """Two bugs in one flow have two marks."""
    both = Ledger(
        issues=(b.issue(), b.issue(dataclasses.replace(b.FLAGSHIP, precisions=(FULL.precision,)), name="other"))
    )
    seen = [frozen(at(OLD)), frozen(at(OLD, variant=INT8)), frozen(at(OLD, variant=FULL), again=False)]
    summary = summary_of([ran(*seen)], *seen, ledger=both)
    assert [group.issues for group in summary.groups] == [("trl#3926",), ("other",)]
    assert summary.heat[0][0].listed == ((0, 2), (1, 1))


def test_flows_are_in_catalog_order() -> None:
    """The order of selection does not matter."""
    seen = [at(OLD, flow=flow.name, variant=FULL) for flow in reversed(CATALOG) if FULL in flow.variants]
    summary = summary_of([ran(*seen)], *seen)
    assert summary.flows == tuple(flow.name for flow in CATALOG if FULL in flow.variants)


# ------------------------------------------------------------------------------------------------------------- causes


def moved(seen: Observation, line: int) -> Observation:
    """The same freeze on other line numbers."""
    [freeze] = seen.freezes
    frames = (*freeze.frames[:-1], dataclasses.replace(freeze.frames[-1], line=line))
    return dataclasses.replace(seen, freezes=(dataclasses.replace(freeze, frames=frames),))


def test_twenty_cells_that_fail_for_one_reason_are_one_group() -> None:
    """This covers silent and loud, nf4 and int8, and releases with other line numbers."""
    cells = [(f"trl0.{minor}-py311", variant) for minor in range(20, 25) for variant in (NF4, NF4_NOGC, INT8, FULL)]
    healthy_ones = [at(stack, variant=variant) for stack, variant in cells]
    seen = [moved(frozen(each) if i % 2 else frozen_loud(each), 100 + i) for i, each in enumerate(healthy_ones)]
    rows = [ran(*seen[i : i + 4]) for i in range(0, 20, 4)]
    group = only_group(summary_of(rows, *seen))
    assert (group.finding, len(group.cells), group.flows) == (ResultKind.UNLISTED, 20, ("sft-peft-model",))
    assert group.spans == (Span("trl0.20-py311", "trl0.24-py311", 5),)
    assert [seen.stack for seen in group.freezes] == ["trl0.20-py311"]
    assert [(seen.what.type, seen.stack) for seen in group.errors] == [("RuntimeError", "trl0.20-py311")]


def test_cells_of_one_issue_are_one_group_with_its_title_and_remedy() -> None:
    """They come from the ledger, not from the checks."""
    seen = [frozen(at(OLD)), frozen_loud(at(OLD, variant=NF4_NOGC))]
    group = only_group(summary_of([ran(*seen)], *seen, ledger=LISTED))
    assert (group.finding, group.mark, group.issues) == (ResultKind.LISTED, Mark.XFAIL, ("trl#3926",))
    assert group.titles == (issue().title,)
    assert group.advice == (issue().remedy,)
    assert group.links == (issue().link,)


def test_the_same_check_failing_for_two_reasons_is_two_groups() -> None:
    """A freeze by another line is another cause."""
    elsewhere = Frame("peft/tuners/tuners_utils.py", 980, "set_adapter", "p.requires_grad = False")
    seen = [frozen(at(OLD)), frozen(at(OLD, variant=INT8), chain=(elsewhere,))]
    assert len(summary_of([ran(*seen)], *seen).groups) == 2


def test_errors_that_differ_only_in_numbers_are_one_group() -> None:
    """Addresses and sizes do not matter; another message does."""
    place = Frame("trl/trainer/sft_trainer.py", 10, "__init__", "boom()")
    messages = ["bad tensor at 0x7f01 of 12 bytes", "bad tensor at 0x8f99 of 7 bytes", "bad config"]
    variants = (NF4, INT8, FULL)
    seen = [
        b.failed(at(OLD, variant=variant), "RuntimeError", message, Stage.TRAINER, place)
        for variant, message in zip(variants, messages, strict=True)
    ]
    assert [len(group.cells) for group in summary_of([ran(*seen)], *seen).groups] == [2, 1]


def test_a_crash_after_an_unrelated_freeze_is_grouped_by_what_raised() -> None:
    """F001 reports the error as its own finding."""
    places = [Frame("trl/a.py", 1, "f", "x"), Frame("trl/b.py", 1, "f", "x")]
    trained = [at(OLD, variant=NF4), at(OLD, variant=INT8)]
    seen = [b.failed(each, "KeyError", "x", Stage.RELOAD, place) for each, place in zip(trained, places, strict=True)]
    assert len(summary_of([ran(*seen)], *seen).groups) == 2


def test_groups_end_with_what_fails() -> None:
    """The order is listed, unsolvable, infrastructure, failures: the most urgent is next to the totals."""
    seen = [b.learns_nothing(at(OLD, variant=FULL)), b.out_of_memory(at(OLD, variant=INT8)), frozen(at(OLD))]
    summary = summary_of([ran(*seen), b.uninstallable("trl0.4-py311")], *seen, ledger=LISTED)
    assert [group.finding for group in summary.groups] == [
        ResultKind.LISTED,
        ResultKind.UNINSTALLABLE,
        ResultKind.MACHINE,
        ResultKind.UNLISTED,
    ]


def test_two_stacks_that_cannot_be_solved_for_two_versions_are_two_groups() -> None:
    """Numbers in a resolver's reason are part of the reason."""
    rows = [b.uninstallable("trl0.4-py311", "needs tyro 0.5"), b.uninstallable("trl0.5-py311", "needs tyro 0.6")]
    assert len(summary_of(rows).groups) == 2


def test_a_group_never_spans_a_healthy_stack_or_two_axes() -> None:
    """Neighbours are those of the run, in the order in which they are shown."""
    names = ["trl0.20-py311", "trl0.21-py311", "trl0.22-py311", "trl0.23-py311", "peft0.17-py311"]
    seen = [at(name) if name == "trl0.21-py311" else b.learns_nothing(at(name)) for name in names]
    group = only_group(summary_of([ran(each) for each in seen], *seen))
    assert group.spans == (
        Span("trl0.20-py311", "trl0.20-py311", 1),
        Span("trl0.22-py311", "trl0.23-py311", 2),
        Span("peft0.17-py311", "peft0.17-py311", 1),
    )


faults: list[Fault] = [frozen, frozen_loud, b.masked_labels, b.out_of_memory, lambda seen: seen]


@given(st.lists(st.sampled_from(faults), max_size=8))
def test_every_cell_that_does_not_pass_is_in_exactly_one_group(chosen: list[Fault]) -> None:
    """This holds for any mixture of outcomes."""
    cells = [(flow, variant) for flow in CATALOG if flow.handed_over for variant in flow.variants]
    seen = [fault(at(OLD, flow=f.name, variant=v)) for fault, (f, v) in zip(chosen, cells, strict=False)]
    summary = summary_of([ran(*seen)] if seen else [], *seen, ledger=LISTED)
    red = [line.cell for stack in summary.stacks for line in stack.lines if line.finding]
    assert sorted(cell for group in summary.groups for cell in group.cells) == sorted(red)


def test_an_issue_that_left_the_ledger_keeps_its_group() -> None:
    """Judging with another ledger must not fail on a missing title; the check's title replaces it."""
    seen = frozen(at(OLD))
    results = b.results_of([ran(seen)], seen, ledger=LISTED)
    group = only_group(summarize(results, Ledger(issues=())))
    assert group.titles == ("The parameters to train are trainable when training begins",)


@pytest.mark.parametrize(
    ("tally", "worst"),
    [
        (Tally(failed=1, bugs=1), (Mark.FAIL, None)),
        (Tally(bugs=1, infrastructure=1), (Mark.XFAIL, Kind.UPSTREAM)),
        (Tally(traps=1, limits=1, passed=1), (Mark.XFAIL, Kind.TRAP)),
        (Tally(limits=1), (Mark.XFAIL, Kind.PLATFORM)),
        (Tally(passed=1), (Mark.PASS, None)),
    ],
)
def test_a_release_bug_is_the_most_urgent_xfail(tally: Tally, worst: tuple[Mark, Kind | None]) -> None:
    """Pages colour many cells like the most urgent one."""
    assert tally.worst == worst


def test_xfails_are_counted_by_kind() -> None:
    """A cell of several issues counts once."""
    seen = frozen(healthy(versions=on_trl("0.22.2")))
    trap = dataclasses.replace(LISTED.issues[0], id="trap", kind=Kind.TRAP)
    tallies = [
        summary_of([ran(seen)], seen, ledger=Ledger(issues=issues)).tally
        for issues in (LISTED.issues, (trap,), (trap, *LISTED.issues))
    ]
    assert tallies == [Tally(bugs=1), Tally(traps=1), Tally(bugs=1)]
    assert [tally.xfailed for tally in tallies] == [1, 1, 1]
