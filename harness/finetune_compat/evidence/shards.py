"""A run of the whole matrix on several machines: cut into parts of even length beforehand, put together afterwards."""

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
"""Jobs of one matrix that GitHub Actions starts."""


@dataclass(frozen=True, slots=True)
class Shard:
    """What one machine runs."""

    name: str
    stacks: tuple[str, ...]
    sessions: tuple[str, ...]
    """Of nox, one a stack."""
    seconds: float
    """What the cells of these stacks took when they were measured."""


def shards_of(matrix: Matrix, jobs: int, baseline: str) -> tuple[Shard, ...]:
    """All stacks of the matrix in at most `jobs` parts of even length, by the durations in a committed baseline.

    A stack that the baseline does not have is taken to be as long as the median one.

    Raises:
        CompatError: there is no such baseline, or no machine is to run anything, or more than can be started.
        RecordsError: the baseline cannot be read.
    """
    if not 1 <= jobs <= MOST_JOBS:
        raise CompatError(
            f"{jobs} jobs",
            where="--jobs",
            meaning=f"The provider starts at most {MOST_JOBS} jobs of a matrix, and fewer than one run nothing.",
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
    """The longest first, each to the machine that has least to do: at most a third longer than the best there is."""
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
    """The stacks in what `compat shards --json` said.

    Raises:
        CompatError: the file cannot be read, or is something else.
    """
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(str(name) for part in plan["include"] for name in part["stacks"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = "it holds something else" if isinstance(error, TypeError) else why(error)
        raise _no_plan(path, f"it has no {error}" if isinstance(error, KeyError) else told) from None
    odd = next((name for name in names if not is_stack(name)), None)
    if odd is not None:
        raise _no_plan(path, f"{odd!r} cannot be the name of a stack")
    return names


def _no_plan(path: Path, problem: str) -> CompatError:
    return CompatError(
        f"not a plan: {problem}",
        where=str(path),
        meaning="Without it a stack whose machine was lost would go unnoticed.",
        todo=f"Make it with: compat shards --json > {path}",
    )


def collect(stacks: Sequence[str], parts: Sequence[Path], run: Path) -> None:
    """Put the runs of several machines together as one.

    A stack that left no row, as its machine was lost, gets one that says so: what nobody looked at is never green.

    Args:
        stacks: all that were to run.
        parts: directories of runs; one that is not there has nothing.
        run: where the whole run is written.

    Raises:
        CompatError: the directory has a run already, or a name that no run may have.
        RecordsError: a file of a part cannot be read, or a stack has a name that no stack may have. Nothing is written.
    """
    check_run_id(run.absolute().name, f"--run {run}")
    if run.exists():
        raise CompatError("there is a run already", where=str(run), todo="Name a directory that is not there yet.")
    found: dict[str, StackRow] = {row.name: row for part in parts for row in read_rows(part)}
    # A line that was cut off when its machine was lost must not swallow the first of the next part.
    texts = [whole_lines(part / "observations.jsonl") for part in parts]
    with making(run) as whole:
        write_atomically(whole / "observations.jsonl", "".join(texts))
        for name in dict.fromkeys((*stacks, *found)):
            write_row(whole, found.get(name) or _lost(name))


def _lost(stack: str) -> StackRow:
    return StackRow(stack, RowState.INFRASTRUCTURE, "its machine left nothing: it never started, or was lost", ())
