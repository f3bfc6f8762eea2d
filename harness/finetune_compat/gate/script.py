"""A script of the user's own in place of cells: run on each side, each of its trainers compared with its like."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune_compat.checks.engine import failed
from finetune_compat.checks.judge import without_gpu
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.recognition import named
from finetune_compat.checks.script_checks import excused, judge
from finetune_compat.contract.cell_id import CellId, parse_cell
from finetune_compat.contract.errors import CompatError, StackFailed
from finetune_compat.contract.records import Failure, Observation, to_json
from finetune_compat.contract.script import Pipeline, ended_with
from finetune_compat.contract.verdict import Outcome, Symptom, Verdict
from finetune_compat.gate.resolve import Resolved
from finetune_compat.gate.sides import GateSelection, prepared
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.gpus import Gpu
from finetune_compat.report.wording import WITHOUT_GPU
from finetune_compat.results.run_files import Results, RowState, StackRow, read_rows, write_row
from finetune_compat.stacks.ask import StackPython
from finetune_compat.watch.host import SCRIPTS, NothingSeen, of_stack, run_pipeline, without_secrets

_UNTRAINED = "It ended well and trained no Trainer; what trains without one is not seen."
_OF_ITS_OWN = "It fails for a reason of its own: a wrong argument, a file or a package that is not there."
_RUN_ALONE = "Run it once by itself. Its arguments stand after --. Only packages of the stack are installed."
_SILENT = (
    "It ended with status 0 and imported neither Transformers, PEFT nor TRL, "
    "or started Python without its variables (-E)."
)


@dataclass(frozen=True, slots=True)
class Script:
    """What to run, and for how long."""

    given: tuple[str, ...]
    """The script and its arguments, or a launcher and what it launches."""
    steps: int

    @property
    def file(self) -> str:
        """The script itself."""
        return next((word for word in self.given if word.endswith(SCRIPTS)), self.given[0])


@dataclass(frozen=True, slots=True)
class ScriptRunner:
    """How a script is run in one gate. The first stack that ran is the baseline: its trainers give the names."""

    run: Path
    ledger: Ledger
    script: Script
    gpus: Sequence[Gpu]
    tell: Callable[[str], None]
    seen: dict[str, Pipeline] = field(default_factory=dict)
    """By stack."""
    judged: dict[str, tuple[Verdict, ...]] = field(default_factory=dict)
    """The verdicts on what was seen, by stack."""
    silent: dict[str, int] = field(default_factory=dict)
    """Exit status by stack, where it imported no library of the stack."""

    def cells(self, of: Resolved, _: GateSelection) -> StackPython | None:
        """Run the script on a side; its row says so where it could not be run.

        Raises:
            RegistryUnreachable, InstallError: an environment cannot be made, and the versions are not at fault.
        """
        stack = prepared(of, self.run)
        if stack is None or of.stack in self.seen:
            return stack
        self.tell(f"{of.stack}: running {self.script.file}")
        places = {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in self.gpus)}
        try:
            # What one side saves must not be there for the other.
            seen = run_pipeline(self.script.given, of_stack(stack), self.script.steps, places, throw_away=True)
        except NothingSeen as error:
            self.silent[of.stack] = error.status
            write_row(self.run, StackRow(of.stack, RowState.INFRASTRUCTURE, error.what, ()))
        else:
            self.seen[of.stack] = without_secrets(seen, self.script.given)
            self.judged[of.stack] = judge(self.seen[of.stack])
            write_row(self.run, StackRow(of.stack, RowState.RAN, "", ()))
            self._keep()
        self.tell(f"{of.stack}: done")
        return stack

    def _keep(self) -> None:
        lines = [to_json(run.seen) + "\n" for seen in self.seen.values() for run in seen.runs]
        write_atomically(self.run / "observations.jsonl", "".join(lines))
        records = [seen.to_json() + "\n" for seen in self.seen.values()]
        write_atomically(self.run / "pipelines.jsonl", "".join(records))

    def results(self) -> Results:
        """Everything that ran, judged, with like trainers under like names."""
        rows = read_rows(self.run)
        observations, verdicts = compared(self.seen, self.judged, self.ledger)
        absent = [verdict for row in rows if (verdict := _of_row(row))]
        return Results(self.run, rows, observations, (*absent, *verdicts))

    def check_trained(self, before: str, after: str) -> None:
        """Nothing is known of a script that trains on neither side.

        Raises:
            CompatError: it ended well on both, and trained on neither.
            StackFailed: it ended otherwise on one of them, so that it cannot be told whether it would have trained.
        """
        sides = (before, after)
        if any(stack not in self.seen and stack not in self.silent for stack in sides):
            return  # it could not be run there, and the report says why
        if any(trains(self.seen[stack]) for stack in sides if stack in self.seen):
            return
        where = f"--flow {self.script.file}"
        ended = next(filter(None, map(self._ended, sides)), None)
        if ended:
            machine = without_gpu(ended)
            raise StackFailed(
                f"it trains on neither side: {ended}",
                where=where,
                meaning="This machine cannot run it with these versions." if machine else _OF_ITS_OWN,
                todo=WITHOUT_GPU if machine else _RUN_ALONE,
            )
        raise CompatError(
            "no training was seen on either side",
            where=where,
            meaning=_SILENT if all(stack in self.silent for stack in sides) else _UNTRAINED,
            todo="Give the script that trains, or write its loop in three calls (docs/your-script.md).",
        )

    def _ended(self, stack: str) -> str:
        """How the script ended otherwise than it should; empty where it did not."""
        if status := self.silent.get(stack):
            return NothingSeen(status, "").what
        seen = self.seen.get(stack)
        if seen is None:
            return ""
        if seen.error is not None:
            return f"{seen.error.type} at {seen.error.stage}: {seen.error.message}"
        return f"the script ended with {ended_with(seen.status)}" if seen.status else ""


def trains(seen: Pipeline) -> bool:
    """Whether a training was seen, well or ill."""
    return any(run.seen.training is not None for run in seen.runs)


def _of_row(row: StackRow) -> Verdict | None:
    match row.state:
        case RowState.RAN:
            return None
        case RowState.UNINSTALLABLE:
            return Verdict(row.name, Outcome.UNINSTALLABLE, row.reason, Symptom.UNKNOWN)
        case RowState.INFRASTRUCTURE:
            return Verdict(row.name, Outcome.INFRASTRUCTURE, row.reason, Symptom.UNKNOWN)


def compared(
    seen: Mapping[str, Pipeline], judged: Mapping[str, Sequence[Verdict]], ledger: Ledger
) -> tuple[dict[str, Observation], tuple[Verdict, ...]]:
    """Observations and verdicts of all stacks. The n-th trainer of a stack bears the name of the n-th of the first.

    A default that another release has may give it another variant, and it is the same trainer. The script itself is a
    cell where it ended otherwise than it should on any of the stacks. What ran to its end on the first and does not on
    another fails there, whoever raised it: the script is the same, and the versions are what differs.
    """
    names: list[str] = []
    observations: dict[str, Observation] = {}
    verdicts: list[Verdict] = []
    first = next(iter(seen.values()), None)
    said = {stack: next(iter(found[len(seen[stack].runs) :]), None) for stack, found in judged.items()}
    broken = {stack: _broken(one, said[stack], first) for stack, one in seen.items()}
    ends = {stack: broken[stack] or said[stack] for stack in seen}
    for stack, one in seen.items():
        for place, (run, verdict) in enumerate(zip(one.runs, judged[stack], strict=False)):
            if place == len(names):
                names.append(_named(parse_cell(run.seen.cell), names))
            cell = f"{stack}/{names[place]}"
            observations[cell] = dataclasses.replace(run.seen, cell=cell)
            untrained = verdict.outcome is Outcome.INFRASTRUCTURE and run.seen.training is None
            found = (broken[stack] if untrained else None) or named(run.seen, verdict, ledger)
            verdicts.append(dataclasses.replace(found, cell=cell))
        if ended := broken[stack] or _unknown(said[stack]):
            # Trainers that it did not get to.
            cells = [f"{stack}/{name}" for name in names[len(one.runs) :]]
            verdicts += [dataclasses.replace(ended, cell=cell) for cell in cells]
        if any(ends.values()):
            end = ends[stack] or Verdict("", Outcome.PASS, "it ran to its end", Symptom.UNKNOWN)
            verdicts.append(dataclasses.replace(end, cell=str(CellId(stack, one.script, device=one.device.kind))))
    return observations, tuple(verdicts)


def _broken(one: Pipeline, said: Verdict | None, first: Pipeline | None) -> Verdict | None:
    """The verdict on a script that no longer runs to its end, as it did on the first stack; None of any other.

    Args:
        one: the script on a stack.
        said: the judge on how it ended there, who leaves to a trainer what that has said.
        first: the script on the first stack.
    """
    if first is None or one is first or not trains(first) or first.error is not None or first.status:
        return None
    if one.error is not None:
        told = "" if said is None or excused(one.error) else _told(one.error)
    else:
        # Where a launcher ends so, its process may have been lost to the machine, in the middle of a training.
        through = bool(one.runs) and all(run.seen.training is not None for run in one.runs)
        told = f"the script ended with status {one.status}" if one.status and one.status > 0 and through else ""
    if not told:
        return None
    return Verdict("", Outcome.FAIL, f"F001 {told}", Symptom.ERROR, (failed("F001", told),))


def _unknown(said: Verdict | None) -> Verdict | None:
    """A verdict that could not tell; None of any other."""
    return said if said is not None and said.outcome is Outcome.INFRASTRUCTURE else None


def _told(error: Failure) -> str:
    place = "".join(f" ({frame.file}:{frame.line})" for frame in error.frames[-1:])
    return f"{error.type} at {error.stage}: {error.message}{place}"


def _named(cell: CellId, names: Sequence[str]) -> str:
    """The cell's name; a second trainer of that name has a number in it."""
    numbered = (dataclasses.replace(cell, flow=f"{cell.flow}-{number}").name for number in itertools.count(2))
    return next(name for name in itertools.chain((cell.name,), numbered) if name not in names)
