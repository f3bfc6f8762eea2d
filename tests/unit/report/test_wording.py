"""Sentences and labels of the reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import builders as b
import pytest
from builders import FULL, LISTED, frozen, ran, summary_of
from finetune_compat.checks.codes import CODES
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.records import Failure, Frame, Labels, Observation, Stage
from finetune_compat.report import wording
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import CellLine
from finetune_compat.results.order import Span
from finetune_compat.results.run_files import RowState, StackRow
from finetune_compat.results.summary import Heat, Tally
from report_builders import STACK, at


def test_labels_without_positions_have_no_share() -> None:
    """Older observations lack the positions."""
    assert wording.labels(Labels(8, 200, 0, "aa", "bb")) == "labels of 8 rows: 200 are tokens; no row with -100 alone"
    assert wording.labels(Labels(8, 150, 1, "aa", "bb", 200, 8, 2)) == (
        "labels of 8 rows: 150 of 200 are tokens, 25.0% are -100 (so is padding); 1 row with -100 alone, "
        "6 of 8 ends of rows kept"
    )


def frozen_line() -> CellLine:
    """The line of a cell with trl#3926, listed."""
    return lines_of(frozen(at()))[0]


def lines_of(*seen: Observation) -> tuple[CellLine, ...]:
    """The lines of a run of one stack, with trl#3926 listed."""
    [stack] = summary_of([ran(*seen)], *seen, ledger=LISTED).stacks
    return stack.lines


def group_of(*seen: Observation) -> Group:
    """The only cause of a run of one stack, with trl#3926 listed."""
    [group] = summary_of([ran(*seen)], *seen, ledger=LISTED).groups
    return group


@pytest.mark.parametrize(
    ("index", "letters"), [(0, "a"), (25, "z"), (26, "aa"), (51, "az"), (52, "ba"), (701, "zz"), (702, "aaa")]
)
def test_causes_are_numbered_by_letters(index: int, letters: str) -> None:
    """As spreadsheets number columns: after 26 of one letter come 676 of two."""
    assert wording.marker(index) == letters
    assert wording.flow_letter(index) == letters.upper()


def test_every_cell_of_a_cause_has_its_letter() -> None:
    """Cells that pass have none."""
    seen = (frozen(at()), at(variant=FULL), b.masked_labels(at("sft-full", FULL)))
    groups = summary_of([ran(*seen)], *seen, ledger=LISTED).groups
    found = wording.letters(groups)
    assert {cell: groups[ord(letter) - ord("a")].cells for cell, letter in found.items()} == {
        cell: (cell,) for cell in (seen[0].cell, seen[2].cell)
    }


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (4.8921, 4.4012, "4.8921 -> 4.4012"),
        (4.892134, 4.892134, "4.892134 -> 4.892134"),
        (4.892134, 4.892101, "4.892134 -> 4.892101"),
        (4.8921, None, "4.8921 -> -"),
        (None, None, "-"),
    ],
)
def test_losses_have_the_decimals_that_show_a_difference(before: float | None, after: float | None, text: str) -> None:
    """Six, if four show none. A loss that is not known is a dash."""
    line = dataclasses.replace(lines_of(at(variant=FULL))[0], eval_before=before, eval_after=after, error=None)
    assert wording.eval_loss(line) == text


def test_a_narrow_table_shortens_a_flat_loss_and_a_long_error() -> None:
    """A loss has sixteen characters there, and so has an error."""
    assert wording.eval_loss(frozen_line(), brief=True) == "4.892134 flat"
    [crash] = lines_of(b.failed(at(), "AnErrorWithALongName", "x", Stage.TRAINING))
    crash = dataclasses.replace(crash, eval_before=None, eval_after=None)
    assert wording.eval_loss(crash) == "AnErrorWithALongName"
    assert wording.eval_loss(crash, brief=True) == "AnErrorWithALon…"


def test_a_verdict_has_its_listed_issues_and_its_cause() -> None:
    """Issues are left out where there is no room for them."""
    assert wording.verdict(frozen_line(), "a") == "xfail trl#3926 a"
    assert wording.verdict(frozen_line(), "a", issues=False) == "xfail a"
    [lost] = lines_of(b.out_of_memory(at()))
    assert wording.verdict(lost, "b") == "infrastructure b"
    assert wording.verdict(lost, "b", brief=True) == "infra b"
    assert wording.verdict(lines_of(at(variant=FULL))[0], "") == "pass"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Heat(Tally(passed=3), ()), "."),
        (Heat(Tally(), ()), "-"),
        (Heat(Tally(passed=1, failed=2, bugs=6, infrastructure=1), ((0, 6),)), "F2a6?1"),
    ],
)
def test_a_square_of_the_window_has_every_outcome_but_passes(found: Heat, text: str) -> None:
    """A dot stands for passes alone, a dash for no cells."""
    assert wording.heat(found) == text


def test_signs_are_explained_only_where_they_stand() -> None:
    """A table of plain passes needs no explanation."""
    assert wording.notes(lines_of(at(variant=FULL))) == ()
    again, emulated = wording.notes([frozen_line()])
    assert again.startswith("prep#2: counted after the library took that step a second time")
    assert emulated == wording.EMULATED_NOTE
    refused = b.refused(at("sft-peft-model-and-config", FULL))
    assert wording.REFUSED_NOTE in wording.notes(lines_of(refused))


def test_a_stack_without_cells_says_why() -> None:
    """Its state, in short and with the reason."""
    seen = at()
    summary = summary_of([ran(seen), b.uninstallable("trl0.4-py311", "no  solution")], seen)
    gone, here = sorted(summary.stacks, key=lambda stack: stack.has_cells)
    assert wording.without_cells(gone) == "uninstallable"
    assert wording.nothing_to_show(gone) == "uninstallable: no solution"
    assert wording.nothing_to_show(here) == "1 cell as stated"
    assert wording.versions(gone) == ""
    assert wording.versions(here).startswith("TRL 0.22.2, Transformers 4.56.1, PEFT 0.17.1, bitsandbytes 0.47.0")
    [empty] = summary_of([StackRow(STACK, RowState.RAN, "", ())]).stacks
    assert wording.nothing_to_show(empty) == "No cell was selected."


def test_neighbouring_stacks_are_a_span() -> None:
    """One alone has its name."""
    assert wording.span(Span("trl0.20-py311", "trl0.20-py311", 1)) == "trl0.20-py311"
    assert wording.span(Span("trl0.20-py311", "trl0.24-py311", 5)) == "trl0.20-py311 to trl0.24-py311 (5 stacks)"


def test_a_cause_says_what_was_observed_where_and_what_to_do() -> None:
    """A listed issue has its own title and remedy."""
    group = group_of(frozen(at()))
    assert wording.cause_head(group) == f"xfail trl#3926, release bug: {b.issue().title}"
    assert wording.cause_cells(group) == "1 cell of sft-peft-model on trl0.22-py311"
    assert wording.cause_advice(group) == (b.issue().remedy,)
    facts = wording.cause_facts(group)
    assert facts[0].startswith("C104 0 trainable at trainer, expected 16,384")
    assert facts[-1] == (
        "frozen by trl/trainer/sft_trainer.py:694 -> trl/models/utils.py:539 -> peft/utils/other.py:142: "
        "param.requires_grad = False"
    )


@pytest.mark.parametrize(
    ("fault", "head", "advice"),
    [
        (lambda: b.masked_labels(at("sft-full", FULL)), "FAIL, a deviation that is not listed", CODES["L501"].advice),
        (at, f"FAIL, listed as trl#3926, and it did not appear: {b.issue().title}", "Run it again."),
        (lambda: b.masked_labels(at()), "FAIL, listed as trl#3926, but what appeared is something else", "Compare"),
        (lambda: b.out_of_memory(at("sft-full", FULL)), "infrastructure", "Nothing is known about the versions."),
    ],
)
def test_each_kind_of_cause_has_its_head_and_its_advice(
    fault: Callable[[], Observation], head: str, advice: str
) -> None:
    """What is not listed has the advice of its check."""
    group = group_of(fault())
    assert wording.cause_head(group) == head
    assert wording.cause_advice(group)[0].startswith(advice)


def test_a_machine_without_a_gpu_has_its_own_advice() -> None:
    """To run the same cells again would fail again."""
    told = "the machine failed: RuntimeError: No GPU found. A GPU is needed for quantization."
    group = dataclasses.replace(group_of(b.out_of_memory(at())), reason=told)
    assert wording.cause_advice(group) == (wording.WITHOUT_GPU,)


def test_a_chain_of_calls_ends_in_its_code() -> None:
    """The outermost frame is first."""
    frames = (Frame("trl/a.py", 1, "f", "g()"), Frame("peft/b.py", 2, "g", "p.requires_grad = False"))
    assert wording.chain(frames) == "trl/a.py:1 -> peft/b.py:2: p.requires_grad = False"
    assert wording.chain(()) == "a call that left no Python frame"


def test_an_error_has_its_stage_and_the_line_that_raised_it() -> None:
    """Without frames no line is claimed."""
    failure = Failure("TypeError", "no argument\n'x'", Stage.TRAINER, (Frame("trl/a.py", 7, "f", "g(x=1)"),))
    assert wording.error(failure) == "TypeError at trainer, raised by trl/a.py:7: no argument 'x'"
    bare = dataclasses.replace(failure, frames=())
    assert wording.error(bare, " on trl0.22") == "TypeError at trainer on trl0.22: no argument 'x'"


@pytest.mark.parametrize("length", [399, 400, 401, 4000])
def test_a_long_message_is_one_line_with_its_beginning(length: int) -> None:
    """Nothing is longer than the limit."""
    text = wording.shortened("x" * length)
    assert text == ("x" * length if length <= wording.LONGEST_MESSAGE else "x" * (wording.LONGEST_MESSAGE - 4) + " ...")


def test_a_message_without_text_says_so() -> None:
    """White space is no reason."""
    assert wording.shortened(" \n ") == "no reason was recorded"


def test_totals_name_every_outcome_that_occurred() -> None:
    """Zeros are named for the outcomes that readers look for."""
    tally = Tally(passed=1_200, refused=2, bugs=3, traps=1, failed=1, infrastructure=2, lost=1, uninstallable=2)
    assert wording.totals(tally, 61) == (
        "1,209 cells on 61 stacks: 1,200 pass, 2 refused with a reason, 4 xfail (3 release bugs, 1 trap), 1 FAIL, "
        "2 infrastructure. 1 session ended before any cell. 2 stacks uninstallable."
    )
    assert wording.tally(tally) == (
        "1 FAIL, 2 infrastructure, 2 uninstallable, 3 xfail of a release bug, 1 xfail of a trap, 2 refused, 1200 pass"
    )
    assert wording.tally(Tally()) == "no cell"


@pytest.mark.parametrize(
    ("code", "tally", "beginning"),
    [
        (ExitCode.HEALTHY, Tally(passed=1), "Healthy: every cell passes"),
        (ExitCode.HEALTHY, Tally(passed=1, left_out=1), "Healthy as far as it ran"),
        (ExitCode.UNHEALTHY, Tally(failed=1), "Unhealthy"),
        (ExitCode.COULD_NOT_TELL, Tally(infrastructure=1), "Could not tell: the machine failed"),
        (ExitCode.COULD_NOT_TELL, Tally(), "Could not tell: no cell ran."),
    ],
)
def test_a_conclusion_claims_no_more_than_what_ran(code: ExitCode, tally: Tally, beginning: str) -> None:
    """Cells that were left out, lost or not there are never healthy."""
    assert wording.conclusion(code, tally).startswith(beginning)


def test_a_judged_run_has_no_other_exit_code() -> None:
    """Bad input is an error before any run."""
    with pytest.raises(ValueError, match="a judged run does not end with"):
        wording.conclusion(ExitCode.BAD_INPUT, Tally())


def test_the_files_of_a_run_have_a_short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the working directory, if the run is below it."""
    monkeypatch.chdir(tmp_path)
    assert wording.files(tmp_path / "runs" / "one").startswith("runs/one/ has report.html, summary.md, ")
    assert wording.files(Path("/elsewhere/one")).startswith("/elsewhere/one/ has ")
