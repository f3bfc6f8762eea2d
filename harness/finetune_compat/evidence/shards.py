"""A run of the whole matrix on several machines: split into parts of similar duration, and merged afterwards."""

from __future__ import annotations

import heapq
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.contract.errors import CompatError, why
from finetune_compat.contract.names import check_run_id, is_stack
from finetune_compat.contract.records import Observation
from finetune_compat.machine.files import making, write_atomically
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import RowState, StackRow, read_observations, read_rows, whole_lines, write_row
from finetune_compat.stacks.matrix import Matrix, session_of

MOST_JOBS = 256
"""Maximum number of jobs in a matrix of GitHub Actions."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The stacks that one machine runs."""

    name: str
    stacks: tuple[str, ...]
    sessions: tuple[str, ...]
    """nox sessions, one for each stack."""
    seconds: float
    """Duration of the cells of these stacks in the baseline."""


def shards_of(matrix: Matrix, jobs: int, baseline: str) -> tuple[Shard, ...]:
    """Split the stacks of the matrix into at most `jobs` parts of similar duration, by a committed baseline.

    For a stack without a duration in the baseline, the median is used.

    Raises:
        CompatError: the baseline does not exist, or `jobs` is not from 1 to `MOST_JOBS`.
        RecordsError: the baseline cannot be read.
    """
    if not 1 <= jobs <= MOST_JOBS:
        raise CompatError(
            f"{jobs} jobs",
            where="--jobs",
            meaning=f"GitHub Actions starts at most {MOST_JOBS} jobs of a matrix, and 0 jobs run nothing.",
            todo=f"Give a number from 1 to {MOST_JOBS}.",
        )
    baselines = places().baselines
    there = sorted(found.name for found in baselines.iterdir() if found.is_dir())
    if baseline not in there:
        raise CompatError(
            f"there is no baseline {baseline!r}", where=str(baselines), todo=f"There are: {', '.join(there)}."
        )
    names = [stack.on(python) for stack in matrix.stacks for python in stack.pythons]
    _, observed = read_observations(baselines / baseline / "observations.jsonl")
    return _packed(names, _durations(observed), jobs)


def _durations(observed: Mapping[str, Observation]) -> dict[str, float]:
    taken: dict[str, float] = {}
    for seen in observed.values():
        taken[seen.stack.name] = taken.get(seen.stack.name, 0.0) + seen.duration_s
    return taken


def _packed(names: Sequence[str], taken: Mapping[str, float], jobs: int) -> tuple[Shard, ...]:
    """Assign the longest stacks first, each to the machine with the least work: at most 4/3 of the optimal duration."""
    usual = statistics.median(taken.values()) if taken else 0.0
    count = min(jobs, len(names))
    free: list[tuple[float, int]] = [(0.0, place) for place in range(count)]
    parts: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(names, key=lambda name: (-taken.get(name, usual), name)):
        seconds, place = heapq.heappop(free)
        parts[place].append(name)
        heapq.heappush(free, (seconds + taken.get(name, usual), place))
    return tuple(
        Shard(
            name=f"{place} of {count}",
            stacks=tuple(part),
            sessions=tuple(session for name in part if (session := session_of(name)) is not None),
            seconds=round(sum(taken.get(name, usual) for name in part), 1),
        )
        for place, part in enumerate(parts, 1)
    )


def planned(path: Path) -> tuple[str, ...]:
    """The stacks in the output of `compat shards --json`.

    Raises:
        CompatError: the file cannot be read, or is not such an output.
    """
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(str(name) for part in plan["include"] for name in part["stacks"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = "it has another structure" if isinstance(error, TypeError) else why(error)
        raise _no_plan(path, f"it has no {error}" if isinstance(error, KeyError) else problem) from None
    odd = next((name for name in names if not is_stack(name)), None)
    if odd is not None:
        raise _no_plan(path, f"{odd!r} is not a valid name of a stack")
    return names


def _no_plan(path: Path, problem: str) -> CompatError:
    return CompatError(
        f"not a plan: {problem}",
        where=str(path),
        meaning="Without the plan, a stack whose machine was lost would not be noticed.",
        todo=f"Make it with: compat shards --json > {path}",
    )


def collect(stacks: Sequence[str], parts: Sequence[Path], run: Path) -> None:
    """Merge the runs of several machines into one.

    A stack without a row, because its machine was lost, gets an infrastructure row, so that the run is not healthy.

    Args:
        stacks: all stacks of the plan.
        parts: directories of runs; a missing one has no results.
        run: directory for the merged run.

    Raises:
        CompatError: the directory exists, or its name is not a valid run id.
        RecordsError: a file of a part cannot be read, or a stack has an invalid name. Nothing is written.
    """
    check_run_id(run.absolute().name, f"--run {run}")
    if run.exists():
        raise CompatError("the directory exists already", where=str(run), todo="Name a directory that does not exist.")
    found: dict[str, StackRow] = {row.name: row for part in parts for row in read_rows(part)}
    # An incomplete last line, of a lost machine, must not merge with the first line of the next part.
    texts = [whole_lines(part / "observations.jsonl") for part in parts]
    with making(run) as whole:
        write_atomically(whole / "observations.jsonl", "".join(texts))
        for name in dict.fromkeys((*stacks, *found)):
            write_row(whole, found.get(name) or _lost(name))


def _lost(stack: str) -> StackRow:
    return StackRow(stack, RowState.INFRASTRUCTURE, "its machine left no results: it never started, or was lost", ())
