"""Known issues in a user's script. Pure.

The ledger's windows and evidence hold for any script, but its flows are those of the matrix only. So an issue is
recognised by the line that froze parameters, in the releases of its window. An error or a symptom alone may have any
cause.

Some issues change what a script computes, and a script has nothing to compare that with. They apply where their window
and their condition hold, whatever the objective: their cause is in code that every trainer shares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from finetune_compat.checks.judge import shows
from finetune_compat.checks.ledger import FREEZING, Entry, Issue, Ledger
from finetune_compat.contract.records import Observation
from finetune_compat.contract.script import Run
from finetune_compat.contract.verdict import Outcome, Verdict, worst


def recognized(seen: Observation, verdict: Verdict, ledger: Ledger) -> tuple[Issue, ...]:
    """The issues of `ledger` that made the checks of `verdict` fail."""
    found = (
        entry.issue for entry in ledger.entries if entry.signature.check in verdict.failing and _froze(entry, seen)
    )
    return tuple({issue.id: issue for issue in found}.values())


def named(seen: Observation, verdict: Verdict, ledger: Ledger) -> Verdict:
    """`verdict` with the recognised issues. The outcome becomes XFAIL if they explain every failing check."""
    issues = recognized(seen, verdict, ledger)
    if not issues:
        return verdict
    ids = tuple(issue.id for issue in issues)
    explained = {signature.check for issue in issues for signature in issue.shows}
    return dataclasses.replace(
        verdict,
        outcome=Outcome.XFAIL if set(verdict.failing) <= explained else verdict.outcome,
        reason=f"{', '.join(ids)}: {verdict.reason}",
        issues=ids,
        shown=ids,
        links=tuple(issue.link for issue in issues),
        kind=worst(issue.kind for issue in issues),
    )


CONDITIONS: Mapping[str, Callable[[Run], str]] = {
    "G402": lambda run: f"{run.accumulation} accumulated batches" if (run.accumulation or 1) > 1 else "",
    "G403": lambda run: "gradient checkpointing" if run.seen.variant.gradient_checkpointing else "",
}
"""By check that a script does not measure: the condition under which its issues apply, as text; empty if it fails."""


def applying(run: Run, ledger: Ledger) -> tuple[tuple[Issue, str], ...]:
    """The issues that the checks of a script do not measure and that apply to `run`, each with what it rests on."""
    if run.seen.training is None:
        return ()
    found: dict[str, tuple[Issue, str]] = {}
    for entry in ledger.entries:
        condition = CONDITIONS.get(entry.signature.check)
        holds = condition(run) if condition else ""
        if holds and _takes_in(entry, run.seen):
            found.setdefault(entry.issue.id, (entry.issue, f"{holds}, {_versions(entry, run.seen)}"))
    return tuple(found.values())


def _takes_in(entry: Entry, seen: Observation) -> bool:
    signature, models = entry.signature, entry.signature.models
    return (
        signature.gradient_checkpointing in (None, seen.variant.gradient_checkpointing)
        and (not models or seen.variant.model.replace("_", "-") in models)
        and signature.holds(seen.variant.precision, seen.device.kind, seen.stack.resolved)
        and entry.in_place(seen.stack.resolved)
    )


def _versions(entry: Entry, seen: Observation) -> str:
    return ", ".join(f"{name} {seen.stack.resolved[name]}" for name in entry.signature.windows)


def with_applying(run: Run, verdict: Verdict, ledger: Ledger) -> Verdict:
    """`verdict` with the issues that apply to `run`. PASS becomes FAIL: they are faults, although a script does not
    show them.
    """
    found = applying(run, ledger)
    if not found or verdict.outcome not in (Outcome.PASS, Outcome.FAIL):
        return verdict
    listed = "; ".join(f"{issue.id}: {issue.title} ({condition})" for issue, condition in found)
    ids = tuple(issue.id for issue, _ in found)
    applies = f"listed for these versions and settings, not measured here: {listed}"
    return dataclasses.replace(
        verdict,
        outcome=Outcome.FAIL,
        reason=applies if verdict.outcome is Outcome.PASS else f"{verdict.reason}; {applies}",
        issues=tuple(dict.fromkeys((*verdict.issues, *ids))),
        links=tuple(dict.fromkeys((*verdict.links, *(issue.link for issue, _ in found)))),
    )


def _froze(entry: Entry, seen: Observation) -> bool:
    """Whether the listed line froze, in releases of the window."""
    versions = seen.stack.resolved
    return (
        entry.signature.check in FREEZING
        and entry.signature.holds(seen.variant.precision, seen.device.kind, versions)
        and entry.in_place(versions)
        and any(shows(freeze, entry.deviation) for freeze in seen.freezes)
    )
