"""A run of the whole matrix on several machines: split into parts of similar duration, and merged afterwards."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.contract import catalog
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.cell_id import CellId, parse_cell
from finetune_compat.contract.errors import CompatError, why
from finetune_compat.contract.names import check_run_id, is_stack
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine.files import making, write_atomically
from finetune_compat.machine.places import places
from finetune_compat.results.cpu_seconds import read_cpu_seconds
from finetune_compat.results.run_files import StackRow, read_observations, read_rows, whole_lines, write_row
from finetune_compat.run.estimate import Took, expected
from finetune_compat.run.parts import Part, merged_row, split
from finetune_compat.run.stack_run import all_cells
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import Matrix, session_of

MOST_JOBS = 256
"""Maximum number of jobs in a matrix of GitHub Actions."""

PLAN = "plan.json"
"""File with the job matrix. The files with the cells of the parts are next to it."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The cells that one machine runs."""

    name: str
    stacks: tuple[str, ...]
    sessions: tuple[str, ...]
    """nox sessions, one for each stack."""
    cells: str
    """File with the ids of the cells, one per line, for the option `--cells` of the sessions."""
    seconds: float
    """Expected duration on one core."""
    ids: tuple[str, ...]
    """The content of the file. Not in the job matrix: an output of a job in GitHub Actions is limited to 1 MB."""

    def job(self) -> dict[str, object]:
        """The shard as a job of the matrix."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "ids"}


def shards_of(
    matrix: Matrix, jobs: int, baseline: str, device: DeviceKind = DeviceKind.CPU, tier: Tier = Tier.FULL
) -> tuple[Shard, ...]:
    """Split the cells of the matrix into at most `jobs` parts of similar duration, by the durations of a baseline.

    A stack that cannot be installed has no cells. Its session reports why, on the machine with the shortest part.

    Raises:
        CompatError: the baseline does not exist, or `jobs` is not from 1 to `MOST_JOBS`.
        LockError: a lock is missing or stale.
        RecordsError: the baseline cannot be read.
    """
    if not 1 <= jobs <= MOST_JOBS:
        raise CompatError(
            f"{jobs} jobs",
            where="--jobs",
            meaning=f"GitHub Actions starts at most {MOST_JOBS} jobs of a matrix, and 0 jobs run nothing.",
            todo=f"Give a number from 1 to {MOST_JOBS}.",
        )
    by_stack = cells_of_matrix(matrix, device, tier)
    cells = [cell for found in by_stack.values() for cell in found]
    parts = split(expected(cells, durations(baseline, device, tier).seconds), jobs) or (Part((), 0.0),)
    absent = [stack for stack, found in by_stack.items() if not found]
    return tuple(
        _shard(part, (*part.stacks, *(absent if number == len(parts) else ())), number, len(parts))
        for number, part in enumerate(parts, 1)
    )


def cells_of_matrix(matrix: Matrix, device: DeviceKind, tier: Tier) -> dict[str, tuple[str, ...]]:
    """Ids of all cells by stack; none for a stack that cannot be installed."""
    found: dict[str, tuple[str, ...]] = {}
    for stack in matrix.stacks:
        for python in stack.pythons:
            name, lock = stack.on(python), locked(matrix.plan(stack, python, device))
            cells = () if isinstance(lock, Unsolvable) else all_cells(lock, device, tier)
            found[name] = tuple(str(CellId(name, cell.flow, str(cell.variant), device)) for cell in cells)
    return found


def durations(baseline: str, device: DeviceKind, tier: Tier) -> Took:
    """What the cells of a committed baseline took, as if they were of `device`.

    With a deep tier, the durations in the baseline's own deep tier, if there is one, replace those of the quick tier.

    Raises:
        CompatError: the baseline does not exist.
        RecordsError: it cannot be read.
    """
    baselines = places().baselines
    there = sorted(found.name for found in baselines.iterdir() if found.is_dir())
    if baseline not in there:
        raise CompatError(
            f"there is no baseline {baseline!r}", where=str(baselines), todo=f"There are: {', '.join(there)}."
        )
    names = [baseline] if tier is Tier.FULL else [baseline, f"{baseline}-deep"]
    found = Took({}, {})
    for name in names:
        _, observed = read_observations(baselines / name / "observations.jsonl")
        cpu = read_cpu_seconds(baselines / name)
        on = {cell: str(dataclasses.replace(parse_cell(cell), device=device)) for cell in observed}
        wall = {on[cell]: seen.duration_s for cell, seen in observed.items()}
        found = found.then(Took(wall, {on[cell]: seconds for cell, seconds in cpu.items() if cell in on}))
    return found


def _shard(part: Part, stacks: Sequence[str], number: int, count: int) -> Shard:
    return Shard(
        name=f"{number} of {count}",
        stacks=tuple(stacks),
        sessions=tuple(session for name in stacks if (session := session_of(name)) is not None),
        cells=f"part-{number}.txt",
        seconds=round(part.seconds, 1),
        ids=part.cells,
    )


def job_matrix(shards: Sequence[Shard]) -> str:
    """The shards as a job matrix of GitHub Actions: one line of JSON."""
    return json.dumps({"include": [shard.job() for shard in shards]})


def write_shards(shards: Sequence[Shard], folder: Path) -> None:
    """Write the job matrix and the cells of each shard into a new folder.

    Raises:
        CompatError: the folder exists.
    """
    _refuse_existing(folder)
    with making(folder) as whole:
        for shard in shards:
            write_atomically(whole / shard.cells, "".join(f"{cell}\n" for cell in shard.ids))
        write_atomically(whole / PLAN, f"{job_matrix(shards)}\n")


def planned(path: Path) -> dict[str, tuple[str, ...]]:
    """The cells of each stack in a plan that `write_shards` wrote.

    Raises:
        CompatError: a file cannot be read, or is not such a plan.
    """
    try:
        jobs = json.loads(path.read_text(encoding="utf-8"))["include"]
        found: dict[str, list[str]] = {str(name): [] for job in jobs for name in job["stacks"]}
        files = [str(job["cells"]) for job in jobs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = "it has another structure" if isinstance(error, TypeError) else why(error)
        raise _no_plan(path, f"it has no {error}" if isinstance(error, KeyError) else problem) from None
    odd = next((name for name in found if not is_stack(name)), None)
    if odd is not None:
        raise _no_plan(path, f"{odd!r} is not a valid name of a stack")
    for file in files:
        for cell in _cells_in(path, file):
            if (stack := parse_cell(cell).stack) not in found:
                raise _no_plan(path, f"{file} has a cell of {stack!r}, which the plan does not name")
            found[stack].append(cell)
    return {stack: tuple(cells) for stack, cells in found.items()}


def _cells_in(plan: Path, file: str) -> list[str]:
    if Path(file).name != file:
        raise _no_plan(plan, f"{file!r} is not the name of a file next to it")
    try:
        return plan.with_name(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _no_plan(plan, f"{file}: {why(error)}") from None


def _no_plan(path: Path, problem: str) -> CompatError:
    return CompatError(
        f"not a plan: {problem}",
        where=str(path),
        meaning="Without the plan, a cell whose machine was lost would not be noticed.",
        todo="Make it with: compat shards --out DIR",
    )


def collect(plan: Mapping[str, Sequence[str]], parts: Sequence[Path], run: Path) -> None:
    """Merge the runs of several machines into one.

    A stack may be in several parts. A cell of the plan that no part brought back, because its machine was lost, is an
    infrastructure failure, so that the run is not healthy.

    Args:
        plan: the cells of each stack.
        parts: directories of runs; a missing one has no results.
        run: directory for the merged run.

    Raises:
        CompatError: the directory exists, or its name is not a valid run id.
        RecordsError: a file of a part cannot be read, or a stack has an invalid name. Nothing is written.
    """
    check_run_id(run.absolute().name, f"--run {run}")
    _refuse_existing(run)
    rows: dict[str, list[StackRow]] = {name: [] for name in plan}
    for part in parts:
        for row in read_rows(part):
            rows.setdefault(row.name, []).append(row)
    # An incomplete last line, of a lost machine, must not merge with the first line of the next part.
    texts = [whole_lines(part / "observations.jsonl") for part in parts]
    with making(run) as whole:
        write_atomically(whole / "observations.jsonl", "".join(texts))
        for name, found in rows.items():
            write_row(whole, merged_row(name, found, _cells(plan.get(name, ()), found)))


def _cells(planned_ones: Sequence[str], rows: Sequence[StackRow]) -> tuple[str, ...]:
    """All cells of a stack, in the order of the catalog."""
    place = {
        CellId("", flow.name, str(variant)).test: number
        for number, (flow, variant) in enumerate(catalog.cells_on(DeviceKind.CPU))
    }
    cells = dict.fromkeys((*planned_ones, *(cell for row in rows for cell in row.selected)))
    return tuple(sorted(cells, key=lambda cell: place.get(parse_cell(cell).test, len(place))))


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise CompatError(
            "the directory exists already", where=str(folder), todo="Name a directory that does not exist."
        )
