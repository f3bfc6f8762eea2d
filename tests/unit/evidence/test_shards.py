"""A run on several machines: parts of similar length, and every loss is reported."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import builders as b
import pytest
from finetune_compat.checks import Outcome
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.catalog import Tier, cells_on
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError, ExitCode, RecordsError
from finetune_compat.contract.records import DeviceKind, Observation
from finetune_compat.evidence import shards
from finetune_compat.evidence.shards import (
    cells_of_matrix,
    collect,
    job_matrix,
    planned,
    shards_of,
    write_shards,
)
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import RowState, StackRow, judged
from finetune_compat.results.summary import summarize
from finetune_compat.run.estimate import expected
from finetune_compat.run.parts import split
from finetune_compat.stacks.matrix import read_matrix

BASELINES = places().baselines


@pytest.fixture(autouse=True)
def _baselines_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading one takes seconds."""
    monkeypatch.setattr(shards, "durations", READ_ONCE)


READ_ONCE = functools.cache(shards.durations)


@pytest.mark.parametrize(("device", "tier"), [(DeviceKind.CPU, Tier.FULL), (DeviceKind.CUDA, Tier.DEEP)])
def test_the_matrix_is_cut_whole(device: DeviceKind, tier: Tier) -> None:
    """Every cell is in one part, on each Python of its stack, and each stack of a part has a real session."""
    matrix = read_matrix()
    by_stack = cells_of_matrix(matrix, device, tier)
    parts = shards_of(matrix, 3, "cpu", device, tier)
    assert sorted(cell for part in parts for cell in part.ids) == sorted(
        c for cells in by_stack.values() for c in cells
    )
    assert by_stack.keys() == {stack.on(python) for stack in matrix.stacks for python in stack.pythons}
    assert {name for part in parts for name in part.stacks} == by_stack.keys()
    assert "compat-3.11(trl='0.22')" in {session for part in parts for session in part.sessions}
    assert all(len(part.sessions) == len(part.stacks) for part in parts)


def test_the_parts_of_the_committed_baseline_are_even() -> None:
    """With a job for each measured stack. By whole stacks, the longest was 3.4 times the mean."""
    took = READ_ONCE("cpu", DeviceKind.CPU, Tier.FULL).seconds
    parts = split(expected(took, took), len({parse_cell(cell).stack for cell in took}))
    longest, total = max(part.seconds for part in parts), sum(part.seconds for part in parts)
    assert longest <= 1.05 * total / len(parts)


def test_a_job_matrix_of_the_most_jobs_is_small_enough() -> None:
    """GitHub limits an output of a job to 1 MB."""
    assert len(job_matrix(shards_of(read_matrix(), 256, "cpu"))) < 1_000_000


def test_the_deep_tier_takes_longer() -> None:
    """Its own durations replace those of the quick tier."""
    quick, deep = (READ_ONCE("cpu", DeviceKind.CPU, tier) for tier in (Tier.FULL, Tier.DEEP))
    assert sum(deep.seconds.values()) > sum(quick.seconds.values())


def test_a_stack_that_cannot_be_installed_is_reported_by_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no cells, and its session says why."""
    first, second = two_cells()
    by_stack = {"trl0.22-py311": (), "trl0.24-py311": (first.cell, second.cell)}
    monkeypatch.setattr(shards, "cells_of_matrix", lambda *_: by_stack)
    (part,) = shards_of(read_matrix(), 4, "cpu")
    assert part.stacks == ("trl0.24-py311", "trl0.22-py311")
    assert part.ids == (first.cell, second.cell)
    monkeypatch.setattr(shards, "cells_of_matrix", lambda *_: {"trl0.22-py311": ()})
    assert [part.sessions for part in shards_of(read_matrix(), 4, "cpu")] == [("compat-3.11(trl='0.22')",)]


def test_a_written_plan_is_read_again(tmp_path: Path) -> None:
    """Its cells are those of the files next to it."""
    parts = shards_of(read_matrix(), 5, "cpu")
    write_shards(parts, tmp_path / "plan")
    plan = planned(tmp_path / "plan" / "plan.json")
    assert {name: set(cells) for name, cells in plan.items()} == {
        name: set(cells) for name, cells in cells_of_matrix(read_matrix(), DeviceKind.CPU, Tier.FULL).items()
    }
    for job in json.loads((tmp_path / "plan" / "plan.json").read_text())["include"]:
        assert {parse_cell(cell).stack for cell in (tmp_path / "plan" / job["cells"]).read_text().splitlines()} <= set(
            job["stacks"]
        )


def test_no_plan_is_overwritten(tmp_path: Path) -> None:
    """A machine may be running it."""
    with pytest.raises(CompatError, match="the directory exists already"):
        write_shards(shards_of(read_matrix(), 2, "cpu"), tmp_path)


@pytest.mark.parametrize("jobs", [0, 257])
def test_more_machines_than_the_provider_starts_are_refused(jobs: int) -> None:
    """They are refused before anything is read."""
    with pytest.raises(CompatError) as caught:
        shards_of(read_matrix(), jobs, "cpu")
    assert str(caught.value) == (
        f"--jobs: {jobs} jobs\nGitHub Actions starts at most 256 jobs of a matrix, and 0 jobs run nothing.\n"
        "Give a number from 1 to 256."
    )


def test_a_missing_baseline_is_refused() -> None:
    """The message lists the existing baselines."""
    with pytest.raises(CompatError) as caught:
        shards_of(read_matrix(), 1, "gpu")
    there = ", ".join(sorted(kept.name for kept in BASELINES.iterdir()))
    assert str(caught.value) == f"{BASELINES}: there is no baseline 'gpu'\nThere are: {there}."


def cells(*seen: Observation) -> dict[str, tuple[str, ...]]:
    """Return a plan of exactly these cells."""
    found: dict[str, tuple[str, ...]] = {}
    for each in seen:
        found[each.stack.name] = (*found.get(each.stack.name, ()), each.cell)
    return found


def test_parts_become_one_run(tmp_path: Path) -> None:
    """It has the rows and cells of all parts."""
    first, second = b.healthy(stack="trl0.24-py311"), b.healthy(stack="trl0.22-py311")
    b.stored(tmp_path / "one", [b.ran(first)], first)
    b.stored(tmp_path / "two", [b.ran(second)], second)
    collect(cells(first, second), [tmp_path / "one", tmp_path / "two"], tmp_path / "whole")
    results = judged(tmp_path / "whole", b.UNLISTED)
    assert [verdict.outcome for verdict in results.verdicts] == ["pass", "pass"]


def two_cells() -> tuple[Observation, Observation]:
    """Return two cells of one stack, in the order of the catalog."""
    pairs = [(flow, variant) for flow, variant in cells_on(DeviceKind.CPU) if flow.name == "sft-full"][:2]
    first, second = (b.healthy(flow.name, variant, stack="trl0.24-py311") for flow, variant in pairs)
    return first, second


def test_a_stack_in_two_parts_has_the_cells_of_both(tmp_path: Path) -> None:
    """They are in the order of the catalog, whatever the order of the parts."""
    first, second = two_cells()
    b.stored(tmp_path / "one", [b.ran(second)], second)
    b.stored(tmp_path / "two", [b.ran(first)], first)
    collect(cells(second, first), [tmp_path / "one", tmp_path / "two"], tmp_path / "whole")
    summary = summarize(judged(tmp_path / "whole", b.UNLISTED), Ledger(issues=()))
    assert summary.exit_code is ExitCode.HEALTHY
    assert [line.cell for line in summary.stack("trl0.24-py311").lines] == [first.cell, second.cell]


@pytest.mark.parametrize("left", [True, False])
def test_a_cell_that_no_part_has_is_never_green(left: bool, tmp_path: Path) -> None:
    """Another part of its stack came back, and its own did not, or could not make the environment."""
    first, second = two_cells()
    b.stored(tmp_path / "one", [b.ran(first)], first)
    if left:
        b.stored(tmp_path / "two", [StackRow("trl0.24-py311", RowState.INFRASTRUCTURE, "no registry", ())])
    collect(cells(first, second), [tmp_path / "one", tmp_path / "two"], tmp_path / "whole")
    results = judged(tmp_path / "whole", b.UNLISTED)
    assert [(verdict.cell, verdict.outcome) for verdict in results.verdicts] == [
        (first.cell, Outcome.PASS),
        (second.cell, Outcome.INFRASTRUCTURE),
    ]
    assert summarize(results, Ledger(issues=())).exit_code is ExitCode.COULD_NOT_TELL


def test_a_lost_machine_is_never_green(tmp_path: Path) -> None:
    """Its stacks are in the plan and in no part."""
    seen, lost = b.healthy(stack="trl0.24-py311"), b.healthy(stack="trl0.22-py311")
    b.stored(tmp_path / "one", [b.ran(seen)], seen)
    collect(cells(lost, seen), [tmp_path / "one", tmp_path / "gone"], tmp_path / "whole")
    summary = summarize(judged(tmp_path / "whole", b.UNLISTED), Ledger(issues=()))
    assert summary.exit_code is ExitCode.COULD_NOT_TELL
    assert summary.stack("trl0.22-py311").reason == "its machine left no results: it never started, or was lost"


def test_a_line_cut_off_does_not_swallow_the_next_part(tmp_path: Path) -> None:
    """A machine was lost while it wrote."""
    first, second = b.healthy(stack="trl0.22-py311"), b.healthy(stack="trl0.24-py311")
    b.stored(tmp_path / "one", [b.ran(first)], first)
    with (tmp_path / "one" / "observations.jsonl").open("a") as file:
        file.write('{"cell": "trl0.22')
    b.stored(tmp_path / "two", [b.ran(second)], second)
    collect({}, [tmp_path / "one", tmp_path / "two"], tmp_path / "whole")
    assert len(judged(tmp_path / "whole", b.UNLISTED).observations) == 2


def test_no_run_is_overwritten(tmp_path: Path) -> None:
    """It may be the only copy of a nightly run."""
    with pytest.raises(CompatError) as caught:
        collect({}, [], tmp_path)
    assert str(caught.value) == f"{tmp_path}: the directory exists already\nName a directory that does not exist."


@pytest.mark.parametrize("name", ["../../../x", "a/b", "..", "", "/x", "a\\b"])
def test_a_row_cannot_leave_the_directory(name: str, tmp_path: Path) -> None:
    """A row's name becomes a file name: nothing is written inside or outside the run."""
    part = b.stored(tmp_path / "deep" / "one", [b.ran(b.healthy(stack="trl0.24-py311"))])
    row = part / "rows" / "trl0.24-py311.json"
    row.write_text(json.dumps({**json.loads(row.read_text()), "name": name, "selected": []}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RecordsError) as caught:
        collect({}, [part], tmp_path / "deep" / "whole")
    assert caught.value.what == f"is the row of the stack {name!r}, but has another name"
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../../../x", "a/b", ".."])
def test_a_stack_of_a_plan_cannot_leave_the_directory(name: str, tmp_path: Path) -> None:
    """A name given in another way is refused too; what was written is removed."""
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"include": [{"stacks": ["trl0.22-py311", name], "cells": "part-1.txt"}]}))
    with pytest.raises(CompatError, match=r"not a plan: .* is not a valid name of a stack"):
        planned(path)
    with pytest.raises(CompatError, match="cannot be the name of a stack"):
        collect({"trl0.22-py311": (), name: ()}, [], tmp_path / "whole")
    assert [found.name for found in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("name", ["latest", ".lock", "none/..", "a b"])
def test_no_run_is_collected_under_a_reserved_name(name: str, tmp_path: Path) -> None:
    """`latest` is a link: a directory in its place would break every later run."""
    with pytest.raises(CompatError, match="cannot be the name of a run"):
        collect({}, [], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[]", "it has another structure"),
        ('{"include": [{}]}', "it has no 'stacks'"),
        ('{"include": [{"stacks": []}]}', "it has no 'cells'"),
        ('{"include": [{"stacks": [], "cells": "gone.txt"}]}', "gone.txt: No such file or directory"),
        ('{"include": [{"stacks": [], "cells": "../odd.txt"}]}', "'../odd.txt' is not the name of a file next to it"),
        (
            '{"include": [{"stacks": [], "cells": "odd.txt"}]}',
            "odd.txt has a cell of 'trl0.22-py311', which the plan does not name",
        ),
    ],
)
def test_an_invalid_plan_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    """Otherwise lost stacks would be unnoticed."""
    path = tmp_path / "plan.json"
    path.write_text(text)
    (tmp_path / "odd.txt").write_text("trl0.22-py311/sft-full[qwen2-full-gc]@cpu\n")
    with pytest.raises(CompatError) as caught:
        planned(path)
    assert str(caught.value) == (
        f"{path}: not a plan: {problem}\nWithout the plan, a cell whose machine was lost would not be noticed.\n"
        "Make it with: compat shards --out DIR"
    )
