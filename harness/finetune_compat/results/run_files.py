"""A run's files: what cells wrote into them, read back as values and judged. Host side.

<runs>/<run-id>/
    observations.jsonl      one `Started` line and one `Observation` line per cell, appended by the cells as they run
    left-out.txt            cells that were asked for and left out, for want of time
    stored.json             addresses of the cells whose observations were in the store before any session began
    rows/<stack>.json       one `StackRow` per stack: ran, or why not, and which cells were selected
    verdicts.jsonl  junit.xml  summary.md  report.html  derived; written whole when the last session has ended
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, assert_never

from pydantic import TypeAdapter, ValidationError

from finetune_compat.checks import Outcome, Symptom, Verdict, judge
from finetune_compat.checks.judge import not_recorded
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError, RecordsError, UnknownName, why
from finetune_compat.contract.names import LATEST, is_stack
from finetune_compat.contract.records import SCHEMA, End, EndCause, Observation, Started
from finetune_compat.contract.redaction import redact
from finetune_compat.contract.verdict import Deviation
from finetune_compat.machine.aside import another_core, aside
from finetune_compat.machine.files import link_atomically, write_atomically
from finetune_compat.machine.places import places

T = TypeVar("T")

MANY = 500
"""Cells whose judging or rendering takes a few times as long as starting a process for it."""

NEWEST = 5
"""Runs an error message names: enough to find the one that was meant."""


class RowState(StrEnum):
    """What became of a stack in a run."""

    RAN = "ran"
    UNINSTALLABLE = "uninstallable"
    """No lock, or nothing that could be installed from it; `reason` is the resolver's."""
    INFRASTRUCTURE = "infrastructure"
    """The cells' process ended before it could select any cell."""


@dataclass(frozen=True, slots=True)
class StackRow:
    """One stack in one run."""

    name: str
    state: RowState
    reason: str
    selected: tuple[str, ...]
    """Ids of the cells that were to run, after `-k` and the like."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a committed baseline comes from, as its `provenance.json` says."""

    first_cell: str
    last_cell: str
    """When its first and its last cell began: UTC, ISO 8601."""
    harness_version: str
    kept_at_commit: str
    """What the sources stood at, with `+` where files differed from it."""


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run, judged. Verdicts are in row order, then in the order the cells were selected."""

    run: Path
    rows: tuple[StackRow, ...]
    observations: dict[str, Observation]
    verdicts: tuple[Verdict, ...]
    left_out: tuple[str, ...] = ()
    """Cells that were asked for and left out, for want of time: nothing is known of them."""
    origin: Origin | None = None
    """Of a committed baseline; None of any other run."""


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(of: type[T]) -> TypeAdapter[T]:
    """Made when first asked for: what writes files only, or shows a remembered answer, needs none."""
    if of not in _ADAPTERS:
        _ADAPTERS[of] = TypeAdapter(of)
    found: TypeAdapter[T] = _ADAPTERS[of]
    return found


def find_run(name: str, runs: Path | None = None) -> Path:
    """The directory of the run called `name` (`latest` is the newest), or `name` itself if it is a directory.

    Raises:
        UnknownName: there is no such run.
    """
    runs = runs or places().runs
    for path in (runs / name, Path(name)):
        if name and path.is_dir() and path.resolve() != runs.resolve():  # which `.` would name below it
            return path.resolve()
    there = sorted(p.name for p in runs.glob("*") if p.is_dir() and not p.is_symlink())[-NEWEST:]
    raise UnknownName(
        f"there is no run {name!r}",
        where=str(runs),
        meaning="The run was never made on this machine, or its directory was removed.",
        todo=f"The newest are: {', '.join(there) or 'none yet'}. A run is made by: compat run trl0.22",
    )


def read_observations(
    path: Path, *, only: Collection[str] | None = None
) -> tuple[dict[str, Started], dict[str, Observation]]:
    """Cells started and cells observed in an `observations.jsonl`, each by cell id; a later line replaces an earlier
    one. Lines of other stacks than `only`, if some are named, are not looked at.

    Raises:
        RecordsError: a line is not a record of schema 1. A cut-off last line is a killed cell, and is left out.
    """
    started: dict[str, Started] = {}
    observed: dict[str, Observation] = {}
    for number, line in _lines(path):
        if not line.endswith("\n"):
            break
        if only is not None and line.startswith(_CELL) and parse_cell(cell_of(line)).stack not in only:
            continue
        record = _decode(line, f"{path}:{number}")
        if isinstance(record, Started):
            started[record.cell] = record
            observed.pop(record.cell, None)  # it runs again: what an earlier try observed no longer counts
        else:
            observed[record.cell] = record
    return started, observed


_CELL = '{"cell":"'
"""What `to_json` begins a line with."""


def cell_of(line: str) -> str:
    """The cell of a line that `to_json` wrote, without decoding the rest of it."""
    return line[len(_CELL) :].partition('"')[0]


def whole_lines(path: Path) -> str:
    """The text of an `observations.jsonl` without a last line that was cut off.

    Raises:
        RecordsError: it is no text.
    """
    return "".join(line for _, line in _lines(path) if line.endswith("\n"))


def read_sweep(path: Path) -> tuple[Observation, ...]:
    """The observations of a sweep over seeds, as they came.

    Raises:
        RecordsError: a line is not an observation of schema 1, or is cut off.
    """
    records = [_decode(line, f"{path}:{number}") for number, line in _lines(path)]
    return tuple(record for record in records if isinstance(record, Observation))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of `path`, or of `path` with `.gz` behind it, as the baseline keeps it; none if neither is
    there. One after another: a run's text is as large as what is made of it.
    """
    packed = path.with_name(f"{path.name}.gz")
    try:
        if not path.exists() and not packed.exists():
            return
        with path.open("rb") if path.exists() else io.BytesIO(gzip.decompress(packed.read_bytes())) as file:
            yield from ((number, line.decode()) for number, line in enumerate(file, 1))
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise _unreadable(str(path), f"cannot be read as text: {why(error)}") from None


def read_line(line: str, where: str) -> Observation:
    """The observation in one line of JSON.

    Raises:
        RecordsError: it is not an observation of schema 1. The message says `where` it was found.
    """
    record = read_record(line, where)
    if isinstance(record, Started):
        raise _unreadable(where, "not an observation")
    return record


def read_record(line: str, where: str) -> Started | Observation:
    """The record in one line of JSON.

    Raises:
        RecordsError: it is not a record of schema 1. The message says `where` it was found.
    """
    return _decode(line, where)


_ENDS = f'"schema":{SCHEMA}}}'
"""What `to_json` ends a line with."""


def _decode(line: str, where: str) -> Started | Observation:
    """The record in `line`. A line of this harness is parsed and validated in one step, which saves a quarter of a
    report's time; any other, step by step, for its error message.
    """
    text = line.rstrip("\n")
    if text.endswith(_ENDS):
        kind: type[Started | Observation] = Started if '"started":' in text else Observation
        with contextlib.suppress(ValidationError):
            return _adapter(kind).validate_json(text)
    return _decode_warily(text, where)


def _decode_warily(line: str, where: str) -> Started | Observation:
    try:
        raw = json.loads(line)
        if raw.get("schema") != SCHEMA:
            raise _unreadable(where, f"schema {raw.get('schema')!r}, this harness reads {SCHEMA}")
        if "started" in raw:
            return _adapter(Started).validate_python(raw)
        return _adapter(Observation).validate_python(raw)
    except ValidationError as error:
        raise _unreadable(where, _first(error)) from None
    except AttributeError:
        raise _unreadable(where, "not a JSON object") from None
    except ValueError as error:
        raise _unreadable(where, f"not a JSON object: {error}") from None


def _first(error: ValidationError) -> str:
    """The first fault, with its place."""
    first = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


def _unreadable(where: str, problem: str) -> RecordsError:
    return RecordsError(
        problem,
        where=where,
        meaning="The file was edited, cut off in the middle, or written by another version of the harness.",
        todo="Run the stack again, or read the file with the harness version that wrote it.",
    )


def read_rows(run: Path) -> tuple[StackRow, ...]:
    """The rows of a run, in the order of their files' names.

    Raises:
        RecordsError: a row file is not a row, or its file is not named after its stack.
    """
    rows = []
    for path in sorted((run / "rows").glob("*.json")):
        try:
            row = _adapter(StackRow).validate_json(path.read_bytes())
        except ValidationError as error:
            raise _unreadable(str(path), _first(error)) from None
        except OSError as error:
            raise _unreadable(str(path), f"cannot be read: {why(error)}") from None
        if not is_stack(row.name) or path.name != f"{row.name}.json":
            raise _unreadable(str(path), f"is the row of a stack called {row.name!r}, and not named after it")
        if any(parse_cell(cell).stack != row.name for cell in row.selected):
            raise _unreadable(str(path), f"selects cells of another stack than {row.name}")
        rows.append(row)
    return tuple(rows)


def write_row(run: Path, row: StackRow) -> None:
    """Write one stack's row into the run.

    Raises:
        RecordsError: its name cannot be that of a file.
    """
    if not is_stack(row.name):
        raise _unreadable(str(run), f"{row.name!r} cannot be the name of a stack")
    row = dataclasses.replace(row, reason=redact(row.reason))
    write_atomically(run / "rows" / f"{row.name}.json", json.dumps(dataclasses.asdict(row), indent=1) + "\n")


def read_origin(run: Path) -> Origin | None:
    """Where a baseline comes from; None of a run that is none.

    Raises:
        RecordsError: its provenance cannot be read.
    """
    path = run / PROVENANCE
    if not path.exists():
        return None
    try:
        return _adapter(Origin).validate_json(path.read_bytes())
    except ValidationError as error:
        raise _unreadable(str(path), _first(error)) from None


PROVENANCE = "provenance.json"


def read_left_out(run: Path) -> tuple[str, ...]:
    """Cells that were asked for and left out of the run."""
    return tuple(_text_of(run / _LEFT_OUT).split("\n")[:-1])


def write_left_out(run: Path, cells: Sequence[str]) -> None:
    """Write down which cells were left out of the run."""
    write_atomically(run / _LEFT_OUT, "".join(f"{cell}\n" for cell in cells))


_LEFT_OUT = "left-out.txt"


def read_addresses(run: Path) -> dict[str, str]:
    """Addresses of the cells whose observations came from the store before any session began.

    Raises:
        RecordsError: the file of addresses holds something else.
    """
    try:
        return dict(_adapter(_Addresses).validate_json(_text_of(run / _STORED) or "{}"))
    except ValidationError as error:
        raise _unreadable(str(run / _STORED), _first(error)) from None


def write_addresses(run: Path, addresses: Mapping[str, str]) -> None:
    """Write down where the store keeps what was copied into the run."""
    write_atomically(run / _STORED, json.dumps(addresses, indent=0) + "\n")


_STORED = "stored.json"

_Addresses = dict[str, str]


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def remove_row(run: Path, stack: str) -> None:
    """Take back the row of a stack of which nothing was to run."""
    (run / "rows" / f"{stack}.json").unlink(missing_ok=True)


def judged(run: Path, ledger: Ledger, *, only: str | None = None) -> Results:
    """Read a run and judge every selected cell against `ledger`; of the stack `only`, if one is named.

    Raises:
        RecordsError: a file of the run cannot be read.
    """
    file = run / "observations.jsonl"
    rows = tuple(row for row in read_rows(run) if only in (None, row.name))
    others = _for_another(rows)
    # Before anything is read: pages of memory that two processes share are copied when one of them looks.
    with aside(lambda: _judge_apart(file, others, ledger), worth_it=bool(others)) as apart:
        started, observed = read_observations(file, only=None if only is None else {only})
        rows = _with_strays(rows, {*started, *observed})
        names = {row.name for row in others}
        found = {row.name: list(_judge_row(row, started, observed, ledger)) for row in rows if row.name not in names}
    found |= apart.result
    verdicts = tuple(verdict for row in rows for verdict in found[row.name])
    left_out = tuple(cell for cell in read_left_out(run) if only in (None, parse_cell(cell).stack))
    return Results(run, rows, observed, verdicts, left_out, read_origin(run))


def _for_another(rows: Sequence[StackRow]) -> tuple[StackRow, ...]:
    """Rows for another process to judge: three fifths of those that say all of what was to run, since this one has to
    read the observations of all. None of a small run, and none on one core: they would be read twice there.
    """
    if not another_core():
        return ()
    ended = [row for row in rows if row.state is RowState.RAN]
    others = tuple(ended[len(ended) * 2 // 5 :])
    return others if sum(len(row.selected) for row in others) >= MANY else ()


def _judge_apart(file: Path, rows: Sequence[StackRow], ledger: Ledger) -> dict[str, list[Verdict]]:
    """The verdicts of `rows`, by stack. They share most of what they say, and cross to another process in a fraction of
    the time it takes to find them.
    """
    if not rows:
        return {}
    started, observed = read_observations(file, only={row.name for row in rows})
    return {row.name: list(_judge_row(row, started, observed, ledger)) for row in rows}


def _with_strays(rows: tuple[StackRow, ...], cells: set[str]) -> tuple[StackRow, ...]:
    """The rows, also of stacks whose session was killed before it could write one, with all cells that left a line."""
    by_stack: dict[str, list[str]] = {}
    for cell in sorted(cells):
        by_stack.setdefault(parse_cell(cell).stack, []).append(cell)
    known = {row.name for row in rows}
    ended = [
        row if row.state is RowState.RAN else dataclasses.replace(row, selected=tuple(by_stack.get(row.name, ())))
        for row in rows
    ]
    return (*ended, *(unfinished(stack, found) for stack, found in by_stack.items() if stack not in known))


def unfinished(stack: str, cells: Sequence[str]) -> StackRow:
    """The row of a stack whose session has not ended."""
    reason = "its session has not ended: it is still running, or it was killed"
    return StackRow(stack, RowState.INFRASTRUCTURE, reason, tuple(cells))


def _judge_row(
    row: StackRow, started: dict[str, Started], observed: dict[str, Observation], ledger: Ledger
) -> Iterator[Verdict]:
    if row.state is RowState.UNINSTALLABLE:
        yield Verdict(row.name, Outcome.UNINSTALLABLE, row.reason, Symptom.UNKNOWN)
    elif row.state is RowState.INFRASTRUCTURE:
        yield not_recorded(row.name, row.reason)
    for cell in row.selected:
        if cell in observed:
            yield judge_one(observed[cell], ledger)
        elif cell in started:
            yield not_recorded(cell, how_it_ended(started[cell].end))
        else:
            yield not_recorded(cell, "never started: the session ended before its turn")


def how_it_ended(end: End | None) -> str:
    """One sentence on a cell that was started and left no observation."""
    if end is None:
        return "started and left no observation: its process crashed, hung past its limit, or was killed"
    held = f"{end.resident_bytes:,} bytes resident" if end.resident_bytes else "its memory not looked at"
    match end.cause:
        case EndCause.MEMORY:
            return f"ended after {end.seconds:.0f} s for its memory: {held}, over its limit"
        case EndCause.TIME:
            return f"ended after {end.seconds:.0f} s, over its limit; {held}"
        case EndCause.CRASH:
            return f"its process crashed or was killed after {end.seconds:.0f} s; {held}"
    assert_never(end.cause)


def judge_one(seen: Observation, ledger: Ledger) -> Verdict:
    """The verdict on one stored observation, with today's ledger and checks.

    A process judges an observation once: progress, a stack's table and the whole run ask for the same verdict.
    """
    listed = ledger.listed(seen.flow, seen.variant, seen.device.kind, seen.stack.resolved)
    known = _JUDGED.get(seen.cell)
    if known is None or known[:2] != (seen, listed):
        known = _JUDGED[seen.cell] = (seen, listed, judge(seen, flow_named(seen.flow), listed))
    return known[2]


_JUDGED: dict[str, tuple[Observation, tuple[Deviation, ...], Verdict]] = {}
"""The last verdict on each cell, and all that it follows from. To compare that takes an eighth of the time to judge."""


def verdict_lines(verdicts: Sequence[Verdict]) -> str:
    """`verdicts.jsonl`: one JSON object per verdict."""
    adapter = _adapter(Verdict)
    return "".join(f"{adapter.dump_json(verdict).decode()}\n" for verdict in verdicts)


def refuse_other_latest(runs: Path) -> None:
    """Refuse a `latest` among the `runs` that is not a link, before anything runs: it cannot be replaced.

    Raises:
        CompatError: there is one.
    """
    latest = runs / LATEST
    if latest.exists() and not latest.is_symlink():
        raise CompatError(
            "it is not the link to the newest run",
            where=str(latest),
            meaning="A run was copied or imported here under that name. The link cannot take its place.",
            todo=f"Rename it: mv {latest} {latest}-1. Then run the command again.",
        )


def point_latest_at(run: Path) -> None:
    """Replace `latest` whole: a reader finds the run before or this one, never nothing.

    Raises:
        CompatError: there is a `latest` that is not a link.
    """
    run = run.resolve()
    refuse_other_latest(run.parent)
    link_atomically(run.parent / LATEST, run.name)


def finished_run(name: str, runs: Path | None = None) -> Path:
    """The directory of the run called `name` among `runs`.

    Raises:
        UnknownName: there is no such run.
        RecordsError: the directory holds no run.
    """
    run = find_run(name, runs)
    if not (run / "rows").is_dir():
        raise RecordsError(
            "this directory holds no run",
            where=str(run),
            meaning="A run has its rows in rows/ and its observations in observations.jsonl.",
            todo="Name a run, such as: compat report latest",
        )
    return run
