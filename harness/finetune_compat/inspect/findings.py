"""The findings of a saved adapter: results of its checks, with severity and advice. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from finetune_compat.checks.codes import CODES, Severity
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.verdict import Opinion, Result
from finetune_compat.inspect.case import Case, Seen
from finetune_compat.inspect.checks import ENGINE

FLOWS = {
    "S101": ("sft-adapter-reload-frozen", "sft-adapter-reload-edited", "sft-inference-mode-config"),
    **dict.fromkeys(("S204", "S209"), ("sft-peft-model", "sft-inference-mode-config")),
}
"""Flows of the catalog that lead to a finding, or that show its consequences."""

ISSUES = {
    "S101": ("inference-mode", "trl#6700"),
    **dict.fromkeys(("S204", "S209"), ("trl#3926", "inference-mode")),
}
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
    versions = case.saved.beside.versions
    found = [_finding(opinion, versions) for opinion in ENGINE.opinions(case) if opinion.result is Result.FAIL]
    return tuple(sorted(found, key=lambda finding: (finding.severity is Severity.NOTE, finding.code)))


def _finding(opinion: Opinion, versions: Mapping[str, str]) -> Finding:
    code, seen = CODES[opinion.code], opinion.message
    return Finding(
        code.code,
        code.severity,
        str(seen),
        code.advice,
        seen.where if isinstance(seen, Seen) else (),
        FLOWS.get(code.code, ()),
        tuple(issue for issue in ISSUES.get(code.code, ()) if _possible(issue, versions)),
    )


def _possible(name: str, versions: Mapping[str, str]) -> bool:
    """Whether a known issue may be the cause in these versions. A package whose version is not known may have any."""
    signatures = (shown for issue in load_ledger().issues if issue.id == name for shown in issue.shows)
    return any(
        all(SpecifierSet(window).contains(versions[package], prereleases=True) for package, window in windows)
        for windows in ([item for item in shown.windows.items() if item[0] in versions] for shown in signatures)
    )
