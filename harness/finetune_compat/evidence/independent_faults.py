"""Records the verdicts on independent faults: planted faults that were written without reading the checks. Host side.

reports/faults/independent/
    <stack>.json    one run of `-- --faults`: every fault, its effect, and the verdict on it

The table of their scores is part of reports/faults/faults.md.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from finetune_compat.contract.plan import Plan
from finetune_compat.contract.verdict import Outcome
from finetune_compat.evidence import fault_records
from finetune_compat.evidence.fault_records import FaultRecord
from finetune_compat.machine.places import places
from finetune_compat.report.wording import shortened
from finetune_compat.results.run_files import read_line

MISSED_FILE = "missed.toml"
"""File beside the tests that lists each fault that is missed, with the reason."""

_DECORATOR = "fault"
"""Name of the decorator of a function that plants a fault."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One independent fault on one stack."""

    fault: str
    breaks: str
    """What it breaks, in one sentence."""
    kind: str
    source: str
    """URL of the report or paper from which it was written."""
    cell: str
    """Flow and variant of the cell with the fault."""
    absent: str | None
    """Why the stack's versions cannot have the fault; None if they can. Then the fields below are None or empty."""
    effect: str | None
    """What the fault changes, measured without the harness."""
    outcome: str | None
    codes: tuple[str, ...]
    """The failing checks, with the measurements of the deep tier where the cell has them."""
    quick: tuple[str, ...]
    """The failing checks of the quick tier alone."""

    @property
    def missed(self) -> bool:
        """Whether the fault has an effect and the cell passes."""
        return self.effect is not None and self.outcome == Outcome.PASS


@dataclass(frozen=True, slots=True)
class Record(FaultRecord):
    """One complete run of all independent faults on one stack."""

    verdicts: tuple[Verdict, ...]

    @property
    def effective(self) -> tuple[Verdict, ...]:
        """The faults that have an effect on this stack."""
        return tuple(verdict for verdict in self.verdicts if verdict.effect is not None)

    @property
    def missed(self) -> tuple[Verdict, ...]:
        """The faults that have an effect and that no check names."""
        return tuple(verdict for verdict in self.verdicts if verdict.missed)

    @property
    def score(self) -> str:
        """Faults that a check names, of those with an effect (example: `31 of 40`)."""
        return f"{len(self.effective) - len(self.missed)} of {len(self.effective)}"

    @property
    def quick_score(self) -> str:
        """As `score`, by the checks of the quick tier alone."""
        return f"{sum(1 for verdict in self.effective if verdict.quick)} of {len(self.effective)}"


@dataclass(frozen=True, slots=True)
class Missed:
    """Why a fault is missed."""

    reason: str
    stacks: tuple[str, ...] = ()
    """The stacks on which it is missed; empty: every stack that has it."""


_RECORD = TypeAdapter(Record)


def tests_directory() -> Path:
    """The directory of the tests that plant independent faults."""
    return places().the_checkout("--faults") / "tests" / "independent_faults"


def planted(tests: Path | None = None) -> frozenset[str]:
    """Names of all independent faults. The test files are parsed, not imported."""
    return frozenset(
        node.name.replace("_", "-")
        for path in sorted((tests or tests_directory()).glob("*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and any(map(_plants, node.decorator_list))
    )


def _plants(decorator: ast.expr) -> bool:
    match decorator:
        case ast.Call(func=ast.Name(id=name)):
            return name == _DECORATOR
        case _:
            return False


def listed(tests: Path | None = None) -> dict[str, Missed]:
    """The faults that may be missed, by name."""
    raw = tomllib.loads(((tests or tests_directory()) / MISSED_FILE).read_text(encoding="utf-8"))
    return {name: Missed(entry["reason"], tuple(entry.get("stacks", ()))) for name, entry in raw.items()}


def save(plan: Plan, status: int, arguments: Sequence[str], directory: Path | None = None) -> str:
    """Store the record of a run in place of an earlier one of its stack.

    Args:
        plan: the plan of the run.
        status: pytest's exit status.
        arguments: the arguments for pytest.
        directory: the directory of the records.

    Returns:
        A sentence: where the record is stored, or why it is not.

    Raises:
        RecordsError: the tests recorded nothing, or their file cannot be read.
    """
    directory = directory or kept_directory()
    if problem := fault_records.why_not(status, arguments):
        return f"Not stored in {directory}: {problem}"
    record = read_run(plan)
    odd = sorted(planted().symmetric_difference(verdict.fault for verdict in record.verdicts))
    if odd:
        return f"Not stored in {directory}: not every fault was planted ({', '.join(odd)})."
    path = fault_records.write(record, plan, directory)
    return f"Checks name {record.score} independent faults. Stored in {path}."


def kept_directory() -> Path:
    """The directory of the stored records."""
    return places().faults / "independent"


def read_run(plan: Plan) -> Record:
    """Read the verdicts that the tests of a run recorded.

    Raises:
        RecordsError: the tests recorded nothing, or the file cannot be read.
    """
    path = plan.independent_faults_file
    lines = fault_records.read_lines(path, "independent fault")
    first = next(read_line(json.dumps(line["observation"]), str(path)) for line in lines if line["observation"])
    return Record(**fault_records.facts_of(plan, first), verdicts=tuple(_verdict(line) for line in lines))


def _verdict(line: Mapping[str, str | list[str] | None]) -> Verdict:
    fields = {field.name: line[field.name] for field in dataclasses.fields(Verdict)}
    effect = line["effect"]
    fields |= {"effect": effect and shortened(str(effect))}
    return TypeAdapter(Verdict).validate_python(fields)


def read_records(directory: Path | None = None) -> tuple[Record, ...]:
    """The stored records, in the order of their stacks.

    Raises:
        RecordsError: a file is not a record.
    """
    return fault_records.read(_RECORD, directory or kept_directory(), "independent faults")


def rows_of_missed(records: Sequence[Record], reasons: Mapping[str, Missed]) -> list[tuple[str, ...]]:
    """One row per fault that is missed on any stack: name, what it breaks, source, verdict by stack, reason."""
    missed = {verdict.fault: verdict for record in records for verdict in record.missed}
    return [
        (
            f"[{name}]({verdict.source})",
            verdict.breaks,
            *(_mark(record.verdicts, name) for record in records),
            reasons[name].reason if name in reasons else "",
        )
        for name, verdict in sorted(missed.items())
    ]


def rows_of_named(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """One row per fault that is missed on no stack: name, what it breaks, failing checks by stack."""
    missed = {verdict.fault for record in records for verdict in record.missed}
    named = {verdict.fault: verdict for record in records for verdict in record.verdicts if verdict.fault not in missed}
    return [
        (f"[{name}]({verdict.source})", verdict.breaks, *(_mark(record.verdicts, name) for record in records))
        for name, verdict in sorted(named.items())
    ]


def _mark(verdicts: Iterable[Verdict], name: str) -> str:
    found = next((verdict for verdict in verdicts if verdict.fault == name), None)
    if found is None:
        return "not run"
    if found.absent is not None:
        return "cannot exist"
    return "missed" if found.missed else ", ".join(found.codes)
