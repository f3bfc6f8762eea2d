"""`compat gate`: read both sides, make their locks, run their cells, search for a safe target, decide."""

from __future__ import annotations

import contextlib
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path

from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.catalog import CATALOG, cells_on
from finetune_compat.contract.errors import CompatError, ExitCode, StackFailed, UnknownName
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.records import DeviceKind
from finetune_compat.contract.redaction import redact, redact_words
from finetune_compat.gate.asked import Row, Target, Upgrade, Wanted
from finetune_compat.gate.decide import Compared, compared_cells, decide
from finetune_compat.gate.decision import CellChange, Gate, GateExit, Rule, Side
from finetune_compat.gate.defaults import Defaults, compared, read_defaults
from finetune_compat.gate.foretold import foretold, word
from finetune_compat.gate.inputs import read_side, read_target, read_upgrade
from finetune_compat.gate.known import HeldStack, Known, NotHeld, order, read_known
from finetune_compat.gate.live import Watcher
from finetune_compat.gate.policy import Policy, load_policy
from finetune_compat.gate.progress import GateProgress
from finetune_compat.gate.reason import certain
from finetune_compat.gate.report import answer_json, publish
from finetune_compat.gate.report.terminal import print_gate
from finetune_compat.gate.resolve import resolve
from finetune_compat.gate.resolved import Resolved
from finetune_compat.gate.script import Script, ScriptRunner
from finetune_compat.gate.search import Search
from finetune_compat.gate.sides import GateSelection, Runner, Runs, side, side_before
from finetune_compat.gate.taken import with_taken
from finetune_compat.machine.console import stdout_to_stderr
from finetune_compat.machine.gpus import Gpu, kind_of
from finetune_compat.results.run_files import Results, RowState, point_latest_at
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions, checked
from finetune_compat.stacks.ask import StackPython
from finetune_compat.stacks.matrix import Matrix, read_matrix
from finetune_compat.watch.host import SCRIPTS, STEPS, check_script, check_steps

_WHERE = "compat gate"

CANDIDATES = 6
"""Maximum number of releases to run per cause in the search for a safe target. Each costs an import of the stack."""


AskedSide = tuple[Target, str]
"""A parsed side, and the words that asked for it, without secrets."""


class Until(StrEnum):
    """When a gate ends."""

    ANSWERED = "answered"
    """When a safe release was searched. Where BLOCK is certain, cells that say what others say do not run."""
    DECIDED = "decided"
    """As soon as BLOCK is certain; without it, when every cell ran. No safe release is searched."""
    COMPLETE = "complete"
    """When every cell ran and a safe release was searched."""


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
    limit_s: float | None = None
    """Time limit of a cell."""
    until: Until = Until.ANSWERED
    cached: bool = False
    """Whether to answer from the committed baselines and start nothing."""
    as_json: bool = False
    """Whether to print gate.json, alone, on stdout."""
    details: bool = False
    """Whether to print everything on the terminal."""
    fresh: bool = False
    """Whether to run also cells that are cached, and build what did not build before."""

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
            ("--limit", None if self.limit_s is None else f"{self.limit_s:g}"),
            ("--until", None if self.until is Until.ANSWERED else self.until),
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
        with stdout_to_stderr(when=request.as_json):
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
    if request.as_json:
        print(answer_json.render(gate), end="")
    else:
        print_gate(gate, details=request.details)
    return gate.decision.exit_code


def run(request: GateRequest) -> Gate:
    """Return the answer, and write its reports into the directory of its run. With `cached`, nothing is written.

    Raises:
        CompatError: an option, a file, a stack or the policy is invalid, or the machine failed.
    """
    if request.cached and request.fresh:
        raise CompatError(
            "--cached and --fresh exclude each other",
            where=_WHERE,
            meaning="--cached starts nothing; --fresh also runs what is cached.",
            todo="Leave one of them out.",
        )
    script = _script(request)
    matrix, ledger = read_matrix(), load_ledger()
    policy = load_policy(ledger, request.policy, Path(script.file).stem if script else None)
    options = checked(
        RunOptions(device=request.device or DeviceChoice.AUTO, limit=request.limit_s, fresh=request.fresh), _WHERE
    )
    given_before, given_after = _sides(request, matrix)
    sides = ((given_before, " ".join(redact_words(request.before))), (given_after, request.asked_after))
    selection = _selection(request, policy)
    gpus = stack_run.chosen_gpus(options, _WHERE)
    device = kind_of(gpus)
    given = Compared(
        before=_UNRESOLVED,
        after=_UNRESOLVED,
        results=Results(stack_run.this_run(), (), {}, ()),
        ledger=ledger,
        policy=policy,
        today=datetime.now(UTC).date(),
        command=request.command,
        narrowed=request.narrowed,
        left_out=_left_out(selection),
        wanted=(*request.flows, *request.cells),
        script=script.file if script else "",
    )
    with GateProgress() as shown:

        def of(side: AskedSide, beside: Resolved | None = None) -> Resolved:
            return resolve(*side, matrix, device, request.python, shown.say, beside, fresh=request.fresh)

        known = read_known() if device is DeviceKind.CPU and script is None else None
        told = _foretell(known, sides, of, given, selection) if known else None
        if request.cached:
            return _cached(told, known, sides)
        if told is not None:
            shown.say(word(told.gate))
        before = of(sides[0])
        after = of(sides[1], before)
        given = replace(given, before=side_before(before), after=side_before(after))
        if script is not None:
            gate = _run_script(given, script, gpus, Task(request, matrix, before, after, device, selection), shown)
        else:
            ranks = order(known, *(told.places if told else (None, None)))
            seconds = {cell.name: cell.seconds for cell in known.cells} if known else {}
            runner = Runner(given.results.run, ledger, gpus, options, shown, ranks, seconds)
            gate = _run_cells(given, runner, Task(request, matrix, before, after, device, selection, known))
        publish(gate, given.results.run)
    point_latest_at(given.results.run)
    return gate


@dataclass(frozen=True, slots=True)
class Task:
    """What a gate of two resolved sides has to do."""

    request: GateRequest
    matrix: Matrix
    before: Resolved
    after: Resolved
    device: DeviceKind
    selection: GateSelection
    known: Known | None = None
    """The baselines; None for a script."""


@dataclass(frozen=True, slots=True)
class _Told:
    """The answer of the baselines, and the places of both sides in them."""

    gate: Gate
    places: tuple[int, int]


def _foretell(
    known: Known,
    sides: Sequence[AskedSide],
    of: Callable[[AskedSide], Resolved],
    given: Compared,
    selection: GateSelection,
) -> _Told | None:
    """The answer of the baselines; None if they do not hold both sides. Resolves rows only, which needs no network."""
    found: list[tuple[int, Side]] = []
    for given_side, asked in sides:
        if isinstance(given_side, Upgrade):
            return None
        row = side_before(of((given_side, asked))) if isinstance(given_side, Row) else None
        place = known.place(given_side, row.stack if row else "", row.lock_sha256 if row else "")
        if place is None:
            return None
        found.append((place, row or _as_held(given_side, asked, known.stacks[place])))
    (one, before), (other, after) = found
    if before.stack == after.stack:
        return None
    return _Told(foretold(known, (one, other), replace(given, before=before, after=after), selection), (one, other))


def _as_held(side: Row | Wanted, asked: str, held: HeldStack) -> Side:
    rule = Rule.ROW if isinstance(side, Row) else side.rule
    return replace(
        _UNRESOLVED,
        asked=asked,
        stack=held.name,
        rule=rule,
        versions=held.versions,
        not_followed=side.not_followed,
        lock_sha256=held.lock_sha256,
    )


_UNRESOLVED = Side(
    asked="",
    stack="",
    rule=Rule.ROW,
    as_of=date.min,
    versions={},
    not_followed=(),
    lock_sha256="",
    state=RowState.RAN,
    reason="",
)
"""A side before it is resolved."""


def _cached(told: _Told | None, known: Known | None, sides: Sequence[AskedSide]) -> Gate:
    if told is not None:
        return told.gate
    if known is None:
        raise NotHeld(
            "the committed baselines hold only cells on a CPU",
            where="--cached",
            meaning="They hold neither your script nor runs on a GPU.",
            todo="Leave --cached out, or leave --flow out and use --device cpu.",
        )
    raise NotHeld(
        "no committed baseline holds these versions",
        where=" or ".join(dict.fromkeys(asked for _, asked in sides)),
        meaning="--cached answers from measurements that were made before, and starts nothing.",
        todo="Leave --cached out, or name two stacks with the Python of the baselines: `compat stacks` lists them.",
    )


def _run_cells(given: Compared, runner: Runner, task: Task) -> Gate:
    def blocked(cell: CellChange) -> None:
        runner.progress(certain(cell))
        if task.request.until is Until.DECIDED:
            runner.enough.stop.set()
        elif task.request.until is Until.ANSWERED:
            runner.shown.drop(runner.enough.blocks())

    with Watcher(runner.run, given, lambda seen: runner.ended(seen.cell), blocked) as watcher:
        environments = runner.both(task.before, task.after, task.selection)
        watcher.look()
        if runner.dropped:
            given = replace(given, left_out=(*given.left_out, _unrun(len(runner.dropped), task.request.until)))
        # The search runs cells too, and the watcher counts them.
        return _answer(given, runner, task, lambda: _defaults(environments))


def _unrun(cells: int, until: Until) -> str:
    if until is Until.DECIDED:
        return f"{cells} cells that had not ended"
    return f"{cells} cells that say on every measured stack what another one says (--until complete runs them)"


def _run_script(given: Compared, script: Script, gpus: Sequence[Gpu], task: Task, shown: GateProgress) -> Gate:
    runner = ScriptRunner(given.results.run, given.ledger, script, gpus, shown.say)
    with ThreadPoolExecutor(1) as aside:
        # One after the other: the script writes to the same places on both sides.
        shown.phase(task.before.stack, f"running {script.file}")
        before = runner.cells(task.before, task.selection)
        shown.phase(task.before.stack, "")
        if before is not None:  # reading defaults imports the stack, which takes as long as the script's own import
            aside.submit(_read, before)
        shown.phase(task.after.stack, f"running {script.file}")
        after = runner.cells(task.after, task.selection)
        shown.phase(task.after.stack, "")
        runner.check_trained(task.before.stack, task.after.stack)
    return with_taken(_answer(given, runner, task, lambda: _defaults((before, after))))


def _read(stack: StackPython) -> None:
    with contextlib.suppress(StackFailed):  # the comparison says so
        read_defaults(stack)


def _answer(given: Compared, runner: Runs, task: Task, defaults: Callable[[], Defaults]) -> Gate:
    """Decide from the results of both sides, after the search for a safe target."""
    given = replace(
        given,
        before=_side_after_run(task.before, runner.run, runner),
        after=_side_after_run(task.after, runner.run, runner),
        results=runner.results(),
        applies=runner.applies() if isinstance(runner, ScriptRunner) else {},
    )
    if task.request.until is Until.DECIDED:
        return decide(given, Defaults((), "the gate ended when it was decided"), {})
    with ThreadPoolExecutor(1) as aside:
        changed = aside.submit(defaults)
        most = task.request.candidates
        search = Search(task.matrix, runner, task.before, task.after, task.device, most, task.known)
        targets = search.of(given, compared_cells(given))
    return decide(replace(given, results=runner.results()), changed.result(), targets)


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


def _defaults(environments: tuple[StackPython | None, ...]) -> Defaults:
    before, after = environments
    if before is None or after is None:
        return Defaults((), "there is no environment of one side")
    return compared(before, after)


def _selection(request: GateRequest, policy: Policy) -> GateSelection:
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
    if request.flow is None and policy.only_if_named and not request.flows and not request.cells:
        return GateSelection(tuple(name for name in flows if name not in policy.only_if_named))
    return GateSelection(request.flows, request.cells)


def _left_out(selection: GateSelection) -> tuple[str, ...]:
    if selection.cells:
        return (f"every cell but {', '.join(selection.cells)}",)
    return tuple(flow.name for flow in CATALOG if selection.flows and flow.name not in selection.flows)
