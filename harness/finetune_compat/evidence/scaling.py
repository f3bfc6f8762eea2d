"""What a run of the whole matrix takes on more cores and more GPUs: a model with the durations of a committed baseline.

The start of a stack counts `START_S` each time. What the model leaves out: making environments, and cores that are
slower when others are busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import DeviceKind
from finetune_compat.evidence.shards import durations
from finetune_compat.evidence.simulation import simulated
from finetune_compat.machine.places import places
from finetune_compat.machine.units import counted
from finetune_compat.run.estimate import START_S, Took, expected, least, loads, makespan
from finetune_compat.run.parts import by_stack, split
from finetune_compat.run.workers import JOIN_S

CORES = (2, 16, 64, 128)
GPUS = (1, 2, 4, 8)
JOBS = (16, 61)

ON_A_GPU = 8
"""Processes with tiny models that share a GPU in the model. `gpus.CELL_BYTES` allows as many on 16 GB."""

PAGE = "scaling.md"


@dataclass(frozen=True, slots=True)
class Row:
    """What a run of the same cells takes in three ways, in seconds."""

    on: str
    bound: float
    """No schedule is below it."""
    local: float
    """By the engine of one machine."""
    ray: float
    """By the engine of a Ray cluster with as many cores."""


def rows_of(seconds: Mapping[str, float]) -> tuple[Row, ...]:
    """The rows of the table for cells with these durations."""
    machines = {f"{cores} cores": cores for cores in CORES}
    machines |= {counted(gpus, "GPU"): gpus * ON_A_GPU for gpus in GPUS}
    return tuple(
        Row(on, _bound(seconds, cores), simulated(seconds, cores), _ray(seconds, cores))
        for on, cores in machines.items()
    )


def scaling(baseline: str) -> str:
    """The tables as Markdown.

    Raises:
        CompatError: the baseline does not exist.
        RecordsError: it cannot be read.
    """
    took = durations(baseline, DeviceKind.CPU, Tier.FULL)
    seconds = expected(took.wall, took.seconds)
    stacks = {parse_cell(cell).stack for cell in seconds}
    return _PAGE.format(
        head=f"{counted(len(seconds), 'cell')} of {counted(len(stacks), 'stack')}",
        baseline=baseline,
        measured=_measured(took),
        start=START_S,
        join=JOIN_S,
        rows="\n".join(map(_line, rows_of(seconds))),
        shards="\n".join(_shards(seconds, jobs) for jobs in JOBS),
        shared=ON_A_GPU,
    )


_PAGE = """\
# How a run scales

Minutes for {head}: a model with the durations of the committed baseline `{baseline}`. The start of a stack takes
{start:.0f} s. `compat shards --scaling` prints the tables and writes this page.

{measured}

| on | lower bound | `compat run` | / bound | `compat run --engine ray` | / bound |
|---|---|---|---|---|---|
{rows}

- The lower bound is the time of all cells, with one start for each stack and core, divided by the cores, and at least
  that of the longest cell with a start. No schedule is below it.
- `compat run`: stacks start the longest first, one on each core. When none waits, an idle core gets a worker of the
  stack that would end last, which takes at most {join:.1f} s to join. The model makes the decisions of the engine.
- `compat run --engine ray`: cells are split into a share for each core, and a share into its stacks. Each of these
  parts starts its stack. The longest parts run first, and the next part goes to the first idle core.
- {shared} processes share a GPU, and each has a core. Cells are taken to be as long on a GPU as on a CPU: none was
  measured on a GPU.

Parts of `compat shards`, for machines that do not know of each other:

| jobs | longest part | mean part | longest / mean |
|---|---|---|---|
{shards}
"""


def write_page(baseline: str) -> str:
    """Write the page below reports/benchmarks, and return its text.

    Raises:
        CompatError: this package does not run from a checkout, or as for `scaling`.
    """
    text = scaling(baseline)
    (places().reports / "benchmarks" / PAGE).write_text(text, encoding="utf-8")
    return text


def _measured(took: Took) -> str:
    """Sentences on where the durations come from."""
    without = len(took.wall) - len(took.cpu)
    if not took.cpu:
        return "No cell has recorded CPU seconds: all count with their wall-clock seconds."
    head = f"{len(took.cpu):,} of {counted(len(took.wall), 'cell')} have recorded CPU seconds."
    others = f" The others count with their wall-clock seconds times {took.share:.2f}, the median of cells with both."
    return head + (others if without else "")


def _bound(seconds: Mapping[str, float], cores: int) -> float:
    return least(loads(seconds).values(), max(seconds.values()), cores)


def _ray(seconds: Mapping[str, float], cores: int) -> float:
    return makespan([part.seconds for part in by_stack(seconds, cores)], cores)


def _line(row: Row) -> str:
    local, ray = (f"{each / 60:.2f} | {each / row.bound:.2f}" for each in (row.local, row.ray))
    return f"| {row.on} | {row.bound / 60:.2f} | {local} | {ray} |"


def _shards(seconds: Mapping[str, float], jobs: int) -> str:
    parts = [part.seconds for part in split(seconds, jobs)]
    longest, mean = max(parts), sum(parts) / len(parts)
    return f"| {jobs} | {longest / 60:.2f} | {mean / 60:.2f} | {longest / mean:.2f} |"
