"""`compat gate`: read both sides, make their locks, run their cells, search for a safe target, decide."""

from __future__ import annotations

import shlex
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from finetune_compat.checks.ledger import load_ledger
from finetune_compat.contract.catalog import CATALOG, cells_on
from finetune_compat.contract.errors import CompatError, ExitCode, UnknownName
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.records import DeviceKind
from finetune_compat.contract.redaction import redact, redact_words
from finetune_compat.gate.decide import Compared, compared_cells, decide
from finetune_compat.gate.decision import Gate, GateExit, Side
from finetune_compat.gate.defaults import Defaults, compared
from finetune_compat.gate.inputs import Target, read_side, read_target, read_upgrade
from finetune_compat.gate.policy import load_policy
from finetune_compat.gate.report import FILES, publish
from finetune_compat.gate.report.terminal import print_gate
from finetune_compat.gate.resolve import Resolved, resolve
from finetune_compat.gate.script import Script, ScriptRunner
from finetune_compat.gate.search import Search
from finetune_compat.gate.sides import GateSelection, Runner, Runs, side
from finetune_compat.machine.gpus import kind_of
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks.ask import StackPython
from finetune_compat.stacks.matrix import Matrix, read_matrix
from finetune_compat.watch.host import SCRIPTS, STEPS, check_script, check_steps

_WHERE = "compat gate"

CANDIDATES = 6
"""Maximum number of releases to run per cause in the search for a safe target. Each costs an import of the stack."""


@dataclass(frozen=True, slots=True)
class GateRequest:
    """The options of one call. None or an empty value means that the option was not given."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    flows: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    device: DeviceChoice | None = None
    python: str | None = None
    candidates: int = CANDIDATES
    policy: Path | None = None
    flow: str | None = None
    """The user's script to run in place of cells."""
    arguments: tuple[str, ...] = ()
    """Arguments of the script."""
    steps: int | None = None
    upgrade: tuple[str, ...] = ()
    """Packages of the first side that move, in place of `after`."""

    @property
    def asked_after(self) -> str:
        """The second side as it was typed, without secrets."""
        words = redact_words(self.upgrade or self.after)
        return " ".join(("upgrade", *words) if self.upgrade else words)

    @property
    def command(self) -> str:
        """The command line of the call, without `--flows` and `--cell`, and without secrets."""
        words = ["compat", "gate"]
        for option, values in (("--from", self.before), ("--to", self.after), ("--upgrade", self.upgrade)):
            words += [word for value in values for word in (option, value)]
        candidates = self.candidates if self.candidates != CANDIDATES else None
        given = (
            ("--device", self.device),
            ("--python", self.python),
            ("--candidates", candidates),
            ("--policy", self.policy),
        )
        for option, value in given:
            words += [option, str(value)] if value is not None else []
        if self.flow is not None:
            words += ["--flow", self.flow, *(["--steps", str(self.steps)] if self.steps is not None else [])]
            words += ["--", *self.arguments] if self.arguments else []
        return shlex.join(redact_words(words))

    @property
    def narrowed(self) -> str:
        """The `--flows` and `--cell` options, to append to `command`; empty if there are none."""
        words = ["--flows", ",".join(self.flows)] if self.flows else []
        words += [word for cell in self.cells for word in ("--cell", cell)]
        return f" {shlex.join(words)}" if words else ""


def gate_command(request: GateRequest) -> GateExit:
    """Run the gate and print its answer. Invalid input ends with exit code 4, any other error with 3."""
    try:
        gate = run(request)
    except CompatError as error:
        print(error, file=sys.stderr)
        return GateExit.BAD_INPUT if error.exit_code is ExitCode.BAD_INPUT else GateExit.COULD_NOT_TELL
    except OSError as error:
        print(f"{error.filename or 'this machine'}: {error.strerror}", file=sys.stderr)
        return GateExit.COULD_NOT_TELL
    except Exception:  # noqa: BLE001 - Python ends with 1 on an uncaught exception, which is the code of HOLD
        print(redact(traceback.format_exc()), file=sys.stderr)
        return GateExit.COULD_NOT_TELL
    print_gate(gate)
    print(f"{gate.run} has {', '.join(FILES)}")
    return gate.decision.exit_code


def run(request: GateRequest) -> Gate:
    """Return the answer, and write its reports into the directory of its run.

    Raises:
        CompatError: an option, a file, a stack or the policy is invalid, or the machine failed.
    """
    script = _script(request)
    matrix, ledger = read_matrix(), load_ledger()
    policy = load_policy(ledger, request.policy, Path(script.file).stem if script else None)
    options = RunOptions(device=request.device or DeviceChoice.AUTO)
    given_before, given_after = _sides(request, matrix)
    selection = _selection(request)
    gpus = stack_run.chosen_gpus(options, _WHERE)
    device = kind_of(gpus)
    context = (matrix, device, request.python, _print_progress)
    before = resolve(given_before, " ".join(redact_words(request.before)), *context)
    after = resolve(given_after, request.asked_after, *context, before)
    directory = stack_run.this_run()
    runner: Runs
    if script is None:
        runner = Runner(directory, ledger, gpus, options, _print_progress)
        environments = _run_both(runner, before, after, selection, device)
    else:
        runner = ScriptRunner(directory, ledger, script, gpus, _print_progress)
        # One after the other: the script writes to the same places on both sides.
        environments = tuple(runner.cells(of, selection) for of in (before, after))
        runner.check_trained(before.stack, after.stack)
    given = Compared(
        before=_side_after_run(before, directory, runner),
        after=_side_after_run(after, directory, runner),
        results=runner.results(),
        ledger=ledger,
        policy=policy,
        today=datetime.now(UTC).date(),
        command=request.command,
        narrowed=request.narrowed,
        left_out=_left_out(selection),
        wanted=(*selection.flows, *selection.cells),
        script=script.file if script else "",
        applies=runner.applies() if isinstance(runner, ScriptRunner) else {},
    )
    targets = Search(matrix, runner, before, after, device, request.candidates).of(given, compared_cells(given))
    gate = decide(replace(given, results=runner.results()), _defaults(environments), targets)
    publish(gate, directory)
    return gate


def _sides(request: GateRequest, matrix: Matrix) -> tuple[Target, Target]:
    """Both sides as they were asked for."""
    if bool(request.after) == bool(request.upgrade):
        raise CompatError(
            "--to and --upgrade exclude each other" if request.after else "neither --to nor --upgrade is given",
            where=_WHERE,
            meaning="--to names the other versions; --upgrade names packages that move in the versions of --from.",
            todo="Give one of them: compat gate --from uv.lock --upgrade trl.",
        )
    before = read_side(request.before, "--from", matrix, request.python)
    if request.upgrade:
        return before, read_upgrade(request.upgrade, before, matrix)
    return before, read_target(request.after, "--to", before, matrix, request.python)


def _side_after_run(of: Resolved, directory: Path, runner: Runs) -> Side:
    """A side after it ran. `not_followed` includes what the watch changed in the script and what it could not see."""
    found = side(of, directory)
    seen = runner.seen.get(of.stack) if isinstance(runner, ScriptRunner) else None
    return replace(found, not_followed=(*found.not_followed, *seen.changed, *seen.unseen)) if seen else found


def _script(request: GateRequest) -> Script | None:
    if request.flow is None:
        odd = "--steps" if request.steps is not None else next(iter(request.arguments), None)
        if odd is not None:
            raise CompatError(
                f"{odd} belongs to a script, and none is named",
                where=_WHERE,
                todo="Name it: compat gate --flow train.py --from X --to Y -- its arguments.",
            )
        return None
    if request.flows or request.cells:
        raise CompatError(
            f"--flow and {'--flows' if request.flows else '--cell'} exclude each other",
            where=_WHERE,
            meaning="--flow is a script of your own; --flows and --cell choose among the flows of the catalog.",
            todo="Leave one of them out.",
        )
    steps = STEPS if request.steps is None else request.steps
    script = Script((request.flow, *request.arguments), steps)
    if not script.file.endswith(SCRIPTS) or not Path(script.file).is_file():
        raise CompatError(
            "there is no such script",
            where=f"--flow {script.file}",
            meaning="It is a script (.py) or a notebook (.ipynb), or a launcher with what it launches behind --; flows "
            "of the catalog are chosen with --flows.",
            todo="Give one that is there.",
        )
    check_script((script.file,))
    check_steps(steps, _WHERE)
    return script


def _print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _run_both(
    runner: Runs, before: Resolved, after: Resolved, selection: GateSelection, device: DeviceKind
) -> tuple[StackPython | None, ...]:
    """Run both sides; on a CPU in parallel, because a cell process has one thread."""
    if before.stack == after.stack:
        found = runner.cells(before, selection)
        return found, found
    with ThreadPoolExecutor(2 if device is DeviceKind.CPU else 1) as pool:
        return tuple(pool.map(lambda of: runner.cells(of, selection), (before, after)))


def _defaults(environments: tuple[StackPython | None, ...]) -> Defaults:
    before, after = environments
    if before is None or after is None:
        return Defaults((), "there is no environment of one side")
    return compared(before, after)


def _selection(request: GateRequest) -> GateSelection:
    flows = [flow.name for flow in CATALOG]
    cells = [f"{flow.name}[{variant}]" for flow, variant in cells_on(DeviceKind.CPU)]
    for option, given, known in (("--flows", request.flows, flows), ("--cell", request.cells, cells)):
        unknown = next((name for name in given if name not in known), None)
        if unknown is not None:
            near = get_close_matches(unknown, known, n=3, cutoff=0.5)
            raise UnknownName(
                f"there is no {option.removeprefix('--').removesuffix('s')} {unknown!r}",
                where=option,
                meaning=f"Names that look like it: {', '.join(near)}." if near else "No name looks like it.",
                todo=f"The flows are {', '.join(flows)}; an example of a cell is {cells[0]}.",
            )
    return GateSelection(request.flows, request.cells)


def _left_out(selection: GateSelection) -> tuple[str, ...]:
    if selection.cells:
        return (f"every cell but {', '.join(selection.cells)}",)
    return tuple(flow.name for flow in CATALOG if selection.flows and flow.name not in selection.flows)
