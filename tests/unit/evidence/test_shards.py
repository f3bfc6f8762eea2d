"""A run on several machines: parts of similar length, and every loss is reported."""

from __future__ import annotations

import json
from pathlib import Path

import builders as b
import pytest
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.errors import CompatError, ExitCode, RecordsError
from finetune_compat.evidence.shards import MOST_JOBS, _packed, collect, planned, shards_of
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import judged
from finetune_compat.results.summary import summarize
from finetune_compat.stacks.matrix import read_matrix
from hypothesis import given
from hypothesis import strategies as st

BASELINES = places().baselines

TAKEN = st.dictionaries(st.from_regex(r"trl0\.[0-9]{1,3}-py311", fullmatch=True), st.floats(0.1, 1000), min_size=1)


@given(taken=TAKEN, jobs=st.integers(1, MOST_JOBS))
def test_every_stack_is_in_exactly_one_part(taken: dict[str, float], jobs: int) -> None:
    """No part is empty."""
    parts = _packed([*taken], taken, jobs)
    assert sorted(name for part in parts for name in part.stacks) == sorted(taken)
    assert len(parts) == min(jobs, len(taken))
    assert all(part.stacks and len(part.sessions) == len(part.stacks) for part in parts)


@given(taken=TAKEN, jobs=st.integers(1, MOST_JOBS))
def test_no_part_is_much_longer_than_it_must_be(taken: dict[str, float], jobs: int) -> None:
    """No division is shorter than the mean or the longest stack; longest-first stays within that sum."""
    parts = _packed([*taken], taken, jobs)
    least = max(sum(taken.values()) / len(parts), *taken.values())
    assert max(part.seconds for part in parts) <= 2 * least + 0.1


def test_a_stack_that_was_not_measured_counts_as_the_median() -> None:
    """Counting it as zero would put all new releases on one machine."""
    taken = {"trl0.1-py311": 10.0, "trl0.2-py311": 20.0, "trl0.3-py311": 90.0}
    (part,) = _packed(["trl0.9-py311"], taken, 1)
    assert part.seconds == 20


def test_the_matrix_is_cut_whole() -> None:
    """Every stack is there on each of its Pythons, under the name of a real session."""
    matrix = read_matrix()
    parts = shards_of(matrix, 3, "cpu")
    assert {name for part in parts for name in part.stacks} == {
        stack.on(python) for stack in matrix.stacks for python in stack.pythons
    }
    assert "compat-3.11(trl='0.22')" in {session for part in parts for session in part.sessions}
    assert len(json.dumps([part.sessions for part in parts])) < 1_000_000  # GitHub limits an output of a job to 1 MB


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


def test_parts_become_one_run(tmp_path: Path) -> None:
    """It has the rows and cells of all parts."""
    first, second = b.healthy(stack="trl0.24-py311"), b.healthy(stack="trl0.22-py311")
    b.stored(tmp_path / "one", [b.ran(first)], first)
    b.stored(tmp_path / "two", [b.ran(second)], second)
    collect(["trl0.22-py311", "trl0.24-py311"], [tmp_path / "one", tmp_path / "two"], tmp_path / "whole")
    results = judged(tmp_path / "whole", b.UNLISTED)
    assert [verdict.outcome for verdict in results.verdicts] == ["pass", "pass"]


def test_a_lost_machine_is_never_green(tmp_path: Path) -> None:
    """Its stacks are in the plan and in no part."""
    seen = b.healthy(stack="trl0.24-py311")
    b.stored(tmp_path / "one", [b.ran(seen)], seen)
    collect(["trl0.22-py311", "trl0.24-py311"], [tmp_path / "one", tmp_path / "gone"], tmp_path / "whole")
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
    collect([], [tmp_path / "one", tmp_path / "two"], tmp_path / "whole")
    assert len(judged(tmp_path / "whole", b.UNLISTED).observations) == 2


def test_no_run_is_overwritten(tmp_path: Path) -> None:
    """It may be the only copy of a nightly run."""
    with pytest.raises(CompatError) as caught:
        collect([], [], tmp_path)
    assert str(caught.value) == f"{tmp_path}: the directory exists already\nName a directory that does not exist."


@pytest.mark.parametrize("name", ["../../../x", "a/b", "..", "", "/x", "a\\b"])
def test_a_row_cannot_leave_the_directory(name: str, tmp_path: Path) -> None:
    """A row's name becomes a file name: nothing is written inside or outside the run."""
    part = b.stored(tmp_path / "deep" / "one", [b.ran(b.healthy(stack="trl0.24-py311"))])
    row = part / "rows" / "trl0.24-py311.json"
    row.write_text(json.dumps({**json.loads(row.read_text()), "name": name, "selected": []}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RecordsError) as caught:
        collect([], [part], tmp_path / "deep" / "whole")
    assert caught.value.what == f"is the row of the stack {name!r}, but has another name"
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../../../x", "a/b", ".."])
def test_a_stack_of_a_plan_cannot_leave_the_directory(name: str, tmp_path: Path) -> None:
    """A name given in another way is refused too; what was written is removed."""
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"include": [{"stacks": ["trl0.22-py311", name]}]}))
    with pytest.raises(CompatError, match=r"not a plan: .* is not a valid name of a stack"):
        planned(path)
    with pytest.raises(CompatError, match="cannot be the name of a stack"):
        collect(["trl0.22-py311", name], [], tmp_path / "whole")
    assert [found.name for found in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("name", ["latest", ".lock", "none/..", "a b"])
def test_no_run_is_collected_under_a_reserved_name(name: str, tmp_path: Path) -> None:
    """`latest` is a link: a directory in its place would break every later run."""
    with pytest.raises(CompatError, match="cannot be the name of a run"):
        collect([], [], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[]", "it has another structure"),
        ('{"include": [{}]}', "it has no 'stacks'"),
    ],
)
def test_an_invalid_plan_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    """Otherwise lost stacks would be unnoticed."""
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(CompatError) as caught:
        planned(path)
    assert str(caught.value) == (
        f"{path}: not a plan: {problem}\nWithout the plan, a stack whose machine was lost would not be noticed.\n"
        f"Make it with: compat shards --json > {path}"
    )
