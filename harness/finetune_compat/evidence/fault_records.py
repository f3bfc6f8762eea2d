"""Records of planted faults, one file per stack and device: what both sets of faults share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.plan import Plan
from finetune_compat.contract.records import DeviceKind, Observation
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.provenance import commit
from finetune_compat.machine.record_files import read_record
from finetune_compat.results.order import stack_order


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """One complete run of a set of faults on one stack."""

    stack: str
    versions: Mapping[str, str]
    python: str
    device: str
    harness_version: str
    commit: str
    """Commit of the harness, with `+` if files differed from it."""
    measured: str
    """Start time of the first fault."""
    steps: int


R = TypeVar("R", bound=FaultRecord)


def facts_of(plan: Plan, first: Observation) -> dict[str, Any]:
    """The fields of a record by name, from the plan of its run and the observation of its first fault."""
    facts = FaultRecord(
        stack=first.stack.name,
        versions=dict(sorted(first.stack.resolved.items())),
        python=first.stack.python,
        device=first.device.name,
        harness_version=first.harness_version,
        commit=commit(),
        measured=first.started_at,
        steps=plan.steps,
    )
    return dataclasses.asdict(facts)


def read_lines(path: Path, fault: str) -> list[dict[str, Any]]:
    """What the tests of a run recorded in `path`, one object for each fault.

    Raises:
        RecordsError: there is no such file. The message calls one of its lines `fault`.
    """
    if not path.exists():
        raise RecordsError(
            f"no {fault} was planted",
            where=str(path),
            meaning="pytest succeeded, but no test ran.",
            todo="Check the session's output: were all tests skipped?",
        )
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def why_not(status: int, arguments: Sequence[str]) -> str:
    """Why a run is not stored, given pytest's exit status and arguments; empty if it may be."""
    if status:
        return "the run failed."
    return f"{' '.join(arguments)} may have left some faults out." if arguments else ""


def write(record: FaultRecord, plan: Plan, directory: Path) -> Path:
    """Store a record in place of an earlier one of its stack and device; return its file."""
    kind = "" if plan.device is DeviceKind.CPU else f"-{plan.device}"
    path = directory / f"{plan.stack}{kind}.json"
    write_atomically(path, json.dumps(dataclasses.asdict(record), indent=1) + "\n")
    return path


def read(adapter: TypeAdapter[R], directory: Path, faults: str) -> tuple[R, ...]:
    """The records in `directory`, in the order of their stacks.

    Raises:
        RecordsError: a file is not a record of `faults`.
    """
    found = []
    for path in directory.glob("*.json"):
        todo = "Remove it, and run that stack again with --faults."
        found.append(read_record(adapter, path, name=f"a record of {faults}", todo=todo))
    return tuple(sorted(found, key=lambda record: (stack_order(record.stack), record.device)))
