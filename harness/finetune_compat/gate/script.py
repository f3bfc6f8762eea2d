"""Run a user's script in place of cells on each side, and compare its trainers pair by pair."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock as Mutex
from types import MappingProxyType

from finetune_compat.checks.engine import failed
from finetune_compat.checks.judge import without_gpu
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.recognition import applying, named
from finetune_compat.checks.renames import described
from finetune_compat.checks.script_checks import excused, judge
from finetune_compat.contract.cell_id import CellId, parse_cell
from finetune_compat.contract.errors import CompatError, StackFailed
from finetune_compat.contract.records import Failure, Observation, to_json
from finetune_compat.contract.script import Pipeline, ended_with
from finetune_compat.contract.verdict import Outcome, Symptom, Verdict
from finetune_compat.gate.resolved import Resolved
from finetune_compat.gate.script_results import ScriptResults
from finetune_compat.gate.sides import GateSelection, prepared
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.gpus import Gpu
from finetune_compat.report.wording import WITHOUT_GPU
from finetune_compat.results.run_files import Results, RowState, StackRow, read_rows, write_row
from finetune_compat.stacks.ask import StackPython, ask
from finetune_compat.watch.host import SCRIPTS, Background, NothingSeen, of_stack, run_pipeline, without_secrets

_UNTRAINED = "The script ended normally and trained no Trainer. Training without a Trainer is not seen."
_OF_ITS_OWN = "The script itself fails: an argument is wrong, or a file or a package is missing."
_RUN_ALONE = "Run it once by itself. Its arguments stand after --. Only packages of the stack are installed."
_SILENT = (
    "It ended with status 0 and imported neither Transformers, PEFT nor TRL, "
    "or started Python without its variables (-E)."
)


@dataclass(frozen=True, slots=True)
class Script:
    """What to run, and the number of steps of each training."""

    given: tuple[str, ...]
    """The script and its arguments, or a launcher and what it launches."""
    steps: int

    @property
    def file(self) -> str:
        """The path of the script; the launcher if no argument is a script."""
        return next((word for word in self.given if word.endswith(SCRIPTS)), self.given[0])


@dataclass(frozen=True, slots=True)
class ScriptRunner:
    """Runs a script in one gate. The first stack that ran is the baseline and names the trainers."""

    run: Path
    ledger: Ledger
    script: Script
    gpus: Sequence[Gpu]
    progress: Callable[[str], None]
    seen: dict[str, Pipeline] = field(default_factory=dict)
    """Records by stack."""
    judged: dict[str, tuple[Verdict, ...]] = field(default_factory=dict)
    """Verdicts on the records, by stack."""
    accepted: dict[str, list[str]] = field(default_factory=dict)
    """The arguments of the first stack's classes to which the script passes unknown arguments on another stack."""
    first: list[StackPython] = field(default_factory=list)
    """The first stack that ran the script; empty before."""
    silent: dict[str, int] = field(default_factory=dict)
    """Exit status by stack, where the script imported no library of the stack."""
    cached: set[str] = field(default_factory=set)
    """Stacks whose record was in the store."""
    threads: int | None = None
    """Threads of the script's processes; None: what the libraries choose."""
    logs: Path | None = None
    """Directory for the output of the script, a file for each stack; None: it goes to stderr."""
    mutex: Mutex = field(default_factory=Mutex)
    """Held while a result is added: sides may run in parallel."""

    @property
    def results_stored(self) -> ScriptResults:
        """The script's results in the store."""
        return ScriptResults(self.script.given, self.script.steps, self.gpus)

    def cells(self, of: Resolved, _: GateSelection, signals: Sequence[int] | None = None) -> StackPython | None:
        """Run the script on a side. If it cannot run, the side's row holds the reason.

        Args:
            of: the side.
            signals: given in a thread, where the script may run on other sides at the same time (`Background`).

        Raises:
            RegistryUnreachable, InstallError: an environment cannot be made, and its versions are not the cause.
            ChangesOutside: with `signals`, the script must run alone. Nothing is added.
        """
        stack = prepared(of, self.run)
        if stack is None or of.stack in self.seen:
            return stack
        recipe = self.results_stored.recipe(stack)
        stored = self.results_stored.look_up(recipe)
        if stored is not None:
            with self.mutex:
                self.cached.add(of.stack)
                self._add(stack, stored)
            self.progress(f"{of.stack}: {self.script.file} is cached")
            return stack
        self.progress(f"{of.stack}: running {self.script.file}")
        variables = {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in self.gpus)}
        variables |= {"OMP_NUM_THREADS": str(self.threads)} if self.threads is not None else {}
        try:
            # Files that one side saves must not be visible to the other.
            seen = run_pipeline(
                self.script.given,
                of_stack(stack),
                self.script.steps,
                variables,
                throw_away=True,
                background=Background(self.logs / f"{of.stack}.txt", signals) if self.logs else None,
            )
        except NothingSeen as error:
            with self.mutex:
                self.silent[of.stack] = error.status
                write_row(self.run, StackRow(of.stack, RowState.INFRASTRUCTURE, error.what, ()))
        else:
            with self.mutex:
                self._add(stack, without_secrets(seen, self.script.given))
            self.results_stored.keep(recipe, stack, self.seen[of.stack], self.judged[of.stack], self.progress)
        self.progress(f"{of.stack}: done")
        return stack

    def ahead(self, _: Sequence[tuple[Resolved, GateSelection]]) -> None:
        """Nothing: a script writes to the same places on every side."""

    def _add(self, stack: StackPython, seen: Pipeline) -> None:
        self.seen[stack.name] = seen
        self.judged[stack.name] = judge(seen)
        write_row(self.run, StackRow(stack.name, RowState.RAN, "", ()))
        self._write()
        self._ask_for_signatures(seen)
        self.first.extend([stack] if not self.first else [])

    def _ask_for_signatures(self, seen: Pipeline) -> None:
        """Read the signatures of the first stack, to find the new names of arguments that this one does not have."""
        classes = sorted({unknown.callee for unknown in seen.unknown} - {*self.accepted})
        if classes and self.first:
            with contextlib.suppress(StackFailed):  # the finding then has the closest names of this stack
                self.accepted.update(ask(self.first[0], "finetune_compat.cell.parameters", {"classes": classes}))

    def _write(self) -> None:
        lines = [to_json(run.seen) + "\n" for seen in self.seen.values() for run in seen.runs]
        write_atomically(self.run / "observations.jsonl", "".join(lines))
        records = [seen.to_json() + "\n" for seen in self.seen.values()]
        write_atomically(self.run / "pipelines.jsonl", "".join(records))

    def results(self) -> Results:
        """Everything that ran, judged. Corresponding trainers have the same name on every stack."""
        rows = read_rows(self.run)
        observations, verdicts = compared(self.seen, self.judged, self.ledger, self.accepted)
        absent = [verdict for row in rows if (verdict := _of_row(row))]
        return Results(self.run, rows, observations, (*absent, *verdicts), scaling=_scaling_of(self.seen, observations))

    def applies(self) -> dict[str, dict[str, str]]:
        """The listed issues that apply to each trainer and that it does not show: by cell, then by id, as text."""
        observations, _ = compared(self.seen, self.judged, self.ledger)
        found: dict[str, dict[str, str]] = {}
        for stack, one in self.seen.items():
            cells = [cell for cell in observations if parse_cell(cell).stack == stack]
            for cell, run in zip(cells, one.runs, strict=False):
                listed = applying(run, self.ledger)
                found[cell] = {issue.id: f"{issue.title} ({condition})" for issue, condition in listed}
        return found

    def check_trained(self, before: str, after: str) -> None:
        """Check that the script trains on one side at least. Otherwise there is nothing to compare.

        Raises:
            CompatError: the script ended normally on both sides and trained on neither.
            StackFailed: the script failed on a side, so it is unknown whether it would have trained.
        """
        sides = (before, after)
        if any(stack not in self.seen and stack not in self.silent for stack in sides):
            return  # it could not run there; the report holds the reason
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
        """How the script failed; empty where it ended normally."""
        if status := self.silent.get(stack):
            return NothingSeen(status, "").what
        seen = self.seen.get(stack)
        if seen is None:
            return ""
        if seen.error is not None:
            return f"{seen.error.type} at {seen.error.stage}: {seen.error.message}"
        return f"the script ended with {ended_with(seen.status)}" if seen.status else ""


def trains(seen: Pipeline) -> bool:
    """Whether a training was seen, healthy or not."""
    return any(run.seen.training is not None for run in seen.runs)


def _of_row(row: StackRow) -> Verdict | None:
    match row.state:
        case RowState.RAN:
            return None
        case RowState.UNINSTALLABLE:
            return Verdict(row.name, Outcome.UNINSTALLABLE, row.reason, Symptom.UNKNOWN)
        case RowState.INFRASTRUCTURE:
            return Verdict(row.name, Outcome.INFRASTRUCTURE, row.reason, Symptom.UNKNOWN)


def _scaling_of(seen: Mapping[str, Pipeline], observations: Mapping[str, Observation]) -> dict[str, Mapping[str, int]]:
    """The scaling of the adapters by cell. The observations of a stack are in the order of its trainers."""
    found: dict[str, Mapping[str, int]] = {}
    for stack, one in seen.items():
        cells = [cell for cell in observations if parse_cell(cell).stack == stack]
        found |= {cell: run.setup.scaling for cell, run in zip(cells, one.runs, strict=False) if run.setup}
    return found


def compared(
    seen: Mapping[str, Pipeline],
    judged: Mapping[str, Sequence[Verdict]],
    ledger: Ledger,
    accepted: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> tuple[dict[str, Observation], tuple[Verdict, ...]]:
    """Observations and verdicts of all stacks. The n-th trainer of a stack has the name of the first stack's n-th.

    Names follow the order because another release may have other defaults, and so give the same trainer another
    variant. The script itself is a cell if it failed on any of the stacks. A script that ran to its end on the
    first stack and not on another fails there, whatever raised the error: only the versions differ. `accepted` has the
    arguments of the first stack's classes, for those that another stack does not have.
    """
    names: list[str] = []
    observations: dict[str, Observation] = {}
    verdicts: list[Verdict] = []
    first = next(iter(seen.values()), None)
    said = {stack: next(iter(found[len(seen[stack].runs) :]), None) for stack, found in judged.items()}
    broken = {stack: _broken(one, said[stack], first, accepted) for stack, one in seen.items()}
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
            # Trainers that the script did not reach.
            cells = [f"{stack}/{name}" for name in names[len(one.runs) :]]
            verdicts += [dataclasses.replace(ended, cell=cell) for cell in cells]
        if any(ends.values()):
            end = ends[stack] or Verdict("", Outcome.PASS, "it ran to its end", Symptom.UNKNOWN)
            verdicts.append(dataclasses.replace(end, cell=str(CellId(stack, one.script, device=one.device.kind))))
    return observations, tuple(verdicts)


def _broken(
    one: Pipeline, said: Verdict | None, first: Pipeline | None, accepted: Mapping[str, Sequence[str]]
) -> Verdict | None:
    """The verdict on a script that ran to its end on the first stack and fails on this one; None for any other.

    Args:
        one: the record on this stack.
        said: the judge's verdict on how the script ended here. None where a verdict on a trainer covers the end.
        first: the record on the first stack.
        accepted: the arguments of classes on the first stack.
    """
    if first is None or one is first or not trains(first) or first.error is not None or first.status:
        return None
    if one.error is not None:
        reason = "" if said is None or excused(one.error) else _describe(one.error)
        if reason and one.unknown:
            reason = f"{described(one.unknown, accepted)}: {reason}"
    else:
        # A launcher with an exit status may have lost its process to the machine in the middle of a training.
        through = bool(one.runs) and all(run.seen.training is not None for run in one.runs)
        reason = f"the script ended with status {one.status}" if one.status and one.status > 0 and through else ""
    if not reason:
        return None
    return Verdict("", Outcome.FAIL, f"F001 {reason}", Symptom.ERROR, (failed("F001", reason),))


def _unknown(said: Verdict | None) -> Verdict | None:
    """`said` if it is an infrastructure verdict, else None."""
    return said if said is not None and said.outcome is Outcome.INFRASTRUCTURE else None


def _describe(error: Failure) -> str:
    place = "".join(f" ({frame.file}:{frame.line})" for frame in error.frames[-1:])
    return f"{error.type} at {error.stage}: {error.message}{place}"


def _named(cell: CellId, names: Sequence[str]) -> str:
    """The cell's name, with a number if `names` holds it already."""
    numbered = (dataclasses.replace(cell, flow=f"{cell.flow}-{number}").name for number in itertools.count(2))
    return next(name for name in itertools.chain((cell.name,), numbered) if name not in names)
