"""Root causes: one reason is one group."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import builders as b
from builders import FULL, INT8, LISTED, NF4, NF4_NOGC, frozen, frozen_loud, issue, ran, summary_of
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.records import Frame, Observation, Stage
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import Mark, ResultKind
from finetune_compat.results.order import Span
from finetune_compat.results.summary import Summary, summarize
from hypothesis import given
from hypothesis import strategies as st
from report_builders import STACK, on

Fault = Callable[[Observation], Observation]


def only_group(summary: Summary) -> Group:
    """Return the only root cause of the run."""
    [group] = summary.groups
    return group


def moved(seen: Observation, line: int) -> Observation:
    """The same freeze on other line numbers."""
    [freeze] = seen.freezes
    frames = (*freeze.frames[:-1], dataclasses.replace(freeze.frames[-1], line=line))
    return dataclasses.replace(seen, freezes=(dataclasses.replace(freeze, frames=frames),))


def test_twenty_cells_that_fail_for_one_reason_are_one_group() -> None:
    """This covers silent and loud, nf4 and int8, and releases with other line numbers."""
    cells = [(f"trl0.{minor}-py311", variant) for minor in range(20, 25) for variant in (NF4, NF4_NOGC, INT8, FULL)]
    healthy_ones = [on(stack, variant=variant) for stack, variant in cells]
    seen = [moved(frozen(each) if i % 2 else frozen_loud(each), 100 + i) for i, each in enumerate(healthy_ones)]
    rows = [ran(*seen[i : i + 4]) for i in range(0, 20, 4)]
    group = only_group(summary_of(rows, *seen))
    assert (group.finding, len(group.cells), group.flows) == (ResultKind.UNLISTED, 20, ("sft-peft-model",))
    assert group.spans == (Span("trl0.20-py311", "trl0.24-py311", 5),)
    assert [seen.stack for seen in group.freezes] == ["trl0.20-py311"]
    assert [(seen.what.type, seen.stack) for seen in group.errors] == [("RuntimeError", "trl0.20-py311")]


def test_cells_of_one_issue_are_one_group_with_its_title_and_remedy() -> None:
    """They come from the ledger, not from the checks."""
    seen = [frozen(on(STACK)), frozen_loud(on(STACK, variant=NF4_NOGC))]
    group = only_group(summary_of([ran(*seen)], *seen, ledger=LISTED))
    assert (group.finding, group.mark, group.issues) == (ResultKind.LISTED, Mark.XFAIL, ("trl#3926",))
    assert group.titles == (issue().title,)
    assert group.advice == (issue().remedy,)
    assert group.links == (issue().link,)


def test_the_same_check_failing_for_two_reasons_is_two_groups() -> None:
    """A freeze by another line is another cause."""
    elsewhere = Frame("peft/tuners/tuners_utils.py", 980, "set_adapter", "p.requires_grad = False")
    seen = [frozen(on(STACK)), frozen(on(STACK, variant=INT8), chain=(elsewhere,))]
    assert len(summary_of([ran(*seen)], *seen).groups) == 2


def test_errors_that_differ_only_in_numbers_are_one_group() -> None:
    """Addresses and sizes do not matter; another message does."""
    place = Frame("trl/trainer/sft_trainer.py", 10, "__init__", "boom()")
    messages = ["bad tensor at 0x7f01 of 12 bytes", "bad tensor at 0x8f99 of 7 bytes", "bad config"]
    variants = (NF4, INT8, FULL)
    seen = [
        b.failed(on(STACK, variant=variant), "RuntimeError", message, Stage.TRAINER, place)
        for variant, message in zip(variants, messages, strict=True)
    ]
    assert [len(group.cells) for group in summary_of([ran(*seen)], *seen).groups] == [2, 1]


def test_a_crash_after_an_unrelated_freeze_is_grouped_by_what_raised() -> None:
    """F001 reports the error as its own finding."""
    places = [Frame("trl/a.py", 1, "f", "x"), Frame("trl/b.py", 1, "f", "x")]
    trained = [on(STACK, variant=NF4), on(STACK, variant=INT8)]
    seen = [b.failed(each, "KeyError", "x", Stage.RELOAD, place) for each, place in zip(trained, places, strict=True)]
    assert len(summary_of([ran(*seen)], *seen).groups) == 2


def test_groups_end_with_what_fails() -> None:
    """The order is listed, unsolvable, infrastructure, failures: the most urgent is next to the totals."""
    seen = [b.learns_nothing(on(STACK, variant=FULL)), b.out_of_memory(on(STACK, variant=INT8)), frozen(on(STACK))]
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
    seen = [on(name) if name == "trl0.21-py311" else b.learns_nothing(on(name)) for name in names]
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
    seen = [fault(on(STACK, flow=f.name, variant=v)) for fault, (f, v) in zip(chosen, cells, strict=False)]
    summary = summary_of([ran(*seen)] if seen else [], *seen, ledger=LISTED)
    red = [line.cell for stack in summary.stacks for line in stack.lines if line.finding]
    assert sorted(cell for group in summary.groups for cell in group.cells) == sorted(red)


def test_an_issue_that_left_the_ledger_keeps_its_group() -> None:
    """Judging with another ledger must not fail on a missing title; the check's title replaces it."""
    seen = frozen(on(STACK))
    results = b.results_of([ran(seen)], seen, ledger=LISTED)
    group = only_group(summarize(results, Ledger(issues=())))
    assert group.titles == ("The parameters to train are trainable when training begins",)
