"""Planted faults of scripts: for every check of a script, a script that this check alone names. Host side.

tests/exam/planted.toml             which script shows which check; scripts of the exam are listed by their path
tests/exam/planted/                 scripts for the checks that no script of the exam shows alone
reports/faults/scripts/
    <stack>.json                    one run of `nox -s exam -- --planted`: every script, its check, and the message

The table of these scripts is part of reports/faults/faults.md.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from finetune_compat.checks.codes import CODES, AppliesTo
from finetune_compat.contract.errors import CompatError, ExitCode, RecordsError
from finetune_compat.evidence import exam
from finetune_compat.evidence.exam import Answer, Script
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.machine.record_files import read_record
from finetune_compat.report.wording import shortened
from finetune_compat.results.order import stack_order

TABLE = "planted.toml"


@dataclass(frozen=True, slots=True)
class Planted:
    """A script whose fault one check names."""

    code: str
    path: str
    """Relative to tests/exam."""
    stack: str = ""
    """The stack it runs on; empty: the stack that the exam's table says."""
    why: str = ""
    """What the fault is; empty: the exam's table says it."""


@dataclass(frozen=True, slots=True)
class Named:
    """A script whose fault was named by its check alone."""

    code: str
    path: str
    said: str
    later: str = ""
    """When and at which commit, if not with the whole record."""


@dataclass(frozen=True, slots=True)
class Record:
    """One complete run of the planted scripts of a stack."""

    stack: str
    commit: str
    """Commit of the harness, with `+` if files differed from it."""
    measured: str
    named: tuple[Named, ...]


class NotNamed(CompatError):
    """A planted fault was named by no check, by another one, or by several."""

    exit_code = ExitCode.UNHEALTHY


_PLANTED = TypeAdapter(tuple[Planted, ...])
_RECORD = TypeAdapter(Record)


def codes() -> frozenset[str]:
    """The codes of all checks that judge a script."""
    return frozenset(code.code for code in CODES.values() if AppliesTo.SCRIPT in code.applies_to)


def planted(directory: Path | None = None) -> dict[str, Script]:
    """The script of every check that has one, by code.

    Raises:
        RecordsError: the table is not valid, or names a script that is neither in the exam's tables nor described.
    """
    path = (directory or exam.exam_directory()) / TABLE
    known = {script.path: script for script in exam.scripts()}
    try:
        rows = _PLANTED.validate_python(tomllib.loads(path.read_text(encoding="utf-8"))["planted"])
        return {row.code: _script(row, known) for row in rows}
    except (OSError, ValueError, KeyError, ValidationError) as error:
        raise RecordsError(
            "it is not a valid table of planted scripts",
            where=str(path),
            meaning=str(error),
            todo="Give every [[planted]] a code and a path; a script outside the exam's tables needs stack and why.",
        ) from None


def _script(row: Planted, known: dict[str, Script]) -> Script:
    if row.path in known:
        script = known[row.path]
        return dataclasses.replace(script, stack=row.stack or script.stack, why=row.why or script.why)
    if not row.stack or not row.why:
        raise ValueError(f"{row.path} is in no table of the exam, and has no stack or no why")
    return Script(row.path, row.stack, exam.UNHEALTHY, row.code, row.why, truth="")


def on(stack: str, words: str = "") -> dict[str, Script]:
    """The planted scripts of `stack`, by code; with `words`, only those whose code or path contains it."""
    return {
        code: script
        for code, script in planted().items()
        if script.stack == stack and (words in script.path or words in code)
    }


def hold(stack: str, words: str, jobs: int, say: Callable[[str], None]) -> str:
    """Watch the planted scripts of `stack`, and store the record if each is named by its check alone.

    Returns:
        A sentence: where the record is stored, or why it is not.

    Raises:
        CompatError: no planted script is of `stack`.
        NotNamed: a script is not named by its check alone.
    """
    asked = on(stack, words)
    if not asked:
        raise CompatError(
            f"no planted script of {stack}" if not words else f"no planted script of {stack} matches {words!r}",
            where="nox -s exam -- --planted",
            todo=f"Name a stack of tests/exam/{TABLE}, and part of a code or path.",
        )
    answers = exam.answers_to(stack, tuple(asked.values()), jobs, say)
    if odd := _odd(tuple(asked), answers):
        raise NotNamed(
            f"not every fault was named by its check alone: {'; '.join(odd)}",
            where=f"nox -s exam -- --planted {stack}",
            meaning="A check does not see its fault any more, or another one sees it too.",
            todo=f"Mend the check, or choose another script in tests/exam/{TABLE}.",
        )
    if words:
        return f"Not stored: -k {words} may have left some scripts out."
    held = exam.record_of(stack, answers)
    named = tuple(Named(code, one.path, shortened(one.said)) for code, one in zip(asked, answers, strict=True))
    path = directory() / f"{stack}.json"
    record = Record(stack, held.commit, held.measured, named)
    write_atomically(path, json.dumps(dataclasses.asdict(record), indent=1) + "\n")
    return f"Stored in {path}."


def _odd(asked: Sequence[str], answers: Sequence[Answer]) -> list[str]:
    return [
        f"{answer.path} was named by {', '.join(answer.codes) or f'none ({answer.answer}: {answer.said})'}, not {code}"
        for code, answer in zip(asked, answers, strict=True)
        if answer.codes != (code,)
    ]


def directory() -> Path:
    """The directory of the stored records."""
    return places().faults / "scripts"


def read_records(kept: Path | None = None) -> tuple[Record, ...]:
    """The stored records, in the order of their stacks.

    Raises:
        RecordsError: a file is not a record.
    """
    found = []
    for path in (kept or directory()).glob("*.json"):
        todo = "Remove it, and run that stack again with: nox -s exam -- --planted."
        found.append(read_record(_RECORD, path, name="a record of planted scripts", todo=todo))
    return tuple(sorted(found, key=lambda record: stack_order(record.stack)))


def rows(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """One row for each script: check, its claim, the script, and the stack on which the check alone named it."""
    named = [(one.code, one.path, record.stack) for record in records for one in record.named]
    return [
        (code, CODES[code].title if code in CODES else "no check of today", path, stack)
        for code, path, stack in sorted(named)
    ]
