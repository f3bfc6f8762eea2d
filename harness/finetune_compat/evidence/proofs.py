"""Writes `matrices/proofs.json`: for each way in which an issue shows a cell of a committed baseline, or its script.

python -m finetune_compat.evidence.proofs            exit code 1 if the file differs from the baselines
python -m finetune_compat.evidence.proofs --write    write it
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from finetune_compat.affected.proofs import PROOFS, Proof
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.windows_measured import MeasuredEdge, read_windows
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.records import Observation
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.results.order import stack_order
from finetune_compat.results.run_files import judge_one, observation_lines, read_line

Key = tuple[str, int]
"""Issue, and place among its ways."""


def main(arguments: list[str]) -> ExitCode:
    """Compare the file with the baselines, or write it."""
    path = places().the_checkout(f"matrices/{PROOFS}") / "matrices" / PROOFS
    ledger = load_ledger()
    text = as_text(proofs(ledger, sorted(places().baselines.iterdir())) | script_proofs(ledger, read_windows()))
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


def script_proofs(ledger: Ledger, edges: Sequence[MeasuredEdge]) -> dict[Key, Proof]:
    """One proof for each script that shows its issue on a release inside of its window."""
    wanted = {(issue.id, len(issue.shows) + place) for issue in ledger.issues for place in range(len(issue.scripts))}
    return {
        (edge.issue, edge.shows): Proof(
            issue=edge.issue,
            shows=edge.shows,
            cell=edge.cell,
            baseline="",
            observation=edge.script_sha256,
            measured=edge.measured,
            command=f"compat windows '{edge.issue}'",
        )
        for edge in edges
        if edge.holds and edge.script_sha256 and (edge.issue, edge.shows) in wanted
    }


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
