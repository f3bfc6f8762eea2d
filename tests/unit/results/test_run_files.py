"""The files of a run: they are read as they were written, and judged without losing a selected cell."""

from __future__ import annotations

import dataclasses
import gzip
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import FULL, LISTED, UNLISTED, frozen, healthy, masked_labels, on_trl
from finetune_compat.checks import Outcome, Symptom, Verdict, judge
from finetune_compat.contract.errors import CompatError, ExitCode, RecordsError, UnknownName
from finetune_compat.contract.records import Message, Observation, Stage, Started, to_json
from finetune_compat.machine.files import locked, write_atomically
from finetune_compat.results import run_files
from finetune_compat.results.run_files import (
    Growing,
    RowState,
    StackRow,
    find_run,
    judge_one,
    judged,
    observation_lines,
    point_latest_at,
    read_observations,
    read_origin,
    read_rows,
    refuse_other_latest,
    unfinished,
    verdict_lines,
    write_row,
)
from finetune_compat.run.progress import Follower

STACK = "trl0.22-py311"
SEEN = healthy(stack=STACK, versions=on_trl("0.22.2"))
STARTED = Started(cell=SEEN.cell, started="2026-11-20T12:00:00+00:00")
ADVICE = (
    "The file was edited, cut off in the middle, or written by another version of the harness.\n"
    "Run the stack again, or read the file with the harness version that wrote it."
)


def stored(run: Path, *records: Observation | Started, cut_off: str = "") -> Path:
    """Write the observations file of a run."""
    run.mkdir(exist_ok=True)
    path = run / "observations.jsonl"
    path.write_text("".join(f"{to_json(record)}\n" for record in records) + cut_off, encoding="utf-8")
    return path


def ran(*cells: str, name: str = STACK) -> StackRow:
    """Return the row of a stack that ran."""
    return StackRow(name, RowState.RAN, "", cells)


# ------------------------------------------------------------------------------------------------------------ reading


def test_started_and_observed_cells_are_distinguished(tmp_path: Path) -> None:
    """They are distinguished by cell id."""
    started, observed = read_observations(stored(tmp_path, STARTED, SEEN))
    assert (started, observed) == ({SEEN.cell: STARTED}, {SEEN.cell: SEEN})


def test_a_later_observation_of_a_cell_replaces_an_earlier_one(tmp_path: Path) -> None:
    """The last result of a cell counts."""
    again = dataclasses.replace(SEEN, seed=99)
    assert read_observations(stored(tmp_path, SEEN, again))[1] == {SEEN.cell: again}


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_cut_off_last_line_is_a_killed_cell_and_no_fault(tmp_path: Path, cut: int) -> None:
    """The lines before it are read."""
    path = stored(tmp_path, STARTED, cut_off=to_json(SEEN)[:cut])
    assert read_observations(path) == ({SEEN.cell: STARTED}, {})


@pytest.mark.parametrize("cut", [10, 400, -1])
def test_a_line_that_a_full_disk_cut_off_costs_one_cell(tmp_path: Path, cut: int) -> None:
    """The next process that appends continues the incomplete line. Its own record and all others are read."""
    other = dataclasses.replace(SEEN, cell=f"{SEEN.cell}x")
    path = stored(tmp_path, STARTED, cut_off=f"{to_json(other)[:cut]}{to_json(SEEN)}\n")
    assert read_observations(path) == ({SEEN.cell: STARTED}, {SEEN.cell: SEEN})
    assert observation_lines(tmp_path) == {SEEN.cell: to_json(SEEN)}
    follower = Follower(path)
    follower._offset = 0
    assert [*follower.lines()] == [f"{to_json(record)}\n" for record in (STARTED, SEEN)]


def test_a_run_without_observations_has_none(tmp_path: Path) -> None:
    """A missing and an empty file are no errors: no cell finished."""
    assert read_observations(tmp_path / "observations.jsonl") == ({}, {})
    assert read_observations(stored(tmp_path)) == ({}, {})


def test_packed_observations_are_read_as_well(tmp_path: Path) -> None:
    """Baselines are packed; if both files exist, the plain one counts, because a run still appends to it."""
    path = stored(tmp_path, STARTED, SEEN)
    plain = path.read_bytes()
    packed = path.with_name("observations.jsonl.gz")
    packed.write_bytes(gzip.compress(plain))
    path.unlink()
    assert read_observations(path) == ({SEEN.cell: STARTED}, {SEEN.cell: SEEN})
    stored(tmp_path, STARTED)
    assert read_observations(path) == ({SEEN.cell: STARTED}, {})


@pytest.mark.parametrize("cut", [5, -5])
def test_a_packed_file_that_is_cut_off_is_one_message(tmp_path: Path, cut: int) -> None:
    """An incomplete download of a baseline is no run."""
    path = tmp_path / "observations.jsonl"
    path.with_name("observations.jsonl.gz").write_bytes(gzip.compress(to_json(SEEN).encode())[:cut])
    with pytest.raises(RecordsError) as raised:
        read_observations(path)
    assert str(raised.value).startswith(f"{path}: cannot be read as text: ")


def without(record: dict[str, object], field: str) -> str:
    """Return the record without one of its fields."""
    return json.dumps({name: value for name, value in record.items() if name != field})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("x", "not a JSON object: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "not a JSON object"),
        ('{"schema": 99}', "schema 99, this harness reads 1"),
        ("{}", "schema None, this harness reads 1"),
        (without(json.loads(to_json(SEEN)), "variant"), "variant: Field required"),
        (
            to_json(SEEN).replace('"nf4"', '"nf3"'),
            "variant.precision: Input should be 'nf4', 'nf4-plain', 'int8', 'full', 'nf4-bf16' or 'bf16'",
        ),
    ],
)
def test_an_invalid_line_is_one_message_with_its_place(tmp_path: Path, line: str, problem: str) -> None:
    """It has the file, the line, the error, its usual cause, and the remedy."""
    path = stored(tmp_path, STARTED, cut_off=f"{line}\n")
    with pytest.raises(RecordsError) as raised:
        read_observations(path)
    assert str(raised.value) == f"{path}:2: {problem}\n{ADVICE}"
    assert raised.value.exit_code is ExitCode.BAD_INPUT


def test_a_row_survives_its_file(tmp_path: Path) -> None:
    """This covers every state, with a reason of several lines."""
    names = [f"trl0.{i}-py311" for i in range(len(RowState))]
    rows = [
        StackRow(name, state, "first\nsecond", (f"{name}/a", f"{name}/b"))
        for name, state in zip(names, RowState, strict=True)
    ]
    for row in rows:
        write_row(tmp_path, row)
    assert list(read_rows(tmp_path)) == rows


def test_a_row_with_cells_of_another_stack_is_one_message(tmp_path: Path) -> None:
    """They would be judged under the wrong name."""
    write_row(tmp_path, StackRow("trl0.22-py311", RowState.RAN, "", ("trl0.23-py311/a",)))
    with pytest.raises(RecordsError) as raised:
        read_rows(tmp_path)
    path = tmp_path / "rows" / "trl0.22-py311.json"
    assert str(raised.value) == f"{path}: selects cells of another stack than trl0.22-py311\n{ADVICE}"


def test_a_row_that_is_no_row_is_one_message(tmp_path: Path) -> None:
    """No traceback is printed."""
    path = tmp_path / "rows" / "trl0.22-py311.json"
    write_atomically(path, '{"name": "trl0.22-py311"}')
    with pytest.raises(RecordsError) as raised:
        read_rows(tmp_path)
    assert str(raised.value) == f"{path}: state: Field required\n{ADVICE}"


# ------------------------------------------------------------------------------------------------------------ judging


def test_every_selected_cell_has_a_verdict_in_the_order_of_selection(tmp_path: Path) -> None:
    """This covers cells that were observed, that never finished, and that never started."""
    lost = dataclasses.replace(STARTED, cell=f"{STACK}/sft-full[qwen2-full-gc]@cpu")
    stored(tmp_path, lost, SEEN)
    write_row(tmp_path, ran(f"{STACK}/trainer-peft-model[qwen2-nf4-gc]@cpu", lost.cell, SEEN.cell))
    verdicts = judged(tmp_path, UNLISTED).verdicts
    assert [(verdict.cell.partition("/")[2], verdict.outcome, verdict.reason) for verdict in verdicts] == [
        (
            "trainer-peft-model[qwen2-nf4-gc]@cpu",
            Outcome.INFRASTRUCTURE,
            "never started: the session ended before its turn",
        ),
        (
            "sft-full[qwen2-full-gc]@cpu",
            Outcome.INFRASTRUCTURE,
            "started and left no observation: its process crashed, hung past its limit, or was killed",
        ),
        ("sft-peft-model[qwen2-nf4-gc]@cpu", Outcome.PASS, "as stated"),
    ]


@pytest.mark.parametrize(
    ("state", "outcome"),
    [(RowState.UNINSTALLABLE, Outcome.UNINSTALLABLE), (RowState.INFRASTRUCTURE, Outcome.INFRASTRUCTURE)],
)
def test_a_stack_that_did_not_run_has_a_verdict(tmp_path: Path, state: RowState, outcome: Outcome) -> None:
    """It has the name of the stack and the reason."""
    write_row(tmp_path, StackRow(STACK, state, "why", ()))
    [verdict] = judged(tmp_path, UNLISTED).verdicts
    assert (verdict.cell, verdict.outcome, verdict.reason, verdict.symptom) == (STACK, outcome, "why", Symptom.UNKNOWN)


def test_a_stored_run_is_judged_with_the_ledger_of_today(tmp_path: Path) -> None:
    """The same file is a failure before its bug is listed and an xfail afterwards."""
    stored(tmp_path, frozen(SEEN))
    write_row(tmp_path, ran(SEEN.cell))
    outcomes = [judged(tmp_path, ledger).verdicts[0].outcome for ledger in (UNLISTED, LISTED)]
    assert outcomes == [Outcome.FAIL, Outcome.XFAIL]


def test_a_run_without_rows_has_no_verdicts(tmp_path: Path) -> None:
    """The summary reports an empty run."""
    assert judged(tmp_path, UNLISTED).verdicts == ()


def test_verdicts_are_lines_of_json(tmp_path: Path) -> None:
    """Each verdict is one line, also with NaN in messages."""
    stored(tmp_path, masked_labels(SEEN), healthy("sft-full", FULL, stack=STACK))
    write_row(tmp_path, ran(SEEN.cell, f"{STACK}/sft-full[qwen2-full-gc]@cpu"))
    lines = verdict_lines(judged(tmp_path, UNLISTED).verdicts).splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["fail", "pass"]


# ------------------------------------------------------------------------------------------------------------- finding


def test_a_run_is_found_by_name_by_latest_and_by_path(tmp_path: Path) -> None:
    """All three give the directory itself, not the link."""
    run = tmp_path / "20261120T120000Z-aa"
    run.mkdir()
    (tmp_path / "latest").symlink_to(run.name)
    assert {find_run(name, tmp_path) for name in (run.name, "latest", str(run))} == {run.resolve()}


def test_an_unknown_run_is_one_message_that_lists_the_known_ones(tmp_path: Path) -> None:
    """The link is not listed."""
    (tmp_path / "one").mkdir()
    (tmp_path / "latest").symlink_to("one")
    with pytest.raises(UnknownName) as raised:
        find_run("two", tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}: there is no run 'two'\n"
        "The run was never made on this machine, or its directory was removed.\n"
        "The newest are: one. A run is made by: compat run trl0.22"
    )


def test_the_directory_of_all_runs_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dot is the current directory, not the directory of runs."""
    (tmp_path / "here").mkdir()
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert find_run(".", tmp_path / "runs") == tmp_path / "here"
    with pytest.raises(UnknownName):
        find_run(str(tmp_path / "runs"), tmp_path / "runs")


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_a_latest_that_is_no_link_is_one_message_and_stays(make: Callable[[Path], None], tmp_path: Path) -> None:
    """It may be a copied run or a user's file."""
    (tmp_path / "one").mkdir()
    make(tmp_path / "latest")
    for refused in (lambda: refuse_other_latest(tmp_path), lambda: point_latest_at(tmp_path / "one")):
        with pytest.raises(CompatError) as raised:
            refused()
        assert str(raised.value) == (
            f"{tmp_path}/latest: it is not the link to the newest run\n"
            "A run was copied or imported here under that name. The link cannot take its place.\n"
            f"Rename it: mv {tmp_path}/latest {tmp_path}/latest-1. Then run the command again."
        )
        assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "one"]
    assert not (tmp_path / "latest").is_symlink()


def test_a_row_is_written_under_the_name_of_a_stack_only(tmp_path: Path) -> None:
    """This is the last check before the file system."""
    with pytest.raises(RecordsError, match=r"'\.\./x' cannot be the name of a stack"):
        write_row(tmp_path / "run", StackRow("../x", RowState.RAN, "", ()))
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------- writing


def test_a_file_is_replaced_atomically(tmp_path: Path) -> None:
    """A reader with the old file open still reads the old file."""
    path = tmp_path / "deep" / "summary.md"
    write_atomically(path, "old")
    with path.open(encoding="utf-8") as reader:
        write_atomically(path, "new")
        assert reader.read() == "old"
    assert path.read_text(encoding="utf-8") == "new"
    assert [found.name for found in path.parent.iterdir()] == ["summary.md"]


def test_the_lock_has_one_holder(tmp_path: Path) -> None:
    """A second session waits until the first has finished."""
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(timeout=0.2)
        order.append("first")
    thread.join(timeout=5)
    assert order == ["first", "second"]


# -------------------------------------------------------------------------------- what reading must not let through


def test_a_file_that_is_no_text_is_one_message(tmp_path: Path) -> None:
    """No traceback is printed."""
    path = stored(tmp_path)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(RecordsError) as raised:
        read_observations(path)
    problem = "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    assert str(raised.value) == f"{path}: cannot be read as text: {problem}\n{ADVICE}"


def test_an_observation_whose_stack_has_no_row_is_not_lost(tmp_path: Path) -> None:
    """A session that was killed before it wrote its row has such cells."""
    other = healthy(stack="trl0.24-py311")
    lost = dataclasses.replace(STARTED, cell=f"{STACK}/sft-full[qwen2-full-gc]@cpu")
    stored(tmp_path, frozen(SEEN), lost, other)
    write_row(tmp_path, ran(other.cell, name="trl0.24-py311"))
    found = judged(tmp_path, UNLISTED)
    assert [(row.name, row.state, row.selected) for row in found.rows] == [
        ("trl0.24-py311", RowState.RAN, (other.cell,)),
        (STACK, RowState.INFRASTRUCTURE, (lost.cell, SEEN.cell)),
    ]
    assert [(verdict.cell, verdict.outcome) for verdict in found.verdicts] == [
        (other.cell, Outcome.PASS),
        (STACK, Outcome.INFRASTRUCTURE),
        (lost.cell, Outcome.INFRASTRUCTURE),
        (SEEN.cell, Outcome.FAIL),
    ]


def test_a_stack_whose_name_begins_another_has_its_own_cells(tmp_path: Path) -> None:
    """`trl0.2` is no prefix of `trl0.22`, also if neither has a row."""
    short = healthy(stack="trl0.2")
    stored(tmp_path, SEEN, short)
    assert [(row.name, row.selected) for row in judged(tmp_path, UNLISTED).rows] == [
        ("trl0.2", (short.cell,)),
        (STACK, (SEEN.cell,)),
    ]


def test_a_session_that_has_not_ended_is_never_a_pass(tmp_path: Path) -> None:
    """This is the content of a row until the cells have run."""
    write_row(tmp_path, unfinished(STACK, ()))
    [verdict] = judged(tmp_path, UNLISTED).verdicts
    assert (verdict.cell, verdict.outcome) == (STACK, Outcome.INFRASTRUCTURE)
    assert verdict.reason == "its session has not ended: it is still running, or it was killed"


def test_written_files_can_be_read_by_others(tmp_path: Path) -> None:
    """Reports are collected by other users of a CI machine."""
    path = tmp_path / "summary.md"
    write_atomically(path, "text")
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    """The old file stays, and there is no partial new one."""
    path = tmp_path / "summary.md"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert [found.name for found in tmp_path.iterdir()] == ["summary.md"]
    assert path.read_text(encoding="utf-8") == "old"


def test_a_run_has_a_name(tmp_path: Path) -> None:
    """The empty name does not mean the directory of all runs."""
    with pytest.raises(UnknownName):
        find_run("", tmp_path)


def test_a_retry_that_crashes_is_not_judged_by_the_first_try(tmp_path: Path) -> None:
    """A cell that starts again counts as not observed until it ends."""
    write_row(tmp_path, ran(SEEN.cell))
    lines = [to_json(SEEN), to_json(Started(cell=SEEN.cell, started="2026-11-20T12:00:00+00:00"))]
    (tmp_path / "observations.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    [verdict] = judged(tmp_path, UNLISTED).verdicts
    assert verdict.outcome is Outcome.INFRASTRUCTURE


def test_a_packed_file_that_is_broken_is_one_message(tmp_path: Path) -> None:
    """The message has the path and the remedy for a truncated baseline."""
    (tmp_path / "observations.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 99)[:-9])
    with pytest.raises(RecordsError, match="cannot be read as text"):
        read_observations(tmp_path / "observations.jsonl")


# ------------------------------------------------------------------------------------------------------------- speed


def test_both_ways_of_reading_give_the_same_record(tmp_path: Path) -> None:
    """Lines as this harness writes them take the fast path; a blank at the end forces the other."""
    strange = Message(Stage.LOAD, "UserWarning", 'says "started": and \ud800 and "schema":1}', 2)
    nan = dataclasses.replace(SEEN, warnings=(strange,), duration_s=float("inf"))
    for record in (STARTED, SEEN, nan):
        fast, wary = (stored(tmp_path / way, record) for way in ("fast", "wary"))
        wary.write_text(wary.read_text(encoding="utf-8").replace("}\n", "} \n"), encoding="utf-8")
        assert read_observations(fast) == read_observations(wary)
        assert list((read_observations(fast)[0 if record is STARTED else 1]).values()) == [record]


def test_verdict_lines_are_the_verdicts_fields() -> None:
    """Each line has every field, in order."""
    verdicts = [judge_one(seen, LISTED) for seen in (SEEN, frozen(SEEN), masked_labels(SEEN))]
    lines = [list(json.loads(line).items()) for line in verdict_lines(verdicts).splitlines()]
    assert lines == [list(json.loads(json.dumps(dataclasses.asdict(verdict))).items()) for verdict in verdicts]


def test_an_observation_is_judged_once_per_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds however often its run is read; its inputs may not have changed."""
    judgements: list[str] = []

    def counting(seen: Observation, *given: object) -> Verdict:
        judgements.append(seen.cell)
        return judge(seen, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(run_files, "judge", counting)
    monkeypatch.setattr(run_files, "_JUDGED", {})
    write_row(tmp_path, ran(SEEN.cell))
    (tmp_path / "observations.jsonl").write_text(f"{to_json(SEEN)}\n")
    verdicts = [judged(tmp_path, UNLISTED).verdicts, judged(tmp_path, UNLISTED, only=STACK).verdicts]
    assert verdicts == [(run_files.judge_one(SEEN, UNLISTED),)] * 2
    assert judgements == [SEEN.cell]
    run_files.judge_one(SEEN, LISTED)
    run_files.judge_one(dataclasses.replace(SEEN, seed=SEEN.seed + 1), LISTED)
    assert judgements == [SEEN.cell] * 3


def test_provenance_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """The message has the path."""
    (tmp_path / "provenance.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RecordsError, match="first_cell") as caught:
        read_origin(tmp_path)
    assert str(tmp_path / "provenance.json") in str(caught.value)


def test_a_run_that_grows_is_read_as_one_that_ended(tmp_path: Path) -> None:
    """Each line once, incomplete lines later, and a cell that runs again without its earlier observation."""
    path, growing = tmp_path / "observations.jsonl", Growing()
    one, other = healthy(), healthy(stack="trl0.23-py311")
    assert growing.read(path) == ({}, {})
    lines = [to_json(one), to_json(Started(cell=one.cell, started="2026-11-30T00:00:00+00:00")), to_json(other)]
    with path.open("a") as file:
        for line in lines:
            file.write(line[:20])
            file.flush()
            assert growing.read(path) == read_observations(path)
            file.write(line[20:] + "\n")
            file.flush()
            assert growing.read(path) == read_observations(path)
    assert set(growing.read(path)[1]) == {other.cell}
