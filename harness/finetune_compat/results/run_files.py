"""The files of a run: read them, and judge the cells. Host side.

<runs>/<run-id>/
    observations.jsonl      one `Started` line and one `Observation` line per cell, appended by the cells as they run
    left-out.txt            selected cells that did not run, because the time budget was used up
    stored.json             addresses of the cells whose observations were cached before any session started
    rows/<stack>.json       one `StackRow` per stack: whether it ran, the reason if not, and the selected cells
    verdicts.jsonl  junit.xml  summary.md  report.html  derived; written atomically when the last session has ended
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from finetune_compat.contract.redaction import redact_here
from finetune_compat.contract.verdict import Deviation
from finetune_compat.machine.aside import another_core, aside
from finetune_compat.machine.files import link_atomically, write_atomically
from finetune_compat.machine.foreign import expanded
from finetune_compat.machine.places import places
from finetune_compat.results.branches import Uncovered, trace_of, uncovered
from finetune_compat.results.lacking import lacking

T = TypeVar("T")

MANY = 500
"""Number of cells for which judging or rendering takes a few times as long as starting another process for it."""

NEWEST = 5
"""Number of runs that an error message names."""


class RowState(StrEnum):
    """The state of a stack in a run."""

    RAN = "ran"
    UNINSTALLABLE = "uninstallable"
    """There is no lock, or it cannot be installed; `reason` is the resolver's."""
    INFRASTRUCTURE = "infrastructure"
    """The cell process ended before it selected any cell."""


@dataclass(frozen=True, slots=True)
class StackRow:
    """One stack in one run."""

    name: str
    state: RowState
    reason: str
    selected: tuple[str, ...]
    """Ids of the cells to run, after `-k` and other filters."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a committed baseline, from its `provenance.json`."""

    first_cell: str
    last_cell: str
    """Start times of its first and last cell: UTC, ISO 8601."""
    harness_version: str
    kept_at_commit: str
    """The commit of the sources, with `+` if files differed from it."""


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run, judged. Verdicts are in row order, then in the order the cells were selected."""

    run: Path
    rows: tuple[StackRow, ...]
    observations: dict[str, Observation]
    verdicts: tuple[Verdict, ...]
    left_out: tuple[str, ...] = ()
    """Selected cells that did not run, because the time budget was used up. They have no verdict."""
    origin: Origin | None = None
    """Only for a committed baseline; None for any other run."""
    uncovered: Mapping[str, Uncovered] = field(default_factory=dict)
    """Count of device-dependent branches by stack, for the stacks with a committed record of them."""
    scaling: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By cell of a user's script: number of adapted modules by the factor that multiplies their update."""


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(of: type[T]) -> TypeAdapter[T]:
    """The adapter for `of`, created on first use: commands that only write files or show a cached answer need none."""
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
        if name and path.is_dir() and path.resolve() != runs.resolve():  # the name `.` would select `runs` itself
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
    """The started and the observed cells in an `observations.jsonl`, each by cell id.

    A later line of a cell replaces an earlier one. If `only` is given, only lines of these stacks are read. An
    incomplete last line is ignored: its cell was killed.

    Raises:
        RecordsError: a line is not a record of schema 1.
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
            observed.pop(record.cell, None)  # the cell runs again, so the observation of the earlier try is obsolete
        else:
            observed[record.cell] = record
    return started, observed


_CELL = '{"cell":"'
"""The beginning of a line that `to_json` wrote."""


def untorn(line: str) -> str:
    """`line`, without an incomplete record at its beginning. A full disk cuts a record off, and the next process that
    appends continues its line. The cell of the incomplete record has no observation then.
    """
    return line if line.find(_CELL, 1) < 0 else _CELL + line.rpartition(_CELL)[2]


def cell_of(line: str) -> str:
    """The cell id in a line that `to_json` wrote, without decoding the whole line."""
    return line[len(_CELL) :].partition('"')[0]


def whole_lines(path: Path) -> str:
    """The text of an `observations.jsonl`, without an incomplete last line.

    Raises:
        RecordsError: the file is not text.
    """
    return "".join(line for _, line in _lines(path) if line.endswith("\n"))


def observation_lines(run: Path) -> dict[str, str]:
    """The last observation of each cell of a run, as its line of JSON without the line end.

    Raises:
        RecordsError: the file is not text.
    """
    lines = whole_lines(run / "observations.jsonl").split("\n")[:-1]
    return {cell_of(line): line for line in lines if '"started":' not in line}


def read_sweep(path: Path) -> tuple[Observation, ...]:
    """The observations of a sweep over seeds, in the order of the file.

    Raises:
        RecordsError: a line is not an observation of schema 1, or is incomplete.
    """
    records = [_decode(line, f"{path}:{number}") for number, line in _lines(path)]
    return tuple(record for record in records if isinstance(record, Observation))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of `path`, or of `path` with `.gz` appended, as in baselines; none if neither file exists.

    Lines are read one at a time, because the text of a run needs as much memory as its observations.
    """
    packed = path.with_name(f"{path.name}.gz")
    try:
        if not path.exists() and not packed.exists():
            return
        with path.open("rb") if path.exists() else io.BytesIO(expanded(packed)) as file:
            yield from ((number, untorn(line.decode())) for number, line in enumerate(file, 1))
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise _unreadable(str(path), f"cannot be read as text: {why(error)}") from None


def read_line(line: str, where: str) -> Observation:
    """The observation in one line of JSON.

    Raises:
        RecordsError: it is not an observation of schema 1. The message contains `where`.
    """
    record = read_record(line, where)
    if isinstance(record, Started):
        raise _unreadable(where, "not an observation")
    return record


def read_record(line: str, where: str) -> Started | Observation:
    """The record in one line of JSON.

    Raises:
        RecordsError: it is not a record of schema 1. The message contains `where`.
    """
    return _decode(line, where)


_ENDS = f'"schema":{SCHEMA}}}'
"""The end of a line that `to_json` wrote."""


def _decode(line: str, where: str) -> Started | Observation:
    """The record in `line`. A valid line is parsed and validated in one step, which saves a quarter of a report's time.

    Other lines are decoded in steps, for the error message.
    """
    text = line.rstrip("\n")
    if text.endswith(_ENDS):
        kind: type[Started | Observation] = Started if '"started":' in text else Observation
        with contextlib.suppress(ValidationError):
            return _with_lacks(_adapter(kind).validate_json(text), text)
    return _decode_in_steps(text, where)


def _with_lacks(record: Started | Observation, text: str) -> Started | Observation:
    """`record`, read from `text`, with the names of the fields that its text does not have."""
    if not isinstance(record, Observation):
        return record
    missing: tuple[str, ...] = lacking(json.loads(text))
    return dataclasses.replace(record, lacks=tuple(sorted({*record.lacks, *missing}))) if missing else record


def _decode_in_steps(line: str, where: str) -> Started | Observation:
    try:
        raw = json.loads(line)
        if raw.get("schema") != SCHEMA:
            raise _unreadable(where, f"schema {raw.get('schema')!r}, this harness reads {SCHEMA}")
        if "started" in raw:
            return _adapter(Started).validate_python(raw)
        return _with_lacks(_adapter(Observation).validate_python(raw), line)
    except ValidationError as error:
        raise _unreadable(where, _first(error)) from None
    except AttributeError:
        raise _unreadable(where, "not a JSON object") from None
    except RecursionError:
        raise _unreadable(where, "not a JSON object: it is nested too deep") from None
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
        RecordsError: a file is not a valid row, or its name is not that of its stack.
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
            raise _unreadable(str(path), f"is the row of the stack {row.name!r}, but has another name")
        if any(parse_cell(cell).stack != row.name for cell in row.selected):
            raise _unreadable(str(path), f"selects cells of another stack than {row.name}")
        rows.append(row)
    return tuple(rows)


def write_row(run: Path, row: StackRow) -> None:
    """Write one stack's row into the run.

    Raises:
        RecordsError: its name is not valid in a file name.
    """
    if not is_stack(row.name):
        raise _unreadable(str(run), f"{row.name!r} cannot be the name of a stack")
    row = dataclasses.replace(row, reason=redact_here(row.reason))
    write_atomically(run / "rows" / f"{row.name}.json", json.dumps(dataclasses.asdict(row), indent=1) + "\n")


def read_origin(run: Path) -> Origin | None:
    """The origin of a baseline; None for any other run.

    Raises:
        RecordsError: its `provenance.json` cannot be read.
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
    """Selected cells that did not run, because the time budget was used up."""
    return tuple(_text_of(run / _LEFT_OUT).split("\n")[:-1])


def write_left_out(run: Path, cells: Sequence[str]) -> None:
    """Record the selected cells that did not run, because the time budget was used up."""
    write_atomically(run / _LEFT_OUT, "".join(f"{cell}\n" for cell in cells))


_LEFT_OUT = "left-out.txt"


def read_addresses(run: Path) -> dict[str, str]:
    """Addresses by cell id, of the cells whose observations were cached before any session started.

    Raises:
        RecordsError: the file of addresses is not valid.
    """
    try:
        return dict(_adapter(_Addresses).validate_json(_text_of(run / _STORED) or "{}"))
    except ValidationError as error:
        raise _unreadable(str(run / _STORED), _first(error)) from None


def write_addresses(run: Path, addresses: Mapping[str, str]) -> None:
    """Record the store addresses of the observations that were copied into the run."""
    write_atomically(run / _STORED, json.dumps(addresses, indent=0) + "\n")


_STORED = "stored.json"

_Addresses = dict[str, str]


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def remove_row(run: Path, stack: str) -> None:
    """Remove the row of a stack without cells to run."""
    (run / "rows" / f"{stack}.json").unlink(missing_ok=True)


class Growing:
    """Reads the observations of a run that grows: each line once, however often it is asked."""

    def __init__(self) -> None:
        self._started: dict[str, Started] = {}
        self._observed: dict[str, Observation] = {}
        self._offset = 0

    def read(self, path: Path) -> tuple[dict[str, Started], dict[str, Observation]]:
        """The same as `read_observations`, for the one file that is always given.

        Raises:
            RecordsError: a line is not a record of schema 1.
        """
        if path.exists():
            with path.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # the next call reads the complete line
                    self._offset += len(line)
                    record = read_record(line.decode(), str(path))
                    if isinstance(record, Started):
                        self._started[record.cell] = record
                        self._observed.pop(record.cell, None)  # as in `read_observations`
                    else:
                        self._observed[record.cell] = record
        return dict(self._started), dict(self._observed)


def judged(run: Path, ledger: Ledger, *, only: str | None = None, growing: Growing | None = None) -> Results:
    """Read a run and judge every selected cell with `ledger`; if `only` is given, only the cells of that stack.

    Args:
        run: the directory of the run.
        ledger: the known issues.
        only: a stack.
        growing: what was read before, of a run that is read again while it grows.

    Raises:
        RecordsError: a file of the run cannot be read.
    """
    file = run / "observations.jsonl"
    rows = tuple(row for row in read_rows(run) if only in (None, row.name))
    others = _for_another(rows)
    # Before anything is read: pages of memory that two processes share are copied when one of them looks.
    with aside(lambda: _judge_apart(file, others, ledger), worth_it=bool(others)) as apart:
        if growing is not None:
            started, observed = growing.read(file)
        else:
            started, observed = read_observations(file, only=None if only is None else {only})
        rows = _with_strays(rows, {*started, *observed})
        names = {row.name for row in others}
        found = {row.name: list(_judge_row(row, started, observed, ledger)) for row in rows if row.name not in names}
    found |= apart.result
    verdicts = tuple(verdict for row in rows for verdict in found[row.name])
    left_out = tuple(cell for cell in read_left_out(run) if only in (None, parse_cell(cell).stack))
    return Results(run, rows, observed, verdicts, left_out, read_origin(run), _uncovered(observed.values()))


def _uncovered(observed: Iterable[Observation]) -> dict[str, Uncovered]:
    first = {seen.stack.name: seen for seen in observed}
    return {name: uncovered(trace) for name, seen in first.items() if (trace := trace_of(seen)) is not None}


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
    """The rows, completed with the cells that left a line: in rows that did not run, and in new rows for stacks whose
    session was killed before it wrote one.
    """
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
    """The reason why a started cell has no observation, in one sentence."""
    if end is None:
        return "started and left no observation: its process crashed, hung past its limit, or was killed"
    held = f"{end.resident_bytes:,} bytes resident" if end.resident_bytes else "its memory was not measured"
    match end.cause:
        case EndCause.MEMORY:
            return f"ended after {end.seconds:.0f} s, over its memory limit: {held}"
        case EndCause.TIME:
            return f"ended after {end.seconds:.0f} s, over its time limit; {held}"
        case EndCause.CRASH:
            return f"its process crashed or was killed after {end.seconds:.0f} s; {held}"
    assert_never(end.cause)


def judge_one(seen: Observation, ledger: Ledger) -> Verdict:
    """The verdict on one observation, with the current ledger and checks.

    Verdicts are cached in the process, because progress, a stack's table and the whole run need the same verdict.
    """
    listed = ledger.listed(seen.flow, seen.variant, seen.device.kind, seen.stack.resolved)
    known = _JUDGED.get(seen.cell)
    if known is None or known[:2] != (seen, listed):
        known = _JUDGED[seen.cell] = (seen, listed, judge(seen, flow_named(seen.flow), listed))
    return known[2]


_JUDGED: dict[str, tuple[Observation, tuple[Deviation, ...], Verdict]] = {}
"""The last verdict on each cell, with its inputs. Comparing the inputs takes an eighth of the time of judging."""


def verdict_lines(verdicts: Sequence[Verdict]) -> str:
    """`verdicts.jsonl`: one JSON object per verdict."""
    adapter = _adapter(Verdict)
    return "".join(f"{adapter.dump_json(verdict).decode()}\n" for verdict in verdicts)


def refuse_other_latest(runs: Path) -> None:
    """Refuse a `latest` in `runs` that is not a link, before anything runs. The link could not replace it.

    Raises:
        CompatError: `latest` is a file or a directory.
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
    """Point the link `latest` at `run` atomically: a reader sees the previous run or this one.

    Raises:
        CompatError: `latest` is not a link.
    """
    run = run.resolve()
    refuse_other_latest(run.parent)
    link_atomically(run.parent / LATEST, run.name)


def finished_run(name: str, runs: Path | None = None) -> Path:
    """The directory of the run called `name` in `runs`.

    Raises:
        UnknownName: there is no such run.
        RecordsError: the directory is not a run.
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
