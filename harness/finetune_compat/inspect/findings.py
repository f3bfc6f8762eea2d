"""The findings of a saved adapter: results of its checks, with severity and advice. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_compat.checks.codes import CODES, Severity
from finetune_compat.contract.verdict import Opinion, Result
from finetune_compat.inspect.case import Case, Seen
from finetune_compat.inspect.checks import ENGINE

FLOWS = {
    "S101": ("sft-adapter-reload-frozen", "sft-adapter-reload-edited", "sft-inference-mode-config"),
    "S204": ("sft-peft-model", "sft-inference-mode-config"),
}
"""Flows of the catalog that lead to a finding, or that show its consequences."""

ISSUES = {"S101": ("inference-mode", "trl#6700"), "S204": ("trl#3926", "inference-mode")}
"""Known issues of the ledger that cause a finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding."""

    code: str
    severity: Severity
    sentence: str
    advice: str
    where: tuple[str, ...]
    flows: tuple[str, ...]
    issues: tuple[str, ...]


def findings_of(case: Case) -> tuple[Finding, ...]:
    """All findings that no other finding explains: unhealthy ones first, then notes, each in the order of codes."""
    found = [_finding(opinion) for opinion in ENGINE.opinions(case) if opinion.result is Result.FAIL]
    return tuple(sorted(found, key=lambda finding: (finding.severity is Severity.NOTE, finding.code)))


def _finding(opinion: Opinion) -> Finding:
    code, seen = CODES[opinion.code], opinion.message
    return Finding(
        code.code,
        code.severity,
        str(seen),
        code.advice,
        seen.where if isinstance(seen, Seen) else (),
        FLOWS.get(code.code, ()),
        ISSUES.get(code.code, ()),
    )
