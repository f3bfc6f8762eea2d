"""Every sentence and label of the reports. Takes numbers and facts as they are; counts nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import assert_never

from finetune_compat.checks import CHECKS, Symptom
from finetune_compat.checks.codes import CODES, DEEP_CHECKS
from finetune_compat.checks.drift import Definition, Drift
from finetune_compat.checks.judge import without_gpu
from finetune_compat.checks.learning import FALSE_ALARMS, MISSES
from finetune_compat.contract.catalog import DEEP_CELLS
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.records import Failure, Frame, Freeze, Labels, Stage
from finetune_compat.machine.provenance import short
from finetune_compat.machine.units import counted
from finetune_compat.report.exhibits import Exhibit
from finetune_compat.results.causes import Group, Span
from finetune_compat.results.lines import CellLine, CountColumn, DeepLine, Finding, Mark, count_columns
from finetune_compat.results.run_files import Origin, RowState
from finetune_compat.results.summary import Depth, Heat, StackSummary, Tally
from finetune_compat.stacks.matrix import session_of

TITLE = "Does fine-tuning still train?"
ABSENT = "-"
EMULATED = "*"
WITHOUT_GPU = (
    "Run it on a GPU. Without one, quantized weights need bitsandbytes 0.47 or later (it has kernels for CPUs) and "
    "Transformers 4.54 or later."
)
EMULATED_NOTE = (
    f"{EMULATED} 4-bit weights on this CPU present an accelerator to TRL: its test for sharded QLoRA answers as on a "
    "GPU. Nothing else of a GPU is emulated: bfloat16 branches, Triton and CUDA kernels do not run."
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
"""Packages whose versions a reader wants beside a stack's name, in order."""

WINDOW_PACKAGES = {"trl": "TRL", "transformers": "Transf.", "peft": "PEFT", "bitsandbytes": "bnb"}

LONGEST_MESSAGE = 400
"""Characters of a library's message that a report shows; `observations.jsonl` has all that was kept of it."""


BRIEF_ERROR = 16
"""Characters of an error's name in a narrow table: as wide as a loss."""

MOST_ALIKE = 3
"""Freezing chains, errors or flows of one cause that are named; of more of them, how many."""

RAISED = "F001"
"""The check that fails where a flow ends in an error; the error itself is shown in its place."""


def marker(index: int) -> str:
    """The letter of the cause at `index`: a, b, ... z, aa, ab, ..."""
    head, last = divmod(index, 26)
    return (marker(head - 1) if head else "") + chr(ord("a") + last)


def letters(groups: Iterable[Group]) -> dict[str, str]:
    """The letter of its cause, by cell."""
    return {cell: letter for index, group in enumerate(groups) for letter in [marker(index)] for cell in group.cells}


def stage_name(stage: Stage) -> str:
    """A stage, short enough for the head of a column."""
    match stage:
        case Stage.AFTER_TRAINING:
            return "after"
        case Stage.IMPORT | Stage.LOAD | Stage.PREPARE | Stage.PEFT | Stage.TRAINER | Stage.TRAINING | Stage.RELOAD:
            return stage.value
    assert_never(stage)


COUNTS_HEAD = "trainable at"
"""Over the names of the cells, beside the heads of the columns of counts."""


ENDING_HEADS = ("eval loss", "verdict")
"""Heads of the columns after the counts."""


def column_head(column: CountColumn) -> str:
    """Head of a column of counts; `#2` is the library's second call of that step."""
    return f"{column.stage.value[:4]}#2" if column.again else stage_name(column.stage)


def count(value: int | None) -> str:
    """A parameter count in full."""
    return ABSENT if value is None else f"{value:,}"


def eval_loss(line: CellLine, *, brief: bool = False) -> str:
    """Eval loss before -> after with four decimals, or six where four show no difference; else the error there was."""
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
    """A cell's verdict, the listed issue it shows, and the letter of its cause."""
    mark = "infra" if brief and line.mark is Mark.INFRASTRUCTURE else line.mark.value
    issue = ", ".join(line.issues) if issues and line.mark is Mark.XFAIL else ""
    return " ".join(part for part in (mark, issue, letter) if part)


def heat(found: Heat) -> str:
    """All cells of a flow on a stack in a few characters: `.`, or what is not green and how often."""
    listed = [(marker(place), number) for place, number in found.listed]
    signs = [("F", found.tally.failed), *listed, ("?", found.tally.infrastructure)]
    marks = [f"{sign}{number}" for sign, number in signs if number]
    return "".join(marks) or (ALL_GREEN if found.tally.cells else ABSENT)


def notes(lines: Iterable[CellLine]) -> tuple[str, ...]:
    """What the signs in a table of `lines` mean."""
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
    """What a stack really ran on, in one line; empty where no cell got as far as saying so."""
    named = [f"{label} {stack.versions[name]}" for name, label in PACKAGES.items() if name in stack.versions]
    matrix = [f"though the matrix says torch {stack.torch_wanted}"] if stack.base_torch else []
    python = [f"Python {stack.python}"] if stack.python else []
    return ", ".join([*named, *matrix, *python, *([stack.device] if stack.device else [])])


def window_versions(stack: StackSummary) -> tuple[str, ...]:
    """The versions that stand beside a stack in the window."""
    return tuple(stack.versions.get(name, ABSENT) for name in WINDOW_PACKAGES)


def without_cells(stack: StackSummary) -> str:
    """What became of a stack without cells, in a word."""
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
    """Neighbouring stacks."""
    if span.stacks == 1:
        return span.first
    return f"{span.first} to {span.last} ({span.stacks} stacks)"


# ------------------------------------------------------------------------------------------------------------- causes


def cause_head(group: Group) -> str:
    """First line of a cause: verdict, issue, what it is."""
    issues, titles = ", ".join(group.issues), "; ".join(group.titles)
    match group.finding:
        case Finding.LISTED:
            return f"xfail {issues}{', this platform only' if group.platform else ''}: {titles}"
        case Finding.UNLISTED:
            return "FAIL, a deviation that is not listed"
        case Finding.GONE:
            return f"FAIL, listed as {issues}, and it did not appear: {titles}"
        case Finding.DIFFERENT:
            return f"FAIL, listed as {issues}, but what appeared is something else"
        case Finding.MACHINE:
            return "infrastructure"
        case Finding.UNINSTALLABLE:
            return "uninstallable"
    assert_never(group.finding)


def cause_facts(group: Group) -> tuple[str, ...]:
    """What was seen: failing checks, lines that froze, errors; or the reason why nothing was."""
    if group.finding in (Finding.MACHINE, Finding.UNINSTALLABLE):
        return (shortened(group.reason),)
    # The judge's messages end with the freezing chain, which has a line of its own here, as an error has that was
    # seen with its frames.
    told = [(code, message) for code, message in group.failing if code != RAISED or not group.errors]
    failing = [(code, message.partition("; frozen by ")[0]) for code, message in told]
    checks = [f"{code} {shortened(message)}" for code, message in failing]
    looks = [f"looks like: {', '.join(f'{sign} ({number})' for sign, number in group.signs)}"] if group.signs else []
    raised = f"{RAISED} " if RAISED in dict(group.failing) else ""
    freezes = [f"frozen{_on(seen.stack, group)} by {chain(seen.what)}" for seen in group.freezes]
    errors = [f"{raised}{error(seen.what, _on(seen.stack, group))}" for seen in group.errors]
    return (*checks, *looks, *_at_most(MOST_ALIKE, freezes), *_at_most(MOST_ALIKE, errors))


def _on(stack: str, group: Group) -> str:
    """Where the lines of a group of several stacks were read: their numbers are those of one release."""
    several = len(group.spans) > 1 or any(item.stacks > 1 for item in group.spans)
    return f" on {stack}" if several else ""


def _at_most(number: int, facts: list[str]) -> list[str]:
    more = len(facts) - number
    return [*facts[:number], f"and {more} more like these"] if more > 0 else facts


def cause_cells(group: Group) -> str:
    """How many cells, of which flows, and where."""
    stacks = ", ".join(span(item) for item in group.spans)
    if not group.flows:
        return f"all cells of {stacks}"
    many = len(group.flows) > MOST_ALIKE
    flows = f"{len(group.flows)} flows" if many else ", ".join(group.flows)
    return f"{counted(len(group.cells), 'cell')} of {flows} on {stacks}"


def cause_advice(group: Group) -> tuple[str, ...]:
    """What to do about it."""
    match group.finding:
        case Finding.LISTED | Finding.UNLISTED:
            return group.advice
        case Finding.GONE:
            return (
                "Run it again. If it stays away it is fixed here: narrow its window in matrices/known-issues.toml.",
            )
        case Finding.DIFFERENT:
            return ("Compare what is listed with what was seen: another bug, or a signature that says too little.",)
        case Finding.MACHINE if without_gpu(group.reason):
            return (WITHOUT_GPU,)
        case Finding.MACHINE:
            return ("Nothing is known about the versions. Run these cells again, alone and with more memory.",)
        case Finding.UNINSTALLABLE:
            return ("No cell ran. If an installation should exist, make the lock again: nox -s lock.",)
    assert_never(group.finding)


def chain(frames: Iterable[Frame]) -> str:
    """A call chain, outermost first, and the code of its last line."""
    called = list(frames)
    if not called:
        return "a call that left no Python frame"
    return " -> ".join(f"{frame.file}:{frame.line}" for frame in called) + f": {called[-1].code}"


def error(failure: Failure, where: str = "") -> str:
    """An error, with its stage and the library line it came from."""
    place = f", raised by {failure.frames[-1].file}:{failure.frames[-1].line}" if failure.frames else ""
    return f"{failure.type} at {failure.stage}{where}{place}: {shortened(failure.message)}"


def shortened(text: str) -> str:
    """A text as one line of bearable length."""
    line = " ".join(text.split()) or "no reason was recorded"
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 4].rstrip() + " ..."


# ------------------------------------------------------------------------------------------------------- cells in full


def exhibit_head(exhibit: Exhibit) -> str:
    """What stands beside the name of a cell that is shown in full."""
    line = exhibit.here.line
    if line.eval_before is None and line.eval_after is None:
        return f"{line.mark}: {line.error.type}" if line.error else str(line.mark)
    return f"{line.mark}: eval loss {eval_loss(line)}"


def absence(line: CellLine, column: CountColumn) -> str:
    """Why there is no count at a stage."""
    found = next(item for item in line.counts if item.stage is column.stage)
    return "not called again" if column.again else (found.absence.value if found.absence else "unknown")


def labels(seen: Labels) -> str:
    """What of the rows trained on could be learned."""
    tokens = f"{seen.label_tokens:,} are tokens"
    if seen.positions:  # observations from before they were counted have none
        masked = 1 - seen.label_tokens / seen.positions
        tokens = f"{seen.label_tokens:,} of {seen.positions:,} are tokens, {masked:.1%} are -100 (so is padding)"
    empty = f"{counted(seen.all_masked, 'row')} with -100 alone" if seen.all_masked else "no row with -100 alone"
    ends = f", {seen.ends - seen.ends_masked:,} of {counted(seen.ends, 'end')} of rows kept" if seen.ends else ""
    return f"labels of {counted(seen.samples, 'row')}: {tokens}; {empty}{ends}"


def freeze_head(freeze: Freeze) -> str:
    """Over the call chain that froze parameters."""
    return f"{freeze.parameters:,} parameters in {freeze.tensors} tensors frozen at {stage_name(freeze.stage)} by"


def packages_head(exhibit: Exhibit) -> str:
    """Over the versions of a cell, beside those it is held against."""
    return f"Packages, against {exhibit.before.line.stack}" if exhibit.before else "Packages"


def alike(cells: int) -> str:
    """What became of the other cells of a cause."""
    return f"{counted(cells, 'cell')} more of this cause: look at one and you have seen them."


def asked_head(shown: int, found: int) -> str:
    """Over cells that were asked for."""
    return f"Cells asked for: {found}" if shown == found else f"Cells asked for: the first {shown} of {found}"


def causes_left_out(number: int) -> str:
    """After the last cause that a page has room for."""
    return f"{counted(number, 'cause')} left out: verdicts.jsonl has every cell."


def on_request(run: Path) -> str:
    """How to see what the page leaves out."""
    return f"Any cell in full, healthy ones too: compat report {run.name} --html cells.html --cells 'trl0.22*nf4*'"


def tally(found: Tally) -> str:
    """How the cells of one stack ended, in a line; nothing that is nought."""
    named = (
        (found.failed, "FAIL"),
        (found.infrastructure, "infrastructure"),
        (found.uninstallable, "uninstallable"),
        (found.xfailed, "xfail"),
        (found.refused, "refused"),
        (found.passed, "pass"),
    )
    return ", ".join(f"{number} {name}" for number, name in named if number) or "no cell"


# ------------------------------------------------------------------------------------------------------------- totals


LEFT_OUT = "left out for want of time: nothing is known of it"


def totals(tally: Tally, stacks: int) -> str:
    """All cells in one sentence."""
    parts = [
        f"{tally.passed:,} pass",
        *([f"{tally.refused:,} refused with a reason"] if tally.refused else []),
        f"{tally.xfailed:,} xfail",
        f"{tally.failed:,} FAIL",
        f"{tally.infrastructure:,} infrastructure",
    ]
    gone = f" {counted(tally.lost, 'session')} ended before any cell." if tally.lost else ""
    gone += f" {counted(tally.uninstallable, 'stack')} uninstallable." if tally.uninstallable else ""
    gone += f" {counted(tally.left_out, 'cell')} left out for want of time." if tally.left_out else ""
    return f"{counted(tally.cells, 'cell')} on {counted(stacks, 'stack')}: {', '.join(parts)}.{gone}"


def passes(number: int) -> str:
    """So many cells are as stated."""
    return f"{counted(number, 'cell')} as stated"


def alarm(cells: int, causes: int) -> str:
    """First line of the issue that a nightly run opens."""
    return f"A library release breaks training: {counted(cells, 'cell')}, {counted(causes, 'cause')}."


def left_out(sections: int) -> str:
    """The end of a file that may not be larger."""
    return f"{counted(sections, 'section')} left out: CI systems show no larger file. verdicts.jsonl has every cell."


def conclusion(code: ExitCode, tally: Tally) -> str:
    """What the run says as a whole."""
    match code:
        case ExitCode.HEALTHY if tally.left_out:
            return (
                "Healthy as far as it ran: every cell that ran passes, or deviates exactly as listed. "
                "Of those left out nothing is known."
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


def files(run: Path) -> str:
    """Where the run's files are, as short as it stays true."""
    return f"{_from_here(run)}/ has {', '.join(FILES[:-1])} and {FILES[-1]}"


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()


def flow_letters(flows: Iterable[str]) -> tuple[str, ...]:
    """What the letters over the columns of the window mean."""
    return tuple(f"{flow_letter(index)} {flow}" for index, flow in enumerate(flows))


def flow_letter(index: int) -> str:
    """The letter of the flow at `index`."""
    return marker(index).upper()


def provenance(origin: Origin | None, unrecorded: Sequence[tuple[str, int]]) -> str:
    """Of which day and sources a baseline is, and which checks could not judge all of its cells; empty if there is
    nothing to say.
    """
    told = []
    if origin is not None:
        told.append(
            f"Measured from {_minute(origin.first_cell)} to {_minute(origin.last_cell)} UTC with harness "
            f"{origin.harness_version} and kept at commit {short(origin.kept_at_commit)}; the verdicts are those of "
            "the checks that wrote this page."
        )
    if unrecorded:
        cells = "; ".join(f"{code} {CODES[code].title} ({counted(number, 'cell')})" for code, number in unrecorded)
        told.append(f"Not judged, since the harness of that day did not record what they look at: {cells}.")
    return " ".join(told)


def _minute(moment: str) -> str:
    return moment[: len("2026-11-20T16:38")].replace("T", " ")


DRIFT_TITLE = "Objective drift"

DRIFT_HEADS = ("from", "to", "what differs", "loss before any update", "cells", "in figures", "packages that moved")


def drift_row(drift: Drift) -> tuple[str, ...]:
    """One drift, as a row under `DRIFT_HEADS`."""
    cells = f"{len(drift.cells)}, such as {drift.cells[0]}"
    return drift.before, drift.after, str(drift.kind), _change(drift), cells, drift.detail, ", ".join(drift.moved)


def _change(drift: Drift) -> str:
    if drift.smallest is None or drift.largest is None:
        return "not affected"
    if math.isinf(drift.largest):
        return "is a number on one side alone"
    if math.isclose(drift.smallest, drift.largest, rel_tol=0.05):
        return f"by {drift.largest:.1e}"
    return f"by {drift.smallest:.1e} to {drift.largest:.1e}"


def drift_line(drift: Drift) -> str:
    """One drift in one line."""
    loss = f"loss before any update {_change(drift)}"
    return f"{drift.before} -> {drift.after}: {drift.kind}, {loss}, {len(drift.cells)} cells; {drift.detail}"


def definition_line(definition: Definition) -> str:
    """Stacks whose eval_loss is something else, in one line."""
    first, last = definition.stacks[0], definition.stacks[-1]
    stacks = first if first == last else f"{first} to {last}"
    return (
        f"{stacks}: eval_loss is {definition.ratio:.4f} of the mean over its label tokens in "
        f"{len(definition.cells)} cells a stack, such as {definition.cells[0]}"
    )


# ---------------------------------------------------------------------------------------------------------- deep tier

DEEP_TITLE = "Deep tier"

DEEP_COST_S = 70
"""Seconds the deep tier adds to a stack: the median over `reports/baseline/cpu-deep`, on one core, rounded up."""

DEEP_HEADS = ("cell", "eval loss fell by", "null", "accumulation", "checkpointing", "evaluation")


def depth(found: Depth, cells: int, stacks: Sequence[StackSummary]) -> str:
    """Whether the deep tier was run, in one line; where it was not, what that leaves unchecked on these stacks, and how
    to run it on the last that has cells.
    """
    if found.measured:
        return (
            f"{DEEP_TITLE}: {found.measured} of {counted(cells, 'cell')}, {found.seconds:.0f} s more. In the sweeps "
            f"over seeds healthy flows were called dead in {FALSE_ALARMS}, dead flows healthy in {MISSES}."
        )
    titles = "; ".join(f"{check.code} {check.title}" for check in CHECKS if check.code in DEEP_CHECKS)
    ran = [stack.name for stack in stacks if stack.has_cells]
    session = session_of(ran[-1]) if ran else None
    how = f': nox -s "{session}" -- --tier deep' if session else ", with --tier deep."
    return (
        f"{DEEP_TITLE}: not run. It checks, on {len(DEEP_CELLS)} cells of a stack: {titles}. It costs {DEEP_COST_S} s "
        f"a stack{how}"
    )


def deep_row(cell: str, deep: DeepLine) -> tuple[str, ...]:
    """What the deep tier measured of one cell, as a row under `DEEP_HEADS`."""
    loss = (ABSENT if value is None else f"{value:.4f}" for value in (deep.fall, deep.null))
    steps = (ABSENT if value is None else f"off by {value:.1e}" for value in (deep.accumulation, deep.checkpointing))
    return cell, *loss, *steps, _evaluation(deep.ignoring)


def _evaluation(ignoring: tuple[str, ...] | None) -> str:
    if ignoring is None:
        return ABSENT
    return f"ignores the model: {', '.join(ignoring)}" if ignoring else "responds"


def deep_line(cell: str, deep: DeepLine) -> str:
    """The same in one line."""
    name, *cells = deep_row(cell, deep)
    told = ", ".join(f"{head} {value}" for head, value in zip(DEEP_HEADS[1:], cells, strict=True) if value != ABSENT)
    return f"{name}: {told or 'nothing could be measured'}"
