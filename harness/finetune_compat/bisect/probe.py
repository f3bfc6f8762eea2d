"""Run one cell or script on any set of versions, and measure the condition of a search there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from threading import Lock as Mutex

from rich.console import Console

from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.script_checks import judge
from finetune_compat.contract.catalog import DEEP_CELLS, Tier, cells_on, flow_named
from finetune_compat.contract.errors import CompatError, RegistryUnreachable, UnknownName
from finetune_compat.contract.records import DeviceKind, Observation
from finetune_compat.contract.script import Pipeline
from finetune_compat.contract.verdict import Verdict
from finetune_compat.gate.progress import GateProgress
from finetune_compat.gate.resolved import Resolved
from finetune_compat.gate.script import Script, ScriptRunner
from finetune_compat.gate.sides import GateSelection, Runner
from finetune_compat.history.condition import Condition, Measured, worst
from finetune_compat.machine.gpus import Gpu
from finetune_compat.results.run_files import judged
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks.locks import Unsolvable
from finetune_compat.watch.host import SCRIPTS, ChangesOutside, check_script


@dataclass(frozen=True, slots=True)
class Subject:
    """What is run on every release: a cell of the catalog, or a user's script."""

    cell: str = ""
    """Without stack and device, for example `sft-peft-model[qwen2-nf4-gc]`; empty for a script."""
    script: Script | None = None

    def __str__(self) -> str:
        return self.script.file if self.script else self.cell


@dataclass(frozen=True, slots=True)
class Probe:
    """One set of versions, and what it gave."""

    stack: str
    versions: Mapping[str, str]
    """Locked versions by canonical name; empty where the resolver found none."""
    measured: Measured
    verdict: Verdict | None = None
    seen: Observation | None = None
    python: Path | None = None
    """The interpreter of its environment; None if there is none."""
    ran: bool = True
    """Whether it ran now. False if its result was stored, or if it could not run."""


def subject(
    flow: str | None, cell: str | None, script: str | None, arguments: Sequence[str], steps: int, tier: Tier
) -> Subject:
    """What the options name. Of a flow, its first cell that `tier` measures.

    Raises:
        CompatError: not exactly one of flow, cell and script is given, or there is no such one.
    """
    if sum(given is not None for given in (flow, cell, script)) != 1:
        raise CompatError(
            "name one of --flow, --cell and --script",
            where="what to run",
            meaning="--flow runs the flow's first cell, --cell another one of its cells, --script your own script.",
            todo="Example: --flow sft-peft-model.",
        )
    if script is not None:
        if not script.endswith(SCRIPTS) or not Path(script).is_file():
            raise CompatError(
                "there is no such script", where=f"--script {script}", todo="Give a .py or .ipynb file that is there."
            )
        check_script((script,))
        return Subject(script=Script((script, *arguments), steps))
    deep = tier is not Tier.FULL
    cells = DEEP_CELLS if deep else [(known.name, variant) for known, variant in cells_on(DeviceKind.CPU)]
    known = [f"{name}[{variant}]" for name, variant in cells]
    if flow is not None:
        first = next((name for name in known if name.startswith(f"{flow_named(flow).name}[")), None)
        if first is None:
            raise UnknownName(
                f"the deep tier measures no cell of {flow}, and the condition needs it",
                where="--flow",
                todo=f"Name one of its cells: --cell {' or '.join(map(repr, known))}.",
            )
        return Subject(cell=first)
    if cell not in known:
        near = get_close_matches(str(cell), known, n=3, cutoff=0.5)
        raise UnknownName(
            f"there is no cell {cell!r}",
            where="--cell",
            meaning=f"Names that look like it: {', '.join(near)}." if near else "No name looks like it.",
            todo=f"An example of a cell is {known[0]}.",
        )
    return Subject(cell=str(cell))


@dataclass(frozen=True, slots=True)
class Bench:
    """Runs the subject on sets of versions, in one run directory. Several may run in parallel, each in a thread."""

    run: Path
    ledger: Ledger
    subject: Subject
    condition: Condition
    device: DeviceKind
    gpus: Sequence[Gpu]
    options: RunOptions
    progress: Callable[[str], None]
    scripts: list[ScriptRunner] = field(default_factory=list)
    begun: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    done: dict[str, Probe] = field(default_factory=dict)
    """Probes by stack: none is run twice."""
    mutex: Mutex = field(default_factory=Mutex)
    threads: int | None = None
    """Threads of each run of a script; None: what its libraries choose."""

    def probe(self, of: Resolved, signals: Sequence[int] | None = None) -> Probe:
        """Run the subject on these versions and measure the condition.

        Args:
            of: the versions.
            signals: given in a thread, where a script may run on other versions at the same time (`Background`).

        Raises:
            ChangesOutside: with `signals`, the script must run alone.
            RegistryUnreachable: an environment cannot be made because the index does not answer.
        """
        if of.stack in self.done:
            return self.done[of.stack]
        versions = {} if isinstance(of.lock, Unsolvable) else {**of.lock.requirements, "torch": of.plan.torch}
        if isinstance(of.lock, Unsolvable):
            found = Probe(of.stack, versions, Measured(None, f"cannot be solved: {of.lock.cause}"), ran=False)
        else:
            try:
                found = self._run(of, versions, signals)
            except (RegistryUnreachable, ChangesOutside):
                raise
            except CompatError as error:
                found = Probe(of.stack, versions, Measured(None, error.what), ran=False)
        self.done[of.stack] = found
        return found

    def _run(self, of: Resolved, versions: Mapping[str, str], signals: Sequence[int] | None) -> Probe:
        if self.subject.script is not None:
            return self._script(self.subject.script, of, versions, signals)
        shown = GateProgress(Console(quiet=True))  # one line says what became of a probe
        runner = Runner(self.run, self.ledger, self.gpus, self.options, shown)
        stack = runner.cells(of, GateSelection(cells=(self.subject.cell,)))
        with self.mutex:
            results = judged(self.run, self.ledger, only=of.stack)
        verdict = next(iter(results.verdicts), None)
        if verdict is None:
            return Probe(of.stack, versions, Measured(None, "this cell does not exist on these versions"), ran=False)
        seen = results.observations.get(verdict.cell)
        measured = self.condition.of(verdict, seen)
        ran = seen is None or seen.started_at >= self.begun
        return Probe(of.stack, versions, measured, verdict, seen, stack.python if stack else None, ran=ran)

    def _script(
        self, script: Script, of: Resolved, versions: Mapping[str, str], signals: Sequence[int] | None
    ) -> Probe:
        with self.mutex:
            if not self.scripts:
                logs = self.run / "logs"  # the lines of progress of parallel runs would be mixed with their output
                runner = ScriptRunner(
                    self.run, self.ledger, script, self.gpus, lambda _: None, threads=self.threads, logs=logs
                )
                self.scripts.append(runner)
        runner = self.scripts[0]
        stack = runner.cells(of, GateSelection(), signals)
        python = stack.python if stack else None
        if of.stack not in runner.seen:
            status = runner.silent.get(of.stack)
            what = "no environment" if status is None else f"the script ended with status {status} and trained nothing"
            return Probe(of.stack, versions, Measured(None, what), python=python)
        found = of_script(of.stack, versions, self.condition, runner.seen[of.stack])
        return replace(found, python=python, ran=of.stack not in runner.cached)


def of_script(stack: str, versions: Mapping[str, str], condition: Condition, seen: Pipeline) -> Probe:
    """What the record of a script gives."""
    verdict, first = worst(judge(seen)), next((run.seen for run in seen.runs), None)
    if verdict is None:
        return Probe(stack, versions, Measured(None, "the script trained nothing"))
    return Probe(stack, versions, condition.of(verdict, first), verdict, first)
