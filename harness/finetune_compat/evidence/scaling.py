"""What a run of the whole matrix takes on more cores and more GPUs: a model with the durations of a committed baseline.

The start of a stack counts `START_S` each time. What the model leaves out: making environments, and cores that are
slower when others are busy.
"""

from __future__ import annotations

from collections.abc import Mapping

from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import DeviceKind
from finetune_compat.evidence.shards import durations
from finetune_compat.machine.gpus import USUAL
from finetune_compat.machine.places import places
from finetune_compat.machine.units import counted
from finetune_compat.run.estimate import START_S, expected, makespan
from finetune_compat.run.parts import Part, least, split, whole_stacks

CORES = (2, 16, 64, 128)
GPUS = (1, 2, 4, 8)

ON_A_GPU = 8
"""Processes with tiny models that share a GPU in the model. `ray_engine.CELL_GPU_BYTES` allows as many on 16 GB."""

PAGE = "scaling.md"


def scaling(baseline: str) -> str:
    """The table as Markdown.

    Raises:
        CompatError: the baseline does not exist.
        RecordsError: it cannot be read.
    """
    took = durations(baseline, DeviceKind.CPU, Tier.FULL)
    seconds = expected(took, took)
    stacks = {parse_cell(cell).stack for cell in seconds}
    head = f"{counted(len(seconds), 'cell')} of {counted(len(stacks), 'stack')}"
    rows = [_row(f"{cores} cores", seconds, cores, _longest(whole_stacks(seconds, cores))) for cores in CORES]
    rows += [_row(f"{counted(gpus, 'GPU')}", seconds, gpus * ON_A_GPU, one_by_one(seconds, gpus)) for gpus in GPUS]
    return _PAGE.format(
        head=head,
        baseline=baseline,
        start=START_S,
        rows="\n".join(rows),
        default=one_by_one(seconds, USUAL.most) / 60,
        most=USUAL.most,
        shared=ON_A_GPU,
    )


_PAGE = """\
# How a run scales

Minutes for {head}: a model with the durations of the committed baseline `{baseline}`. The start of a stack takes
{start:.0f} s. `compat shards --scaling` prints the table and writes this page.

| on | lower bound | by stacks | by parts of cells | parts / bound |
|---|---|---|---|---|
{rows}

- The lower bound is the time of all cells, with one start for each stack and core, divided by the cores, and at least
  that of the longest cell with a start. No schedule is below it.
- By stacks: on cores, each stack on one core, the longest first. On GPUs, one stack after another, with a worker on
  each GPU, as nox runs them: {default:.1f} minutes with the default of {most} GPUs.
- By parts of cells: `compat run --engine ray` and `compat shards`. A stack may be in several parts, and each part
  starts it. {shared} processes share a GPU.
- Cells are taken to be as long on a GPU as on a CPU: none was measured on a GPU.
"""


def write_page(baseline: str) -> str:
    """Write the page below reports/benchmarks, and return its text.

    Raises:
        CompatError: this package does not run from a checkout, or as for `scaling`.
    """
    text = scaling(baseline)
    (places().reports / "benchmarks" / PAGE).write_text(text, encoding="utf-8")
    return text


def one_by_one(seconds: Mapping[str, float], gpus: int) -> float:
    """Seconds of all stacks one after another, with a worker on each GPU."""
    by_stack: dict[str, list[float]] = {}
    for cell, needs in seconds.items():
        by_stack.setdefault(parse_cell(cell).stack, []).append(needs)
    return sum(START_S + makespan(cells, gpus) for cells in by_stack.values())


def _row(on: str, seconds: Mapping[str, float], workers: int, today: float) -> str:
    bound, parts = least(seconds, workers), _longest(split(seconds, workers))
    figures = (f"{each / 60:.2f}" for each in (bound, today, parts))
    return f"| {on} | {' | '.join(figures)} | {parts / bound:.2f} |"


def _longest(parts: list[Part] | tuple[Part, ...]) -> float:
    return max(part.seconds for part in parts)
