"""Sentences and labels of the reports. This module formats numbers and facts; it counts nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import assert_never

from finetune_compat.checks import Symptom
from finetune_compat.checks.judge import without_gpu
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.records import Failure, Frame, Freeze, Labels, Stage
from finetune_compat.contract.verdict import Kind
from finetune_compat.machine.units import counted
from finetune_compat.report.exhibits import Exhibit
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import CellLine, CountColumn, Mark, ResultKind, count_columns
from finetune_compat.results.order import Span
from finetune_compat.results.run_files import RowState
from finetune_compat.results.summary import Heat, StackSummary, Tally

TITLE = "Does fine-tuning still train?"
ABSENT = "-"
EMULATED = "*"
WITHOUT_GPU = (
    "Run it on a GPU. Without one, quantized weights need bitsandbytes 0.47 or later (it has kernels for CPUs) and "
    "Transformers 4.54 or later."
)
EMULATED_NOTE = (
    f"{EMULATED} 4-bit weights on this CPU present an accelerator to TRL: its test for sharded QLoRA answers as on a "
    "GPU. Nothing else of a GPU is emulated: Triton and CUDA kernels do not run."
)
REFUSED_NOTE = "refused: the library did not start, with an error that says what to change. That is a fair answer."
ALL_GREEN = "."
FILES = ("report.html", "summary.md", "junit.xml", "verdicts.jsonl", "observations.jsonl")

WINDOW_TITLE = "Stacks and flows"
CAUSES_TITLE = "Causes"
STACKS_TITLE = "Stack by stack"
STAGES_TITLE = "Trainable parameters by stage"
LOSSES_TITLE = "Loss: training by step, eval loss hollow at both ends"

PACKAGES = {
    "trl": "TRL",
    "transformers": "Transformers",
    "peft": "PEFT",
    "bitsandbytes": "bitsandbytes",
    "accelerate": "Accelerate",
    "torch": "torch",
}
"""Packages whose versions are shown with a stack's name, in order."""

WINDOW_PACKAGES = {"trl": "TRL", "transformers": "Transf.", "peft": "PEFT", "bitsandbytes": "bnb"}

LONGEST_MESSAGE = 400
"""Maximum characters of a library's message in a report. `observations.jsonl` has the recorded message."""

BRIEF_ERROR = 16
"""Maximum characters of an error's name in a narrow table: the width of a loss."""

MOST_ALIKE = 3
"""Maximum number of freezing chains, errors or flows that a cause lists. Others are counted."""

RAISED = "F001"
"""The check that fails if a flow ends with an error. Reports show the error instead of its message."""


def marker(index: int) -> str:
    """The letter of the cause at `index`: a, b, ... z, aa, ab, ..."""
    head, last = divmod(index, 26)
    return (marker(head - 1) if head else "") + chr(ord("a") + last)


def letters(groups: Iterable[Group]) -> dict[str, str]:
    """The letter of the cause, by cell."""
    return {cell: letter for index, group in enumerate(groups) for letter in [marker(index)] for cell in group.cells}


def stage_name(stage: Stage) -> str:
    """The name of a stage, short enough for a column head."""
    match stage:
        case Stage.AFTER_TRAINING:
            return "after"
        case Stage.IMPORT | Stage.LOAD | Stage.PREPARE | Stage.PEFT | Stage.TRAINER | Stage.TRAINING | Stage.RELOAD:
            return stage.value
    assert_never(stage)


COUNTS_HEAD = "trainable at"
"""Head of the column of cell names, left of the columns of counts."""

ENDING_HEADS = ("eval loss", "verdict")
"""Heads of the columns after the counts."""


def column_head(column: CountColumn) -> str:
    """Head of a column of counts. `#2` marks the library's second call of the step."""
    return f"{column.stage.value[:4]}#2" if column.again else stage_name(column.stage)


def count(value: int | None) -> str:
    """A parameter count with all digits."""
    return ABSENT if value is None else f"{value:,}"


def eval_loss(line: CellLine, *, brief: bool = False) -> str:
    """Eval loss `before -> after` with four decimals, or six if four show no difference. Else the error."""
    before, after = line.eval_before, line.eval_after
    if before is None and after is None:
        kind = line.error.type if line.error else ABSENT
        return f"{kind[: BRIEF_ERROR - 1]}…" if brief and len(kind) > BRIEF_ERROR else kind
    if line.symptom is Symptom.FLAT and brief:
        return f"{before:.6f} flat"
    same = before is not None and after is not None and f"{before:.4f}" == f"{after:.4f}"
    decimals = 6 if same else 4
    return " -> ".join(ABSENT if value is None else f"{value:.{decimals}f}" for value in (before, after))


def verdict(line: CellLine, letter: str, *, issues: bool = True, brief: bool = False) -> str:
    """A cell's verdict, its listed issues, and the letter of its cause."""
    mark = "infra" if brief and line.mark is Mark.INFRASTRUCTURE else line.mark.value
    issue = ", ".join(line.issues) if issues and line.mark is Mark.XFAIL else ""
    return " ".join(part for part in (mark, issue, letter) if part)


def heat(found: Heat) -> str:
    """All cells of a flow on a stack in a few characters: `.`, or each other outcome with its number of cells."""
    listed = [(marker(place), number) for place, number in found.listed]
    signs = [("F", found.tally.failed), *listed, ("?", found.tally.infrastructure)]
    marks = [f"{sign}{number}" for sign, number in signs if number]
    return "".join(marks) or (ALL_GREEN if found.tally.cells else ABSENT)


def notes(lines: Iterable[CellLine]) -> tuple[str, ...]:
    """Explanations of the signs in a table of `lines`."""
    lines = list(lines)
    again = [column_head(column) for column in count_columns(lines) if column.again]
    meant = (
        [f"{' and '.join(again)}: counted after the library took that step a second time, inside the trainer."]
        if again
        else []
    )
    meant += [EMULATED_NOTE] if any(line.emulates for line in lines) else []
    return (*meant, *([REFUSED_NOTE] if any(line.mark is Mark.REFUSED for line in lines) else []))


HEAT_NOTES = (
    f"{ALL_GREEN} all cells pass",
    "a6 six deviate exactly as listed, see a below",
    "F2 two fail",
    "?1 one was lost to the machine",
    f"{ABSENT} none selected",
)


# ------------------------------------------------------------------------------------------------------------- stacks


def versions(stack: StackSummary) -> str:
    """The installed versions of a stack in one line; empty if no cell recorded them."""
    named = [f"{label} {stack.versions[name]}" for name, label in PACKAGES.items() if name in stack.versions]
    matrix = [f"though the matrix says torch {stack.torch_wanted}"] if stack.base_torch else []
    python = [f"Python {stack.python}"] if stack.python else []
    return ", ".join([*named, *matrix, *python, *([stack.device] if stack.device else [])])


def window_versions(stack: StackSummary) -> tuple[str, ...]:
    """The versions of a stack in the window."""
    return tuple(stack.versions.get(name, ABSENT) for name in WINDOW_PACKAGES)


def without_cells(stack: StackSummary) -> str:
    """The state of a stack without cells, in one or two words."""
    return "no cell" if stack.state is RowState.RAN else stack.state.value


def nothing_to_show(stack: StackSummary) -> str:
    """Why a stack's table is empty."""
    match stack.state:
        case RowState.UNINSTALLABLE:
            return f"uninstallable: {shortened(stack.reason)}"
        case RowState.INFRASTRUCTURE:
            return f"infrastructure: {shortened(stack.reason)}"
        case RowState.RAN if stack.lines:
            return passes(stack.tally.cells)
        case RowState.RAN:
            return "No cell was selected."
    assert_never(stack.state)


def span(span: Span) -> str:
    """A range of neighbouring stacks."""
    if span.stacks == 1:
        return span.first
    return f"{span.first} to {span.last} ({span.stacks} stacks)"


# ------------------------------------------------------------------------------------------------------------- causes


KINDS = {
    Kind.UPSTREAM: "release bug",
    Kind.TRAP: "trap",
    Kind.PLATFORM: "machine limit",
}
"""The kinds of listed issues."""


def cause_head(group: Group) -> str:
    """First line of a cause: verdict, issues and titles."""
    issues, titles = ", ".join(group.issues), "; ".join(group.titles)
    match group.finding:
        case ResultKind.LISTED:
            return f"xfail {issues}, {KINDS[group.kind]}: {titles}" if group.kind else f"xfail {issues}: {titles}"
        case ResultKind.UNLISTED:
            return "FAIL, a deviation that is not listed"
        case ResultKind.GONE:
            return f"FAIL, listed as {issues}, and it did not appear: {titles}"
        case ResultKind.UNMEASURED:
            return f"FAIL, looks like {issues}, not yet measured on this release: {titles}"
        case ResultKind.DIFFERENT:
            return f"FAIL, listed as {issues}, but what appeared is something else"
        case ResultKind.MACHINE:
            return "infrastructure"
        case ResultKind.UNINSTALLABLE:
            return "uninstallable"
    assert_never(group.finding)


def cause_facts(group: Group) -> tuple[str, ...]:
    """What was observed: failing checks, lines that froze, errors; without an observation, the reason."""
    if group.finding in (ResultKind.MACHINE, ResultKind.UNINSTALLABLE):
        return (shortened(group.reason),)
    # Freezing chains at the end of messages, and errors with frames, are removed here: they have separate lines below.
    shown = [(code, message) for code, message in group.failing if code != RAISED or not group.errors]
    failing = [(code, message.partition("; frozen by ")[0]) for code, message in shown]
    checks = [f"{code} {shortened(message)}" for code, message in failing]
    looks = [f"looks like: {', '.join(f'{sign} ({number})' for sign, number in group.signs)}"] if group.signs else []
    raised = f"{RAISED} " if RAISED in dict(group.failing) else ""
    freezes = [f"frozen{_on(seen.stack, group)} by {chain(seen.what)}" for seen in group.freezes]
    errors = [f"{raised}{error(seen.what, _on(seen.stack, group))}" for seen in group.errors]
    return (*checks, *looks, *_at_most(MOST_ALIKE, freezes), *_at_most(MOST_ALIKE, errors))


def _on(stack: str, group: Group) -> str:
    """The stack of a line number, for a group of several stacks. Line numbers differ between releases."""
    several = len(group.spans) > 1 or any(item.stacks > 1 for item in group.spans)
    return f" on {stack}" if several else ""


def _at_most(number: int, facts: list[str]) -> list[str]:
    more = len(facts) - number
    return [*facts[:number], f"and {more} more like these"] if more > 0 else facts


def cause_cells(group: Group) -> str:
    """The number of cells, their flows and their stacks."""
    stacks = ", ".join(span(item) for item in group.spans)
    if not group.flows:
        return f"all cells of {stacks}"
    many = len(group.flows) > MOST_ALIKE
    flows = f"{len(group.flows)} flows" if many else ", ".join(group.flows)
    return f"{counted(len(group.cells), 'cell')} of {flows} on {stacks}"


def cause_advice(group: Group) -> tuple[str, ...]:
    """What to do about a cause."""
    match group.finding:
        case ResultKind.LISTED | ResultKind.UNLISTED:
            return group.advice
        case ResultKind.GONE:
            return (
                "Run it again. If it stays away it is fixed here: narrow its window in matrices/known-issues.toml.",
            )
        case ResultKind.DIFFERENT:
            return ("Compare what is listed with what was seen: another bug, or a signature that says too little.",)
        case ResultKind.UNMEASURED:
            return (*group.advice, "If this is the same issue, commit the run of the release: compat keep.")
        case ResultKind.MACHINE if without_gpu(group.reason):
            return (WITHOUT_GPU,)
        case ResultKind.MACHINE:
            return ("Nothing is known about the versions. Run these cells again, alone and with more memory.",)
        case ResultKind.UNINSTALLABLE:
            return ("No cell ran. If an installation should exist, make the lock again: nox -s lock.",)
    assert_never(group.finding)


def chain(frames: Iterable[Frame]) -> str:
    """A call chain, outermost frame first, and the code of its last line."""
    called = list(frames)
    if not called:
        return "a call that left no Python frame"
    return " -> ".join(f"{frame.file}:{frame.line}" for frame in called) + f": {called[-1].code}"


def error(failure: Failure, where: str = "") -> str:
    """An error, with its stage and the library line that raised it."""
    place = f", raised by {failure.frames[-1].file}:{failure.frames[-1].line}" if failure.frames else ""
    return f"{failure.type} at {failure.stage}{where}{place}: {shortened(failure.message)}"


def shortened(text: str) -> str:
    """A text as one line of at most `LONGEST_MESSAGE` characters."""
    line = " ".join(text.split()) or "no reason was recorded"
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 4].rstrip() + " ..."


# ------------------------------------------------------------------------------------------------------- cells in full


def exhibit_head(exhibit: Exhibit) -> str:
    """The text after the name of a cell that is shown in full."""
    line = exhibit.here.line
    if line.eval_before is None and line.eval_after is None:
        return f"{line.mark}: {line.error.type}" if line.error else str(line.mark)
    return f"{line.mark}: eval loss {eval_loss(line)}"


def absence(line: CellLine, column: CountColumn) -> str:
    """The reason why a stage has no count."""
    found = next(item for item in line.counts if item.stage is column.stage)
    return "not called again" if column.again else (found.absence.value if found.absence else "unknown")


def labels(seen: Labels) -> str:
    """Which tokens of the training rows have labels."""
    tokens = f"{seen.label_tokens:,} are tokens"
    if seen.positions:  # old observations do not have this count
        masked = 1 - seen.label_tokens / seen.positions
        tokens = f"{seen.label_tokens:,} of {seen.positions:,} are tokens, {masked:.1%} are -100 (so is padding)"
    empty = f"{counted(seen.all_masked, 'row')} with -100 alone" if seen.all_masked else "no row with -100 alone"
    ends = f", {seen.ends - seen.ends_masked:,} of {counted(seen.ends, 'end')} of rows kept" if seen.ends else ""
    return f"labels of {counted(seen.samples, 'row')}: {tokens}; {empty}{ends}"


def freeze_head(freeze: Freeze) -> str:
    """Heading of the call chain that froze parameters."""
    return f"{freeze.parameters:,} parameters in {freeze.tensors} tensors frozen at {stage_name(freeze.stage)} by"


def packages_head(exhibit: Exhibit) -> str:
    """Heading of the versions of a cell, compared with those of `before`."""
    return f"Packages, against {exhibit.before.line.stack}" if exhibit.before else "Packages"


def alike(cells: int) -> str:
    """Note on the cells of a cause that are not shown."""
    return f"{counted(cells, 'cell')} more with this cause. They look like the cells shown here."


def asked_head(shown: int, found: int) -> str:
    """Heading of selected cells."""
    return f"Selected cells: {found}" if shown == found else f"Selected cells: the first {shown} of {found}"


def causes_left_out(number: int) -> str:
    """Note after the last cause on a page."""
    return f"{counted(number, 'cause')} left out: verdicts.jsonl has every cell."


def on_request(run: Path) -> str:
    """How to show cells that are not on the page."""
    return f"Any cell in full, healthy ones too: compat report {run.name} --html cells.html --cells 'trl0.22*nf4*'"


def tally(found: Tally) -> str:
    """The outcomes of a stack's cells in one line, without outcomes that did not occur."""
    named = (
        (found.failed, "FAIL"),
        (found.infrastructure, "infrastructure"),
        (found.uninstallable, "uninstallable"),
        (found.bugs, "xfail of a release bug"),
        (found.traps, "xfail of a trap"),
        (found.limits, "xfail of a machine limit"),
        (found.refused, "refused"),
        (found.passed, "pass"),
    )
    return ", ".join(f"{number} {name}" for number, name in named if number) or "no cell"


# ------------------------------------------------------------------------------------------------------------- totals


LEFT_OUT = "left out by the time budget: nothing is known about this cell"


def totals(tally: Tally, stacks: int) -> str:
    """All cells in one sentence."""
    parts = [
        f"{tally.passed:,} pass",
        *([f"{tally.refused:,} refused with a reason"] if tally.refused else []),
        f"{tally.xfailed:,} xfail{_by_kind(tally)}",
        f"{tally.failed:,} FAIL",
        f"{tally.infrastructure:,} infrastructure",
    ]
    gone = f" {counted(tally.lost, 'session')} ended before any cell." if tally.lost else ""
    gone += f" {counted(tally.uninstallable, 'stack')} uninstallable." if tally.uninstallable else ""
    gone += f" {counted(tally.left_out, 'cell')} left out by the time budget." if tally.left_out else ""
    return f"{counted(tally.cells, 'cell')} on {counted(stacks, 'stack')}: {', '.join(parts)}.{gone}"


def _by_kind(tally: Tally) -> str:
    """The xfails by kind; empty if there are none."""
    kinds = ((tally.bugs, "release bug"), (tally.traps, "trap"), (tally.limits, "machine limit"))
    named = ", ".join(counted(number, kind) for number, kind in kinds if number)
    return f" ({named})" if named else ""


def passes(number: int) -> str:
    """Heading of the cells that pass."""
    return f"{counted(number, 'cell')} as stated"


def alarm(cells: int, causes: int) -> str:
    """First line of the issue that a nightly run opens."""
    return f"A library release breaks training: {counted(cells, 'cell')}, {counted(causes, 'cause')}."


NUMBERS_ELSEWHERE = "By name only, because CI systems show no larger file; verdicts.jsonl has their numbers:"
"""Markdown: before the names of cells that pass, where their table does not fit."""


def left_out(sections: int) -> str:
    """The last line of a file with limited size."""
    return f"{counted(sections, 'section')} left out: CI systems show no larger file. verdicts.jsonl has every cell."


def conclusion(code: ExitCode, tally: Tally) -> str:
    """The conclusion of the whole run."""
    match code:
        case ExitCode.HEALTHY if tally.left_out:
            return (
                "Healthy as far as it ran: every cell that ran passes, or deviates exactly as listed. "
                "Nothing is known about the cells left out."
            )
        case ExitCode.HEALTHY:
            return "Healthy: every cell passes, or deviates exactly as listed."
        case ExitCode.UNHEALTHY:
            return "Unhealthy: something fails that is not listed as it was seen. docs/reports.md says how to triage."
        case ExitCode.COULD_NOT_TELL if tally.by_the_machine:
            return "Could not tell: the machine failed, which says nothing about the versions."
        case ExitCode.COULD_NOT_TELL:
            return "Could not tell: no cell ran."
        case ExitCode.BAD_INPUT | ExitCode.ENVIRONMENT:
            raise ValueError(f"a judged run does not end with {code!r}")
    assert_never(code)


CELLS_ELSEWHERE = (
    "Cell by cell: `compat report reports/baseline/NAME`, where NAME is the name of this directory, writes report.html "
    "(each stack and each cause) and verdicts.jsonl (each check of each cell). All baselines together: reports/atlas/."
)
"""Markdown: where the cells of a committed baseline are, whose summary does not list them."""


def files(run: Path) -> str:
    """The run's directory, as a short path, and its files."""
    return f"{_from_here(run)}/ has {', '.join(FILES[:-1])} and {FILES[-1]}"


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()


def flow_letters(flows: Iterable[str]) -> tuple[str, ...]:
    """The legend of the letters over the columns of the window."""
    return tuple(f"{flow_letter(index)} {flow}" for index, flow in enumerate(flows))


def flow_letter(index: int) -> str:
    """The letter of the flow at `index`."""
    return marker(index).upper()
