"""Writes `matrices/proofs.json`: for each signature of the ledger a cell of a committed baseline that shows it.

python -m finetune_compat.evidence.proofs            exit code 1 if the file differs from the baselines
python -m finetune_compat.evidence.proofs --write    write it
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune_compat.affected.proofs import PROOFS, Proof
from finetune_compat.checks.ledger import Ledger, load_ledger
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.records import Observation
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.results.order import stack_order
from finetune_compat.results.run_files import judge_one, observation_lines, read_line

Key = tuple[str, int]
"""Issue and place of the signature."""


def main(arguments: list[str]) -> ExitCode:
    """Compare the file with the baselines, or write it."""
    path = places().the_checkout(f"matrices/{PROOFS}") / "matrices" / PROOFS
    text = as_text(proofs(load_ledger(), sorted(places().baselines.iterdir())))
    if "--write" in arguments:
        write_atomically(path, text)
        return ExitCode.HEALTHY
    same = path.exists() and path.read_text(encoding="utf-8") == text
    if not same:
        print(f"{path}: differs from the baselines. Write it: python -m finetune_compat.evidence.proofs --write")
    return ExitCode.HEALTHY if same else ExitCode.UNHEALTHY


def as_text(found: dict[Key, Proof]) -> str:
    """The content of the file."""
    return json.dumps([dataclasses.asdict(found[key]) for key in sorted(found)], indent=1) + "\n"


def proofs(ledger: Ledger, baselines: list[Path]) -> dict[Key, Proof]:
    """One proof for each signature that a baseline shows: the simplest cell of the newest stack, one that varies
    TRL if there is one.
    """
    found: dict[Key, tuple[tuple[Any, ...], Proof]] = {}
    for baseline in baselines:
        for cell, line in observation_lines(baseline).items():
            if not _named(parse_cell(cell).flow, ledger):
                continue
            seen = read_line(line, str(baseline))
            for key in _shown(seen, ledger):
                axis, *version = stack_order(seen.stack.name)
                rank = (-axis, *version, -len(seen.cell))
                if key not in found or found[key][0] < rank:
                    found[key] = (rank, _proof(key, seen, baseline, line))
    return {key: proof for key, (_, proof) in found.items()}


def _named(flow: str, ledger: Ledger) -> bool:
    return any(flow in shown.flows for issue in ledger.issues for shown in issue.shows)


def _shown(seen: Observation, ledger: Ledger) -> Iterator[Key]:
    """The signatures that the observation has, according to the judge."""
    verdict = None
    for issue in ledger.issues:
        for place, shown in enumerate(issue.shows):
            if not shown.takes_in(seen.flow, seen.variant, seen.device.kind, seen.stack.resolved):
                continue
            verdict = verdict or judge_one(seen, ledger)
            if issue.id in verdict.shown and shown.check in verdict.failing:
                yield issue.id, place


def _proof(key: Key, seen: Observation, baseline: Path, line: str) -> Proof:
    stack, _, python = seen.stack.name.rpartition("-py")
    cell = parse_cell(seen.cell)
    tier = " --tier deep-only" if seen.deep else ""
    options = f"--flows {cell.flow} --variants {cell.variant} --python {python[0]}.{python[1:]} --device {cell.device}"
    measured = json.loads((baseline / "provenance.json").read_bytes())["last_cell"]
    return Proof(
        issue=key[0],
        shows=key[1],
        cell=seen.cell,
        baseline=baseline.name,
        observation=hashlib.sha256(line.encode()).hexdigest(),
        measured=measured.replace("+00:00", "Z"),
        command=f"compat run {stack} {options}{tier}",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
