"""Run one part of a run on a node of a cluster, as a process of its own. Its results are a run's directory.

python -m finetune_compat.run.part_run job.json      COMPAT_OUT and COMPAT_RUN_ID name the directory
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError, EnvironmentMismatch, InstallError, Unbuildable
from finetune_compat.contract.version import __version__
from finetune_compat.machine import child_processes
from finetune_compat.machine.gpus import Gpu, kind_of
from finetune_compat.machine.places import PACKAGE, places
from finetune_compat.results.run_files import RowState
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.run.selection import AskedCells, stacks_of
from finetune_compat.stacks.environments import environment_of
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import read_matrix


@dataclass(frozen=True, slots=True)
class Job:
    """What a node is given."""

    sources: str
    """`sources_here` of the machine that asks."""
    options: RunOptions
    """With the cells to run, those of a stack after each other."""


_JSON: TypeAdapter[Job] = TypeAdapter(Job)


def to_json(job: Job) -> str:
    """`job` as text for `main`."""
    return _JSON.dump_json(job).decode()


def sources_here() -> str:
    """The version of this package, and a digest of its sources and of the matrix with its locks."""
    found = hashlib.sha256()
    for root, pattern in ((PACKAGE, "*.py"), (places().matrices, "*.toml"), (places().matrices, "*.txt")):
        for path in sorted(root.rglob(pattern)):
            found.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
            found.update(path.read_bytes())
    return f"{__version__} ({found.hexdigest()[:12]})"


def other_sources(where: str, there: str, here: str) -> CompatError:
    """The error about a node that would measure something else."""
    return CompatError(
        f"this node has finetune-compat {there}, not {here}",
        where=where,
        meaning="Another version, or a checkout with other changes, measures other cells on other locks.",
        todo="Install the same commit on every node, in the Python that runs Ray there.",
    )


def main(arguments: Sequence[str]) -> int:
    """Run the job in the file that is named; return 0 if every stack has a row, else the exit code of the error."""
    child_processes.end_with_parent()
    child_processes.adopt()
    try:
        run_part(_JSON.validate_json(Path(arguments[0]).read_bytes()))
    except CompatError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    return 0


def run_part(job: Job) -> None:
    """Run the cells of `job`, stack by stack, and write a row for each.

    Raises:
        CompatError: this node has other sources, or the shared store does not answer.
    """
    here = sources_here()
    if here != job.sources:
        raise other_sources("sources", here, job.sources)
    gpus = stack_run.chosen_gpus(job.options)
    for stack in dict.fromkeys(parse_cell(cell).stack for cell in job.options.cells or ()):
        _run_stack(stack, job.options, gpus)


def _run_stack(name: str, options: RunOptions, gpus: Sequence[Gpu]) -> None:
    matrix, device = read_matrix(), kind_of(gpus)
    (on,) = stacks_of(matrix, AskedCells(stacks=(name,)), matrix.pythons[0])
    lock = locked(matrix.plan(on.stack, on.python, device))
    if isinstance(lock, Unsolvable):
        stack_run.record_absent(name, RowState.UNINSTALLABLE, lock.cause)
        return
    try:
        python, environment = environment_of(lock)
    except Unbuildable as error:
        stack_run.record_absent(name, RowState.UNINSTALLABLE, error.what)
        return
    except (InstallError, EnvironmentMismatch) as error:
        stack_run.record_absent(name, RowState.INFRASTRUCTURE, error.what)
        return
    lent = environment.base_torch
    plan = stack_run.plan_of(name, lock, options, load_ledger(), device, base_torch=lent)
    stack_run.run_plan(plan, lock, python, gpus, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
