"""The page of a watched script, as text and as JSON."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from finetune_compat.checks.case import freeze_line
from finetune_compat.checks.codes import CODES
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.recognition import named, with_applying
from finetune_compat.checks.script_advice import advice
from finetune_compat.checks.script_checks import by_the_script, from_the_script, judge
from finetune_compat.checks.since import since
from finetune_compat.contract.records import Actor, Area, Census, Stage, standard
from finetune_compat.contract.script import Pipeline, Run, ended_with
from finetune_compat.contract.verdict import Outcome, Result, Verdict
from finetune_compat.report import wording

_MARK = wording.EMULATED
"""Marks every line that comes from a run on the emulated accelerator."""

_NOTE_WIDTH = 100
"""Width of a note, in characters."""

_WORDS = {Outcome.PASS: "healthy", Outcome.FAIL: "UNHEALTHY", Outcome.INFRASTRUCTURE: "could not tell"}


def as_json(seen: Pipeline, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Record and verdicts, in types of standard JSON."""
    judged = [dataclasses.asdict(verdict) for verdict in verdicts]
    found: dict[str, Any] = standard({"pipeline": dataclasses.asdict(seen), "verdicts": judged})
    return found


def verdicts_on(seen: Pipeline, ledger: Ledger) -> tuple[Verdict, ...]:
    """One verdict for each trainer, and one for the script if it did not end as expected.

    A known issue of the ledger fails too, because a watch has no baseline to compare with.
    """
    found = judge(seen)
    runs = (
        with_applying(run, dataclasses.replace(named(run.seen, verdict, ledger), outcome=verdict.outcome), ledger)
        for run, verdict in zip(seen.runs, found, strict=False)
    )
    return (*runs, *found[len(seen.runs) :])


def page(seen: Pipeline, verdicts: Sequence[Verdict], ledger: Ledger) -> str:
    """The page as text: the facts of each trainer, the verdicts with their known issues of `ledger`, and the limits."""
    versions = ", ".join(f"{name} {version}" for name, version in seen.stack.resolved.items())
    lines = [f"{seen.script} on {seen.stack.name}: {versions}, Python {seen.stack.python}, {seen.device.name}"]
    # A script without any trainer has a verdict and no run.
    for run, verdict in zip(seen.runs, verdicts, strict=False):
        lines += ["", *_run(run, verdict, ledger)]
    for one in verdicts[len(seen.runs) :]:
        lines += ["", f"{_WORDS[one.outcome]}: {one.reason}", *_advice(one, seen)]
    if any(run.seen.device.emulates for run in seen.runs):
        lines += ["", *textwrap.wrap(wording.EMULATED_NOTE, _NOTE_WIDTH, subsequent_indent="  ")]
    lines += _listed("changed from what the script asks", seen.changed)
    lines += _listed("not seen", seen.unseen)
    if seen.error is not None:
        lines += _listed("the script ended in", (f"{seen.error.type} at {seen.error.stage}: {seen.error.message}",))
    elif seen.status:
        lines += _listed("the script ended with", (ended_with(seen.status),))
    return "\n".join(lines)


def _listed(title: str, sentences: tuple[str, ...]) -> list[str]:
    return ["", f"{title}:", *(f"  {sentence}" for sentence in sentences)] if sentences else []


def _run(run: Run, verdict: Verdict, ledger: Ledger) -> Iterator[str]:
    mark = f" {_MARK}" if run.seen.device.emulates else ""
    yield f"{run.trainer or 'no Trainer'}  {run.seen.variant}{mark}"
    yield from _table(_stages(run), mark)
    judged = {"C104", "C105"} & {*verdict.failing}
    for freeze in run.seen.freezes:
        who = " (the script itself: not judged)" if by_the_script(freeze) and not judged else ""
        yield f"  {freeze.parameters:,} frozen at {freeze.stage} by {freeze_line(from_the_script(freeze))}{who}{mark}"
    yield from _training(run, mark)
    if run.seen.labels is not None:
        yield f"  {wording.labels(run.seen.labels)}{mark}"
    yield f"  {_WORDS[verdict.outcome]}: {verdict.reason}{mark}"
    for issue in ledger.issues:
        if issue.id in verdict.issues:
            yield f"    {issue.id}: {issue.title}{mark}"
            yield f"    {issue.link}"
            yield f"    To do: {_of_the_users(issue.remedy, run)}{mark}"
    starts = [f"{code} from step {step}" for code in verdict.failing if (step := since(run, code))]
    if starts:
        yield f"    It shows: {', '.join(starts)} on{mark}"
    if not verdict.issues:
        yield from (f"    To do ({code}): {advice(run, code)}{mark}" for code in verdict.failing)
    for opinion in verdict.opinions:
        if opinion.result is Result.NOT_APPLICABLE:
            yield f"    {opinion.code} not judged: {opinion.message}"


def _advice(verdict: Verdict, seen: Pipeline) -> list[str]:
    """One line of advice for each failing check of the script itself."""
    if seen.unknown:
        classes = " and ".join(dict.fromkeys(one.callee.rpartition(":")[2] for one in seen.unknown))
        return [f"  To do (F001): Use the arguments that {classes} has in this release, or leave these out."]
    return [f"  To do ({code}): {CODES[code].advice}" for code in verdict.failing]


def _of_the_users(remedy: str, run: Run) -> str:
    """The remedy with the trainer of the script: the ledger names that of its flows."""
    return remedy.replace("SFTTrainer", run.trainer or "the trainer")


def _stages(run: Run) -> list[tuple[str, Census]]:
    """Name and census of each line of the table, with one for the model passed to the trainer if it differs."""
    found = [
        (f"{taken.name} (library)" if taken.by is Actor.LIBRARY else str(taken.name), taken)
        for taken in run.seen.stages
    ]
    wrapped, handed = run.seen.census(Stage.PEFT), run.handed
    if wrapped is None or wrapped.by is Actor.LIBRARY or handed is None or not run.trainer:
        return found
    if (wrapped.trainable, wrapped.total) != (handed.trainable, handed.total):
        # Stages that a library adds inside the trainer come after this line.
        found.insert(run.seen.stages.index(wrapped) + 1, ("handed over", handed))
    return found


def _table(stages: list[tuple[str, Census]], mark: str) -> Iterator[str]:
    areas = [area for area in Area if any(_of(taken, area) for _, taken in stages)]
    rows = [("stage", "trainable", "total", "percent", *areas)]
    for name, taken in stages:
        percent = 100 * taken.trainable_logical / taken.total_logical if taken.total_logical else 0.0
        counts = (f"{_of(taken, area):,}" for area in areas)
        rows.append((name, f"{taken.trainable:,}", f"{taken.total_logical:,}", f"{percent:.4f}", *counts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *rest = row
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        dependent = mark if row[0].startswith((Stage.TRAINER, Stage.AFTER_TRAINING)) or "library" in row[0] else ""
        yield f"  {first.ljust(widths[0])}  {'  '.join(cells)}{dependent}"


def _of(taken: Census, area: Area) -> int:
    found = taken.by_area.get(area)
    return found.trainable if found else 0


def _training(run: Run, mark: str) -> Iterator[str]:
    training = run.seen.training
    if training is None:
        return
    yield f"  optimizer holds {training.optimizer.parameters:,}, {training.steps} steps{mark}"
    if training.eval_before is not None and training.eval_after is not None:
        pair = f"{training.eval_before:.6f} -> {training.eval_after:.6f}"
        over = f" over {run.rows_evaluated} rows" if run.rows_evaluated else ""
        yield f"  eval loss {pair}{over}{mark}"
    elif training.loss:
        pair = f"{training.loss[0]:.4f} -> {training.loss[-1]:.4f}"
        without = "no evaluation set" if run.rows_evaluated is None else "no eval loss was reported"
        yield f"  {without}; train loss {pair}, which is weaker evidence"
    if run.idle and len(run.idle) < training.gradients.tensors:
        yield f"  {len(run.idle)} of {training.gradients.tensors} trainable tensors never had a gradient: {run.idle[0]}"
