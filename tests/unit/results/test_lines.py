"""One cell as a row of a table."""

from __future__ import annotations

import builders as b
from builders import FULL, INT8, LISTED, frozen, ran, summary_of
from finetune_compat.contract.records import Absence, Actor, Precision, Stage, Variant
from finetune_compat.results.lines import CountColumn, Mark, ResultKind, StageCount, count_columns
from finetune_compat.results.summary import Tally
from report_builders import STACK, on


def test_every_outcome_has_its_mark_and_its_finding() -> None:
    """There is one cell of each kind, on releases that the ledger lists."""
    seen = [
        on(STACK, flow="sft-peft-config"),
        b.refused(on(STACK, flow="sft-peft-model-and-config")),
        frozen(on(STACK)),
        on(STACK, variant=INT8),
        b.adapter_replaced(on(STACK, variant=Variant("llama", Precision.NF4, True))),
        b.masked_labels(on(STACK, variant=FULL)),
        b.out_of_memory(on(STACK, flow="sft-full", variant=FULL)),
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
    seen = frozen(on(STACK))
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
    seen = on(STACK, flow="sft-peft-config")
    assert [census.by for census in seen.stages if census.name is Stage.PREPARE] == [Actor.LIBRARY]
    [line] = summary_of([ran(seen)], seen).stacks[0].lines
    assert line.counts[1] == StageCount(Stage.PREPARE, 0, None, None)


def test_a_stage_without_a_census_keeps_its_reason() -> None:
    """Not called, not reached and not recorded are three reasons."""
    seen = b.failed(on(STACK, variant=FULL), "RuntimeError", "boom", Stage.TRAINER)
    lost = f"{STACK}/sft-full[qwen2-full-gc]@cpu"
    first, second = summary_of([ran(seen, lost=(lost,))], seen).stacks[0].lines
    absences = {count.stage: count.absence for count in first.counts}
    assert (absences[Stage.PREPARE], absences[Stage.TRAINER]) == (Absence.NOT_CALLED, Absence.NOT_REACHED)
    assert (second.flow, second.variant) == ("sft-full", "qwen2-full-gc")
    assert {(count.trainable, count.absence) for count in second.counts} == {(None, None)}


def test_second_calls_have_a_column_where_they_happen() -> None:
    """It stands before the trainer's count, and only if a line has one."""
    seen = [frozen(on(STACK)), on(STACK, variant=FULL)]
    first, second = summary_of([ran(*seen)], *seen).stacks[0].lines
    assert CountColumn(Stage.PREPARE, again=True) not in count_columns([second])
    columns = count_columns([first, second])
    assert columns[3:5] == (CountColumn(Stage.PREPARE, again=True), CountColumn(Stage.TRAINER, again=False))
    assert [column.of(first) for column in columns] == [b.REST, 0, b.ADAPTER, 0, 0, 0, b.ADAPTER]


def test_a_freezing_chain_is_the_libraries_part() -> None:
    """The flow's own line differs between flows and is not the cause."""
    seen = frozen(on(STACK))
    [line] = summary_of([ran(seen)], seen).stacks[0].lines
    assert line.freezes == (b.FREEZING_CHAIN[1:],)
    own = frozen(on(STACK), chain=b.FREEZING_CHAIN[:1])
    assert summary_of([ran(own)], own).stacks[0].lines[0].freezes == (b.FREEZING_CHAIN[:1],)
