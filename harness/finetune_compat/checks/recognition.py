"""Known issues in a script of the user's own. Pure.

Windows and evidence of the ledger hold of any script, the flows it names of the matrix's own alone. So an issue is
recognized by the code that did it, in the releases in which it does it; what shows itself only in how training ends may
have any cause.
"""

from __future__ import annotations

import dataclasses

from finetune_compat.checks.judge import shows
from finetune_compat.checks.ledger import Issue, Ledger, Signature
from finetune_compat.contract.records import Observation
from finetune_compat.contract.verdict import Outcome, Verdict


def recognized(seen: Observation, verdict: Verdict, ledger: Ledger) -> tuple[Issue, ...]:
    """The issues of `ledger` that made the checks of `verdict` fail."""
    return tuple(
        issue
        for issue in ledger.issues
        if any(
            signature.check in verdict.failing
            and signature.holds(seen.variant.precision, seen.device.kind, seen.stack.resolved)
            and _did_it(issue, signature, seen)
            for signature in issue.shows
        )
    )


def named(seen: Observation, verdict: Verdict, ledger: Ledger) -> Verdict:
    """`verdict` with the issues it shows; where they are all that is wrong it deviates as is listed."""
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
    )


def _did_it(issue: Issue, signature: Signature, seen: Observation) -> bool:
    if signature.frame is None and signature.called_from is None:
        return False
    return any(shows(freeze, issue.deviation(signature)) for freeze in seen.freezes)
