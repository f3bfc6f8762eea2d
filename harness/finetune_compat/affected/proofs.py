"""The executable proof of each way in which an issue shows: `proofs.json` beside the ledger.

A proof names a measured cell and the sha256 of its observation in a committed baseline, or a script and its sha256, and
the command that measures it again. `python -m finetune_compat.evidence.proofs` writes the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.checks.ledger import Issue, Way
from finetune_compat.contract.errors import RecordsError
from finetune_compat.machine.places import places

PROOFS = "proofs.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One measured cell, or one script, that shows an issue."""

    issue: str
    shows: int
    """The place among the ways in which the issue shows, from 0."""
    cell: str
    """The cell, or the path of the script in the checkout."""
    baseline: str
    """Its directory below reports/baseline; empty for a script."""
    observation: str
    """sha256 of the observation's line in the baseline, or of the script, in hexadecimal."""
    measured: str
    """When the baseline or the script was measured: UTC, with `Z` at the end."""
    command: str
    """Measures it again."""


def read_proofs(path: Path | None = None) -> tuple[Proof, ...]:
    """The proofs in `path`; by default those beside the ledger.

    Raises:
        RecordsError: the file is missing or invalid.
    """
    path = path or places().ledger.with_name(PROOFS)
    todo = "Write it again: python -m finetune_compat.evidence.proofs"
    try:
        return tuple(Proof(**entry) for entry in json.loads(path.read_bytes()))
    except OSError as error:
        raise RecordsError(f"cannot be read: {error.strerror}", where=str(path), todo=todo) from None
    except (ValueError, TypeError) as error:
        raise RecordsError("not a list of proofs", where=str(path), meaning=str(error), todo=todo) from None


def proofs_of(issue: Issue, shows: tuple[Way, ...], proofs: tuple[Proof, ...]) -> tuple[Proof, ...]:
    """The proofs of those ways of `issue` that are in `shows`."""
    return tuple(proof for proof in proofs if proof.issue == issue.id and issue.ways[proof.shows] in shows)
