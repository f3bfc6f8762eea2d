"""The one judge: an observation, the catalog's row, and the deviations listed for it -> a verdict.

Two callers: the test inside the cell, and the host over stored observations. As stated is a pass; exactly the listed
signature is a strict xfail; anything else fails: a bug where none is listed, a listed bug that does not appear, and a
different failure than the listed one.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.catalog import Flow
from harness.checks.case import Case, freeze_line, symptom
from harness.checks.registry import CHECKS, Check, NotApplicable
from harness.checks.verdict import Deviation, Opinion, Outcome, Result, Symptom, Verdict
from harness.records import Failure, Observation

# What an exhausted machine raises. None of these says anything about a version.
_MACHINE_ERRORS = {
    "MemoryError": "",
    "OutOfMemoryError": "",
    "ConnectionError": "",
    "OSError": "No space left on device",
    "RuntimeError": "DefaultCPUAllocator: can't allocate memory",
}


def judge(seen: Observation, flow: Flow, listed: Sequence[Deviation]) -> Verdict:
    """The verdict on one observation.

    Args:
        seen: what the cell recorded.
        flow: the catalog's row for `seen.flow`.
        listed: ledger deviations whose windows and variants take in this cell.
    """
    case = Case(seen, flow)
    if seen.error is not None and _machine_failed(seen.error):
        reason = f"the machine failed: {seen.error.type}: {seen.error.message}"
        return Verdict(seen.cell, Outcome.INFRASTRUCTURE, reason, Symptom.UNKNOWN)
    opinions = _opinions(case)
    applying = tuple(entry for entry in listed if entry.feature is None or entry.feature in seen.device.features)
    outcome, reason = _conclude(case, opinions, applying)
    return Verdict(
        cell=seen.cell,
        outcome=outcome,
        reason=reason,
        symptom=symptom(seen),
        opinions=opinions,
        issues=tuple(dict.fromkeys(entry.issue for entry in applying)),
        links=tuple(dict.fromkeys(entry.link for entry in applying)),
        refused=case.refused,
    )


def not_recorded(cell: str, reason: str) -> Verdict:
    """The verdict on a cell that was started, or planned, and left no observation."""
    return Verdict(cell, Outcome.INFRASTRUCTURE, reason, Symptom.UNKNOWN)


def _machine_failed(error: Failure) -> bool:
    return error.type in _MACHINE_ERRORS and _MACHINE_ERRORS[error.type] in error.message


def _opinions(case: Case) -> tuple[Opinion, ...]:
    said: dict[str, Opinion] = {}
    for check in CHECKS:
        blockers = [code for code in check.requires if said[code].result in (Result.FAIL, Result.BLOCKED)]
        said[check.code] = _blocked(check, blockers) if blockers else _ask(check, case)
    return tuple(said.values())


def _blocked(check: Check, blockers: Sequence[str]) -> Opinion:
    return Opinion(check.code, check.title, Result.BLOCKED, ", ".join(blockers))


def _ask(check: Check, case: Case) -> Opinion:
    try:
        message = check.run(case)
    except NotApplicable as why:
        return Opinion(check.code, check.title, Result.NOT_APPLICABLE, str(why))
    return Opinion(check.code, check.title, Result.FAIL if message else Result.PASS, message or "")


def _conclude(case: Case, opinions: Sequence[Opinion], listed: Sequence[Deviation]) -> tuple[Outcome, str]:
    failed = {opinion.code: opinion.message for opinion in opinions if opinion.result is Result.FAIL}
    expected = {entry.check for entry in listed}
    if not failed and not listed:
        return Outcome.PASS, _praise(case)
    if not listed:
        return Outcome.FAIL, f"not listed: {_said(failed)}"
    names = ", ".join(dict.fromkeys(entry.issue for entry in listed))
    if not failed:
        return Outcome.FAIL, f"{names} is listed for this cell and did not appear: it may be fixed; narrow its window"
    if set(failed) != expected:
        return Outcome.FAIL, f"other than the listed {names} ({', '.join(sorted(expected))}): {_said(failed)}"
    gaps = [gap for entry in listed for gap in _missing_evidence(case, entry)]
    if gaps:
        return Outcome.FAIL, f"fails where {names} says, but not as it says: {'; '.join(gaps)}. {_said(failed)}"
    return Outcome.XFAIL, f"{names}: {_said(failed)}"


def _praise(case: Case) -> str:
    if case.refused and case.seen.error is not None:
        return f"refused, with the reason: {case.seen.error.message}"
    return "as stated"


def _said(failed: dict[str, str]) -> str:
    return "; ".join(f"{code} {message}" for code, message in failed.items())


def _missing_evidence(case: Case, entry: Deviation) -> list[str]:
    """What the ledger entry says should be seen beside the failing check, and is not."""
    gaps = []
    chains = [freeze.frames for freeze in case.seen.freezes]
    if entry.frame and not any(chain[-1].file.endswith(entry.frame) for chain in chains):
        gaps.append(f"no parameter was frozen by {entry.frame} (seen: {_lines(case)})")
    if entry.called_from and not any(f.file.endswith(entry.called_from) for chain in chains for f in chain):
        gaps.append(f"no freezing call came through {entry.called_from} (seen: {_lines(case)})")
    error = case.seen.error
    raised = f"{error.type}: {error.message}" if error else "no error"
    if entry.error and entry.error not in raised:
        gaps.append(f"expected an error with {entry.error!r}, seen: {raised}")
    if entry.symptom and symptom(case.seen) is not entry.symptom:
        gaps.append(f"expected eval loss that {entry.symptom}, seen: {symptom(case.seen)}")
    return gaps


def _lines(case: Case) -> str:
    return "; ".join(freeze_line(freeze) for freeze in case.seen.freezes) or "no freeze"
