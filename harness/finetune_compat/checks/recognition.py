"""Known issues in a user's script. Pure.

The ledger's windows and evidence hold for any script, but its flows are those of the matrix only. So an issue is
recognised by the line that froze parameters, in the releases of its window. An error or a symptom alone may have any
cause.
"""

from __future__ import annotations

import dataclasses

from finetune_compat.checks.judge import shows
from finetune_compat.checks.ledger import Entry, Issue, Ledger
from finetune_compat.contract.records import Observation
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


def _froze(entry: Entry, seen: Observation) -> bool:
    """Whether the listed line froze, in releases of the window."""
    versions = seen.stack.resolved
    return (
        entry.deviation.froze is not None
        and entry.signature.holds(seen.variant.precision, seen.device.kind, versions)
        and entry.in_place(versions)
        and any(shows(freeze, entry.deviation) for freeze in seen.freezes)
    )
