"""The bugs of the ledger as OSV advisories, for vulnerability scanners: a directory of JSON files, and one zip.

A scanner knows versions, not flows: an advisory says which versions have the bug, and its conditions are in
`database_specific`. Traps and limits of machines have no advisory, because no release is without them.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from finetune_compat.affected.proofs import Proof
from finetune_compat.checks.harm import worst
from finetune_compat.checks.ledger import Issue, Ledger, Way
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.verdict import Kind
from finetune_compat.machine.files import write_atomically

PREFIX = "x_FTC-"
"""OSV asks for `x_` before the ids of a database that is not registered with it."""

SCHEMA_VERSION = "1.7.0"
ZIP = "all.zip"

_ZERO = Version("0")
Interval = tuple[Version, Version | None, bool]
"""The first version, the end (None: no end), and whether the end is the first version without the bug."""


def advisories(ledger: Ledger, proofs: Sequence[Proof]) -> tuple[dict[str, Any], ...]:
    """One OSV record for each bug of a release that has a proof."""
    bugs = (issue for issue in ledger.issues if issue.kind is Kind.UPSTREAM)
    return tuple(_advisory(issue, own) for issue in bugs if (own := [one for one in proofs if one.issue == issue.id]))


def write_advisories(directory: Path, records: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write each record, and a zip with all of them, as offline scanners read it.

    Raises:
        CompatError: `directory` is a file, or has JSON files of something else.
    """
    names = {f"{record['id']}.json" for record in records}
    if directory.exists() and not directory.is_dir():
        raise CompatError("is a file", where=str(directory), todo="Name a directory for the advisories.")
    others = [path.name for path in directory.glob("*.json") if not path.name.startswith(PREFIX)]
    if others:
        raise CompatError(
            f"has other JSON files, such as {min(others)}",
            where=str(directory),
            meaning="Scanners read every file of the directory as an advisory.",
            todo="Name an empty directory.",
        )
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.glob(f"{PREFIX}*.json"):
        if path.name not in names:
            path.unlink()  # of an issue that is no longer listed
    texts = {f"{record['id']}.json": json.dumps(record, indent=2) + "\n" for record in records}
    for name, text in texts.items():
        write_atomically(directory / name, text)
    write_atomically(directory / ZIP, _zipped(texts))
    return [*(directory / name for name in texts), directory / ZIP]


def _zipped(texts: Mapping[str, str]) -> bytes:
    """The same bytes for the same texts."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(texts.items()):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
    return packed.getvalue()


def _advisory(issue: Issue, proofs: Sequence[Proof]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "id": advisory_id(issue),
        "modified": max(proof.measured for proof in proofs),
        "related": [],
        "summary": issue.title,
        "details": _details(issue),
        "affected": [_affected(issue, package, found) for package, found in _ranges(issue).items()],
        "references": list(_references(issue)),
        "database_specific": {
            "issue": issue.id,
            "severity": str(worst({shown.harm for shown in issue.ways})),
            "conditions": [issue.needs],
            "flows": list(dict.fromkeys(flow for shown in issue.shows for flow in shown.flows)),
            "windows": [dict(shown.windows) for shown in issue.ways],
            "symptom": issue.sees,
            "remedy": issue.remedy,
            "proof": [
                {"command": one.command, "cell": one.cell, "observation_sha256": one.observation} for one in proofs
            ],
        },
    }


def advisory_id(issue: Issue) -> str:
    """The id of an issue's advisory, for example `x_FTC-trl-3926`."""
    return PREFIX + re.sub(r"[^A-Za-z0-9]+", "-", issue.id)


def _details(issue: Issue) -> str:
    cause = " ".join(issue.cause.split())
    return f"{cause}\n\nIt needs: {issue.needs}.\nYou see: {issue.sees}.\nTo do: {issue.remedy}\n"


def _references(issue: Issue) -> Iterator[dict[str, str]]:
    if issue.link.startswith("https://"):
        yield {"type": "REPORT", "url": issue.link}
    if issue.fixed_by:
        yield {"type": "FIX", "url": issue.fixed_by}


def _affected(issue: Issue, package: str, found: Sequence[Interval]) -> dict[str, Any]:
    modules: dict[str, list[str]] = {}
    for name in issue.imports:
        module, _, symbol = name.rpartition(".")
        modules.setdefault(module, []).append(symbol)
    return {
        "package": {"ecosystem": "PyPI", "name": package, "purl": f"pkg:pypi/{package}"},
        "ranges": [{"type": "ECOSYSTEM", "events": list(_events(one))} for one in found],
        "ecosystem_specific": {
            "imports": [{"path": module, "symbols": symbols} for module, symbols in modules.items()]
        },
    }


def _events(interval: Interval) -> Iterator[dict[str, str]]:
    first, end, is_fix = interval
    yield {"introduced": str(first)}
    if end is not None:
        yield {"fixed" if is_fix else "last_affected": str(end)}


# --------------------------------------------------------------------------------------------------------------- ranges


def _ranges(issue: Issue) -> dict[str, list[Interval]]:
    """The affected versions by package.

    OSV cannot say "TRL and Transformers". A signature with windows of several packages belongs to the one whose window
    ends: moving that one is the way out.
    """
    found: dict[str, list[Interval]] = {}
    for shown in issue.ways:
        for package in _ending(shown):
            found.setdefault(package, []).append(_interval(SpecifierSet(shown.windows[package])))
    return {package: _united(intervals) for package, intervals in found.items()}


def _ending(shown: Way) -> list[str]:
    ending = [name for name, window in shown.windows.items() if _interval(SpecifierSet(window))[1] is not None]
    return ending or list(shown.windows)


def _interval(window: SpecifierSet) -> Interval:
    """The first and the last version of a window. Releases that it leaves out inside count as affected."""
    first, end, is_fix = _ZERO, None, True
    for one in window:
        version = Version(one.version.removesuffix(".*"))
        if one.operator in (">=", ">", "=="):
            first = max(first, version)
        if one.operator in ("<", "<=", "=="):
            end, is_fix = version, one.operator == "<"
    return first, end, is_fix


def _united(intervals: Sequence[Interval]) -> list[Interval]:
    """The same versions in intervals that do not overlap, from old to new."""
    found: list[Interval] = []
    for one in sorted(intervals, key=lambda one: one[0]):
        last = found[-1] if found else None
        if last is None or (last[1] is not None and last[1] < one[0]):
            found.append(one)
        elif last[1] is not None and (one[1] is None or one[1] > last[1]):
            found[-1] = (last[0], one[1], one[2])
    return found
