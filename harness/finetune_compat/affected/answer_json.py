"""The answer as JSON, for programs. `schemas/affected-1.json` is its schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune_compat.affected.conditions import conditions, flows
from finetune_compat.affected.hits import PACKAGES, Answer, Hit
from finetune_compat.affected.proofs import Proof, proofs_of
from finetune_compat.checks.windows_measured import MeasuredEdge, bases_of
from finetune_compat.contract.version import __version__

SCHEMA = 1
"""Version of the schema. It increases when a field changes its meaning or is removed."""


def schema(name: str) -> str:
    """The text of a published JSON schema, such as `affected`."""
    return (Path(__file__).parent / "schemas" / f"{name}-{SCHEMA}.json").read_text(encoding="utf-8")


def as_json(
    answer: Answer,
    accepted: Mapping[str, str],
    proofs: Sequence[Proof],
    notes: Sequence[str],
    measured: Sequence[MeasuredEdge] = (),
) -> str:
    """One JSON object.

    Args:
        answer: what the ledger says.
        accepted: why the project accepts an issue, by id.
        proofs: all proofs.
        notes: further sentences, such as about entries that expired.
        measured: the edges of windows that were measured by package.
    """
    project = answer.project
    content = {
        "schema": f"affected-{SCHEMA}",
        "version": __version__,
        "path": str(project.path),
        "packages": [
            {"name": asked.name, "version": asked.version, "specifier": str(asked.specifier), "at": asked.where}
            for name in PACKAGES
            if (asked := project.packages.get(name))
        ],
        "complete": project.complete,
        "known": answer.known,
        "newer_than_measured": [asked.text for asked in answer.newer],
        "unread": list(project.unread),
        "notes": list(notes),
        "affected": any(hit.counts and not accepted.get(hit.issue.id) for hit in answer.hits),
        "issues": [_issue(hit, accepted.get(hit.issue.id, ""), proofs, measured) for hit in answer.hits],
    }
    return json.dumps(content, indent=2, allow_nan=False)


def _issue(hit: Hit, accepted: str, proofs: Sequence[Proof], measured: Sequence[MeasuredEdge]) -> dict[str, Any]:
    issue = hit.issue
    return {
        "id": issue.id,
        "title": issue.title,
        "kind": str(issue.kind),
        "certainty": str(hit.certainty),
        "counts": hit.counts,
        "accepted": accepted or None,
        "severity": str(hit.harm),
        "at": [asked.where for asked in hit.packages],
        "needs": list(conditions(hit)),
        "flows": list(flows(hit)),
        "symptom": issue.sees,
        "cause": " ".join(issue.cause.split()),
        "remedy": issue.remedy,
        "safe": [{"package": safe.package, "version": safe.version} for safe in hit.safe],
        "edges": [
            {"package": package, "edge": edge, "measured": str(basis)}
            for package, edges in bases_of(issue, hit.shows, measured).items()
            for edge, basis in edges.items()
        ],
        "link": issue.link,
        "evidence": [
            {"cell": proof.cell, "observation": proof.observation, "command": proof.command}
            for proof in proofs_of(issue, hit.shows, tuple(proofs))
        ],
    }
