"""Records which check named each planted fault, on which stack. Host side.

reports/faults/
    <stack>.json    one run of `-- --faults`: every fault, the check that named it, and its message
    independent/    the same for faults that were written without reading the checks (`independent_faults`)
    scripts/        the same for the checks of watched scripts (`planted_scripts`)
    faults.md       derived from all records
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from finetune_compat.checks import CHECKS
from finetune_compat.checks.codes import CODES
from finetune_compat.contract.plan import Plan
from finetune_compat.contract.records import Observation
from finetune_compat.evidence import fault_records, planted_scripts
from finetune_compat.evidence import independent_faults as independent
from finetune_compat.evidence.fault_records import FaultRecord
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.machine.provenance import short
from finetune_compat.report.markdown import table
from finetune_compat.report.wording import shortened
from finetune_compat.results.run_files import read_line

_TABLE = "FAULTS"
"""Name of the tables of faults in the tests. Each row begins with the fault's name and ends with its check."""


@dataclass(frozen=True, slots=True)
class Named:
    """One planted fault, and the check that named it."""

    fault: str
    cell: str
    """Flow and variant of the cell with the fault."""
    check: str
    """The one check that failed at the root."""
    said: str


@dataclass(frozen=True, slots=True)
class Record(FaultRecord):
    """One complete run of all faults on one stack."""

    named: tuple[Named, ...]


_RECORD = TypeAdapter(Record)


def planted(tests: Path | None = None) -> dict[str, str]:
    """All faults that the tests plant, with the check that must name each. The test files are parsed, not imported."""
    found: dict[str, str] = {}
    tests = tests or places().the_checkout("--faults") / "tests" / "mutation"
    for path in sorted(tests.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match node:
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.Tuple(elts=rows)) if name == _TABLE:
                    found |= dict(_ends(row) for row in rows if isinstance(row, ast.Tuple))
                case _:
                    pass
    return found


def _ends(row: ast.Tuple) -> tuple[str, str]:
    return str(ast.literal_eval(row.elts[0])), str(ast.literal_eval(row.elts[-1]))


def save(plan: Plan, status: int, arguments: Sequence[str], faults: Path | None = None) -> str:
    """Store the record of a run of the faults in place of an earlier one of its stack.

    Args:
        plan: the plan of the run.
        status: pytest's exit status.
        arguments: the arguments for pytest.
        faults: the directory of the records.

    Returns:
        A sentence: where the record is stored, or why it is not.

    Raises:
        RecordsError: a stored record cannot be read.
    """
    faults = faults or places().faults
    if problem := fault_records.why_not(status, arguments):
        return f"Not stored in {faults}: {problem}"
    record, wanted = read_run(plan), planted()
    found = {named.fault: named.check for named in record.named}
    if found != wanted:
        odd = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        return f"Not stored in {faults}: not every fault was planted and named ({', '.join(odd)})."
    return f"Stored in {fault_records.write(record, plan, faults)}."


def publish() -> None:
    """Rewrite the page from all stored records.

    Raises:
        RecordsError: a stored record cannot be read.
    """
    stored = read_records(), independent.read_records(), independent.listed(), planted_scripts.read_records()
    write_atomically(places().faults / "faults.md", page(*stored))


def read_run(plan: Plan) -> Record:
    """Read the faults that the tests of a run recorded.

    Raises:
        RecordsError: the tests recorded nothing, or the file cannot be read.
    """
    path = plan.faults_file
    lines = fault_records.read_lines(path, "fault")
    seen = [read_line(json.dumps(line["observation"]), str(path)) for line in lines]
    named = [
        Named(line["fault"], _place(observation), line["check"], shortened(line["said"]))
        for line, observation in zip(lines, seen, strict=True)
    ]
    return Record(**fault_records.facts_of(plan, seen[0]), named=tuple(named))


def _place(seen: Observation) -> str:
    return f"{seen.flow}[{seen.variant}]"


def read_records(faults: Path | None = None) -> tuple[Record, ...]:
    """The stored records, in the order of their stacks.

    Raises:
        RecordsError: a file is not a record.
    """
    return fault_records.read(_RECORD, faults or places().faults, "planted faults")


# ---------------------------------------------------------------------------------------------------------------- page


INTRODUCTION = """\
Faults like those of a broken release are planted into a stack, one at a time, and all checks judge the cell. There are
two sets. `-- --faults` runs both and stores only complete runs. `nox -s exam -- --planted` does the same for watched
scripts.\
"""

SCORES = """\
The faults of the first set were written with the checks in view: each check has at least one, which it alone must name.
They prove that each check can fail, and say nothing about other faults. Those of the second set were written from
upstream reports and papers without reading the checks. Their share estimates what the checks name of a fault that
nobody thought of. Each has an effect that is measured without the harness. The last column leaves the deep tier out.\
"""

MISSED = """\
Each of these faults changes what the stack does, and the cell passes. `tests/independent_faults/missed.toml` lists them
with a reason. A fault that is missed and not listed fails the run.\
"""

NAMED = "The checks in a row name its fault. A name links to the report or paper."

IN_VIEW = """\
Exactly the check that names the fault must fail. The JSON file of the stack has the message for each fault.\
"""

OF_SCRIPTS = """\
For each check that judges a script under `compat watch`, a script with a fault that this check alone must name, on the
stack it is about. Those in `planted/` were written with the checks in view; all others are scripts of the exam.\
"""


def page(
    records: Sequence[Record],
    others: Sequence[independent.Record] = (),
    reasons: Mapping[str, independent.Missed] | None = None,
    scripts: Sequence[planted_scripts.Record] = (),
) -> str:
    """The page, in Markdown.

    Args:
        records: the records of the faults that were written with the checks in view.
        others: the records of the independent faults.
        reasons: why faults are missed, by name.
        scripts: the records of the faults of watched scripts.
    """
    stacks = [
        (
            record.stack,
            ", ".join(f"{name} {version}" for name, version in record.versions.items()),
            f"Python {record.python}, {record.device}",
            str(len(record.named)),
            record.measured,
            f"`{short(record.commit)}`",
        )
        for record in records
    ]
    order = [check.code for check in CHECKS]
    faults = dict.fromkeys((named.fault, named.check) for record in records for named in record.named)
    rows = [
        (
            check,
            _title(check),
            fault,
            *(_mark(record, fault) for record in records),
        )
        for fault, check in sorted(faults, key=lambda row: order.index(row[1]) if row[1] in order else len(order))
    ]
    names = [record.stack for record in others]
    parts = [
        "# Do the checks name faults?",
        INTRODUCTION,
        "## Scores",
        SCORES,
        table(("stack", "written with the checks in view", "written from reports", "quick"), scores(records, others)),
        "## Written from reports: missed",
        MISSED,
        table(("fault", "what it breaks", *names, "why"), independent.rows_of_missed(others, reasons or {})),
        "## Written from reports: named",
        NAMED,
        table(("fault", "what it breaks", *names), independent.rows_of_named(others)),
        "## Written with the checks in view",
        IN_VIEW,
        table(("stack", "versions", "on", "faults", "measured", "harness at"), stacks),
        table(("check", "its claim", "planted fault", *(record.stack for record in records)), rows),
        "## Watched scripts",
        OF_SCRIPTS,
        table(
            ("stack", "faults", "measured", "harness at"),
            [(one.stack, str(len(one.named)), one.measured, f"`{short(one.commit)}`") for one in scripts],
        ),
        table(("check", "its claim", "script, in tests/exam", "stack"), planted_scripts.rows(scripts)),
    ]
    return "\n\n".join(parts) + "\n"


def scores(records: Sequence[Record], others: Sequence[independent.Record]) -> list[tuple[str, ...]]:
    """Faults that are named, of those with an effect, by stack and set. A kept record names every fault of its set."""
    first = {(record.stack, record.device): f"{len(record.named)} of {len(record.named)}" for record in records}
    second = {(record.stack, record.device): (record.score, record.quick_score) for record in others}
    return [
        (stack, first.get((stack, device), "not run"), *second.get((stack, device), ("not run", "not run")))
        for stack, device in dict.fromkeys((*first, *second))
    ]


def _title(check: str) -> str:
    return CODES[check].title if check in CODES else "no check of today"


def _mark(record: Record, fault: str) -> str:
    return "named" if any(named.fault == fault for named in record.named) else "not run"
