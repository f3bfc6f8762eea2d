"""A run as numbers: nothing selected is lost, one reason is one group, and no empty run is healthy."""

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
from finetune_compat.results.lines import CountColumn, Finding, Mark, StageCount, count_columns
from finetune_compat.results.order import stack_order
from finetune_compat.results.run_files import RowState, StackRow, unfinished
from finetune_compat.results.summary import Summary, Tally, exit_code_of, summarize
from finetune_compat.stacks.matrix import read_matrix
from hypothesis import given
from hypothesis import strategies as st

OLD = "trl0.22-py311"
Fault = Callable[[Observation], Observation]


def at(stack: str, trl: str = "0.22.2", flow: str = "sft-peft-model", variant: Variant = NF4) -> Observation:
    """A healthy cell of a stack."""
    return healthy(flow, variant, stack=stack, versions=on_trl(trl))


def only_group(summary: Summary) -> Group:
    """The run's one root cause."""
    [group] = summary.groups
    return group


# -------------------------------------------------------------------------------------------------------------- order


def test_stacks_are_in_the_order_of_axes_and_of_versions_as_numbers() -> None:
    """0.9 before 0.10, patches before the minor that means the newest one, Pythons as numbers, strangers last."""
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
        "my_stack",
        "accelerate1.0-py311",
    ]
    shuffled = ordered.copy()
    random.Random(3).shuffle(shuffled)
    assert sorted(shuffled, key=stack_order) == ordered


def test_the_matrix_is_in_order_already() -> None:
    """Every stack of the committed matrix, as its file lists them."""
    names = [stack.on(python) for stack in read_matrix().stacks for python in stack.pythons]
    assert sorted(names, key=stack_order) == names


def test_rows_are_shown_in_order_however_their_files_sort() -> None:
    """`trl0.22` sorts before `trl0.9` by name."""
    new, old = at("trl0.22-py311"), at("trl0.9-py311", "0.9.6")
    summary = summary_of([ran(new), ran(old)], new, old)
    assert [stack.name for stack in summary.stacks] == ["trl0.9-py311", "trl0.22-py311"]
    assert [stack.versions["trl"] for stack in summary.stacks] == ["0.9.6", "0.22.2"]


# ---------------------------------------------------------------------------------------------------------- exit codes

numbers = st.integers(0, 3)


@given(st.builds(Tally, numbers, numbers, numbers, numbers, numbers, numbers, numbers))
def test_a_run_ends_with_the_worst_that_it_knows(tally: Tally) -> None:
    """A failure before everything; then the machine; green only where some cell is, and never because of nothing."""
    green = tally.passed + tally.refused + tally.xfailed
    if tally.failed:
        expected = ExitCode.UNHEALTHY
    elif tally.infrastructure or tally.lost or not green:
        expected = ExitCode.COULD_NOT_TELL
    else:
        expected = ExitCode.HEALTHY
    assert exit_code_of(tally) is expected


def test_a_session_that_ended_before_any_cell_is_no_cell() -> None:
    """It is counted as what it is, beside cells that nothing is known of because of it."""
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
    """Neither without rows, nor with rows that selected nothing, nor with stacks that could not be installed."""
    nothing = StackRow(OLD, RowState.RAN, "", ())
    runs = [summary_of([]), summary_of([nothing]), summary_of([b.uninstallable(OLD)])]
    assert {summary.exit_code for summary in runs} == {ExitCode.COULD_NOT_TELL}


def test_an_uninstallable_stack_is_counted_and_changes_no_exit_code() -> None:
    """Beside a healthy one the run is healthy, and says that a stack is missing."""
    seen = at("trl0.24-py311")
    summary = summary_of([ran(seen), b.uninstallable("trl0.4-py311")], seen)
    assert (summary.exit_code, summary.tally) == (ExitCode.HEALTHY, Tally(passed=1, uninstallable=1))
    assert summary.exit_code_of("trl0.4-py311") is ExitCode.COULD_NOT_TELL
    with pytest.raises(KeyError):
        summary.exit_code_of("trl9.9-py311")


def test_one_stacks_failure_is_not_anothers() -> None:
    """A session answers for its own stack; the run answers for all."""
    bad, good = b.learns_nothing(at(OLD)), at("trl0.24-py311")
    summary = summary_of([ran(bad), ran(good)], bad, good)
    assert summary.exit_code_of("trl0.24-py311") is ExitCode.HEALTHY
    assert summary.exit_code_of(OLD) is summary.exit_code is ExitCode.UNHEALTHY


# -------------------------------------------------------------------------------------------------------------- lines


def test_every_outcome_has_its_mark_and_its_finding() -> None:
    """One cell of each kind, on releases the ledger lists."""
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
        (Mark.XFAIL, Finding.LISTED),
        (Mark.FAIL, Finding.GONE),
        (Mark.FAIL, Finding.DIFFERENT),
        (Mark.FAIL, Finding.UNLISTED),
        (Mark.INFRASTRUCTURE, Finding.MACHINE),
    ]
    assert stack.tally == Tally(passed=1, refused=1, bugs=1, failed=3, infrastructure=1)


def test_a_line_counts_every_stage_and_the_librarys_second_call() -> None:
    """The user's preparation and the library's are two numbers, not one in place of the other."""
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
    """Where the flow leaves preparing to the trainer there is one count."""
    seen = at(OLD, flow="sft-peft-config")
    assert [census.by for census in seen.stages if census.name is Stage.PREPARE] == [Actor.LIBRARY]
    [line] = summary_of([ran(seen)], seen).stacks[0].lines
    assert line.counts[1] == StageCount(Stage.PREPARE, 0, None, None)


def test_a_stage_without_a_census_keeps_its_reason() -> None:
    """Not called, not reached, and no record at all are three things."""
    seen = b.failed(at(OLD, variant=FULL), "RuntimeError", "boom", Stage.TRAINER)
    lost = f"{OLD}/sft-full[qwen2-full-gc]@cpu"
    first, second = summary_of([ran(seen, lost=(lost,))], seen).stacks[0].lines
    absences = {count.stage: count.absence for count in first.counts}
    assert (absences[Stage.PREPARE], absences[Stage.TRAINER]) == (Absence.NOT_CALLED, Absence.NOT_REACHED)
    assert (second.flow, second.variant) == ("sft-full", "qwen2-full-gc")
    assert {(count.trainable, count.absence) for count in second.counts} == {(None, None)}


def test_second_calls_have_a_column_where_they_happen() -> None:
    """Before the trainer's own count, and only if some line has one."""
    seen = [frozen(at(OLD)), at(OLD, variant=FULL)]
    first, second = summary_of([ran(*seen)], *seen).stacks[0].lines
    assert CountColumn(Stage.PREPARE, again=True) not in count_columns([second])
    columns = count_columns([first, second])
    assert columns[3:5] == (CountColumn(Stage.PREPARE, again=True), CountColumn(Stage.TRAINER, again=False))
    assert [column.of(first) for column in columns] == [b.REST, 0, b.ADAPTER, 0, 0, 0, b.ADAPTER]


def test_a_freezing_chain_is_the_libraries_part() -> None:
    """The flow's own line, which differs from flow to flow, is not what did it."""
    seen = frozen(at(OLD))
    [line] = summary_of([ran(seen)], seen).stacks[0].lines
    assert line.freezes == (b.FREEZING_CHAIN[1:],)
    own = frozen(at(OLD), chain=b.FREEZING_CHAIN[:1])
    assert summary_of([ran(own)], own).stacks[0].lines[0].freezes == (b.FREEZING_CHAIN[:1],)


# --------------------------------------------------------------------------------------------------------------- heat


def test_the_heat_map_counts_every_cell_once() -> None:
    """Stacks x flows; its rows add up to the stacks, and all of it to the run."""
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


def test_the_heat_map_tells_listed_causes_apart() -> None:
    """Two bugs on one flow are two windows, not one."""
    both = Ledger(
        issues=(b.issue(), b.issue(dataclasses.replace(b.FLAGSHIP, precisions=(FULL.precision,)), name="other"))
    )
    seen = [frozen(at(OLD)), frozen(at(OLD, variant=INT8)), frozen(at(OLD, variant=FULL), again=False)]
    summary = summary_of([ran(*seen)], *seen, ledger=both)
    assert [group.issues for group in summary.groups] == [("trl#3926",), ("other",)]
    assert summary.heat[0][0].listed == ((0, 2), (1, 1))


def test_flows_are_in_catalog_order() -> None:
    """However the cells were selected."""
    seen = [at(OLD, flow=flow.name, variant=FULL) for flow in reversed(CATALOG) if FULL in flow.variants]
    summary = summary_of([ran(*seen)], *seen)
    assert summary.flows == tuple(flow.name for flow in CATALOG if FULL in flow.variants)


# ------------------------------------------------------------------------------------------------------------- causes


def moved(seen: Observation, line: int) -> Observation:
    """The same freeze, some lines further down the file."""
    [freeze] = seen.freezes
    frames = (*freeze.frames[:-1], dataclasses.replace(freeze.frames[-1], line=line))
    return dataclasses.replace(seen, freezes=(dataclasses.replace(freeze, frames=frames),))


def test_twenty_cells_red_for_one_reason_are_one_group() -> None:
    """Silent and loud, nf4 and int8, on several releases whose line numbers differ."""
    cells = [(f"trl0.{minor}-py311", variant) for minor in range(20, 25) for variant in (NF4, NF4_NOGC, INT8, FULL)]
    healthy_ones = [at(stack, variant=variant) for stack, variant in cells]
    seen = [moved(frozen(each) if i % 2 else frozen_loud(each), 100 + i) for i, each in enumerate(healthy_ones)]
    rows = [ran(*seen[i : i + 4]) for i in range(0, 20, 4)]
    group = only_group(summary_of(rows, *seen))
    assert (group.finding, len(group.cells), group.flows) == (Finding.UNLISTED, 20, ("sft-peft-model",))
    assert group.spans == (Span("trl0.20-py311", "trl0.24-py311", 5),)
    assert [seen.stack for seen in group.freezes] == ["trl0.20-py311"]
    assert [(seen.what.type, seen.stack) for seen in group.errors] == [("RuntimeError", "trl0.20-py311")]


def test_cells_of_one_issue_are_one_group_with_its_title_and_remedy() -> None:
    """Taken from the ledger, not from the checks."""
    seen = [frozen(at(OLD)), frozen_loud(at(OLD, variant=NF4_NOGC))]
    group = only_group(summary_of([ran(*seen)], *seen, ledger=LISTED))
    assert (group.finding, group.mark, group.issues) == (Finding.LISTED, Mark.XFAIL, ("trl#3926",))
    assert group.titles == (issue().title,)
    assert group.advice == (issue().remedy,)
    assert group.links == (issue().link,)


def test_the_same_check_failing_for_two_reasons_is_two_groups() -> None:
    """Frozen by another line is another cause."""
    elsewhere = Frame("peft/tuners/tuners_utils.py", 980, "set_adapter", "p.requires_grad = False")
    seen = [frozen(at(OLD)), frozen(at(OLD, variant=INT8), chain=(elsewhere,))]
    assert len(summary_of([ran(*seen)], *seen).groups) == 2


def test_errors_that_differ_only_in_numbers_are_one_group() -> None:
    """Addresses and sizes are not causes; another message is."""
    place = Frame("trl/trainer/sft_trainer.py", 10, "__init__", "boom()")
    messages = ["bad tensor at 0x7f01 of 12 bytes", "bad tensor at 0x8f99 of 7 bytes", "bad config"]
    variants = (NF4, INT8, FULL)
    seen = [
        b.failed(at(OLD, variant=variant), "RuntimeError", message, Stage.TRAINER, place)
        for variant, message in zip(variants, messages, strict=True)
    ]
    assert [len(group.cells) for group in summary_of([ran(*seen)], *seen).groups] == [2, 1]


def test_a_crash_after_an_unrelated_freeze_is_grouped_by_what_raised() -> None:
    """F001 says that the error is a finding of its own."""
    places = [Frame("trl/a.py", 1, "f", "x"), Frame("trl/b.py", 1, "f", "x")]
    trained = [at(OLD, variant=NF4), at(OLD, variant=INT8)]
    seen = [b.failed(each, "KeyError", "x", Stage.RELOAD, place) for each, place in zip(trained, places, strict=True)]
    assert len(summary_of([ran(*seen)], *seen).groups) == 2


def test_groups_end_with_what_fails() -> None:
    """Listed, uninstallable, machine, failures: the most urgent stands next to the totals."""
    seen = [b.learns_nothing(at(OLD, variant=FULL)), b.out_of_memory(at(OLD, variant=INT8)), frozen(at(OLD))]
    summary = summary_of([ran(*seen), b.uninstallable("trl0.4-py311")], *seen, ledger=LISTED)
    assert [group.finding for group in summary.groups] == [
        Finding.LISTED,
        Finding.UNINSTALLABLE,
        Finding.MACHINE,
        Finding.UNLISTED,
    ]


def test_two_stacks_that_cannot_be_solved_for_two_versions_are_two_groups() -> None:
    """In a resolver's reason the numbers are the reason."""
    rows = [b.uninstallable("trl0.4-py311", "needs tyro 0.5"), b.uninstallable("trl0.5-py311", "needs tyro 0.6")]
    assert len(summary_of(rows).groups) == 2


def test_a_group_never_spans_a_healthy_stack_or_two_axes() -> None:
    """Neighbours are those of the run, in the order they are shown."""
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
def test_every_cell_that_is_no_pass_is_in_exactly_one_group(chosen: list[Fault]) -> None:
    """Whatever went wrong in whatever mixture."""
    cells = [(flow, variant) for flow in CATALOG if flow.handed_over for variant in flow.variants]
    seen = [fault(at(OLD, flow=f.name, variant=v)) for fault, (f, v) in zip(chosen, cells, strict=False)]
    summary = summary_of([ran(*seen)] if seen else [], *seen, ledger=LISTED)
    red = [line.cell for stack in summary.stacks for line in stack.lines if line.finding]
    assert sorted(cell for group in summary.groups for cell in group.cells) == sorted(red)


def test_an_issue_that_left_the_ledger_keeps_its_group() -> None:
    """Re-judging with another ledger must not crash on a title that is gone; the check's title takes its place."""
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
