"""Run a user's script in its own environment for a few training steps, and read the record. Host side."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.contract.errors import CompatError, ExitCode, Interrupted, StackFailed, why
from finetune_compat.contract.records import Stage
from finetune_compat.contract.redaction import Redactor, redact_here
from finetune_compat.contract.script import (
    OUTSIDE,
    RANK,
    REQUEST,
    SCRATCH,
    SHOWN,
    Pipeline,
    Run,
    WatchRequest,
    ended_with,
)
from finetune_compat.contract.verdict import Outcome, Verdict
from finetune_compat.machine import child_processes
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.foreign import parsed, read_whole
from finetune_compat.machine.places import places
from finetune_compat.results.pipelines import read_pipeline
from finetune_compat.stacks.ask import StackPython
from finetune_compat.watch import put_back
from finetune_compat.watch.own_directory import own_directory
from finetune_compat.watch.warm import Forked, Warm, may_fork

SCRIPTS = (".py", ".ipynb")
"""Suffixes of scripts and notebooks; any other command is a launcher."""

STEPS = 10
"""Default number of steps of each training."""

LIMIT_S = 3600.0
"""Default number of seconds that a script may take. A few steps take minutes; the download of a model may take more."""

_PREFIX = "compat-watch-"
"""Beginning of the names of the directories of watches."""

_OWN = "own"
"""Directory in such a directory with the copy that the script runs in (`finetune_compat.watch.own_directory`)."""

_HELD = "held"
"""File in such a directory, locked while its watch lives: the kernel releases the lock of a killed process."""

_POLL_S = 0.2
"""Seconds between two checks for a signal while a script runs."""

FEWEST_STEPS = 2
"""lora_B starts at zero, so lora_A receives its first gradient at step 2."""

_PROBE = (
    "import importlib.util as u, sys; "
    "print(*sys.version_info[:2], *[n for n in ('torch', 'transformers') if not u.find_spec(n)])"
)

_OLDEST = (3, 11)

_GIVE_ONE = "Give the python of the environment your script runs in, such as .venv/bin/python."


class NothingSeen(StackFailed):
    """No process of the script left a record. `status` is the exit status of the process that the watch started."""

    def __init__(self, status: int, where: str) -> None:
        super().__init__(
            f"it ended with {ended_with(status)}, and no library of the stack was seen",
            where=where,
            meaning="It imports neither Transformers, PEFT nor TRL, or Python was started without its variables (-E).",
            todo="Run it once by itself. Where it starts Python itself, leave PYTHONPATH in its environment.",
        )
        self.status = status


class ChangesOutside(StackFailed):
    """A run was ended because it was about to change a file outside its own directory, while other runs were there."""

    def __init__(self, place: str, where: str) -> None:
        super().__init__(
            f"it changes {place}, which is outside its own directory",
            where=where,
            meaning="Runs at the same time would see each other's files.",
            todo="Run it alone.",
        )
        self.place = place


@dataclass(frozen=True, slots=True)
class Background:
    """How a script runs in a search over many sides: it has no input."""

    log: Path
    """File for its output, of which secrets are removed."""
    signals: Sequence[int] | None = None
    """Given in a thread, where other scripts may run at the same time: the signals that `noted_signals` collects in the
    main thread. None: it is alone, and in the main thread.
    """


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python interpreter, and so the environment, that the script runs in."""

    name: str
    """Name of the stack with its Python, for example `trl0.22-py311`; `own` for the user's environment."""
    python: Path
    lock_sha256: str = ""
    torch_wanted: str = ""
    added: Path | None = None
    """Directory of packages that the environment lacks; None if there are none."""


def of_stack(stack: StackPython) -> Interpreter:
    """The environment of a stack of the matrix."""
    return Interpreter(stack.name, stack.python, stack.lock.sha256, stack.lock.facts["torch"])


def own_interpreter(python: str | None) -> Interpreter:
    """The user's interpreter: `python` if given, else the active virtual environment's, else `python3` on the PATH.

    Raises:
        CompatError: there is no such interpreter, it is older than Python 3.11, or it has no torch or no Transformers.
    """
    active = os.environ.get("VIRTUAL_ENV")
    wanted = python or (str(Path(active, "bin", "python")) if active else "python3")
    found = shutil.which(wanted)
    if found is None:
        raise CompatError(
            "there is no such interpreter",
            where=f"--python {wanted}",
            meaning="It is neither a file that can be run nor on the PATH.",
            todo=_GIVE_ONE,
        )
    probe = subprocess.run([found, "-c", _PROBE], capture_output=True, text=True, check=False)
    words = probe.stdout.split()
    if probe.returncode or len(words) < len(_OLDEST):
        raise CompatError(
            "it is not a working Python interpreter",
            where=f"--python {wanted}",
            meaning="The harness ran it to read its version and to find torch and Transformers. That run failed.",
            todo=_GIVE_ONE,
        )
    version, missing = (int(words[0]), int(words[1])), words[2:]
    if version < _OLDEST or missing:
        what = f"it has no {' and no '.join(missing)}" if missing else f"it is Python {words[0]}.{words[1]}"
        raise CompatError(
            what,
            where=found,
            meaning="The script runs in this environment, which needs Python 3.11 or later, torch and Transformers.",
            todo="Activate that environment, name it (--python .venv/bin/python), or choose a stack (--stack trl0.22).",
        )
    return Interpreter("own", Path(found))


def command_of(python: Path, given: Sequence[str]) -> tuple[str, list[str]]:
    """The flow's name, and the command that runs it.

    The command is a script, a notebook, a file of three calls, or a launcher of the environment with its arguments
    (`accelerate launch train.py`).

    Raises:
        CompatError: there is no such file or launcher.
    """
    check_script(given)
    first, *rest = given
    script = Path(first)
    if script.suffix in SCRIPTS:
        if script.suffix == ".ipynb":
            return script.stem, [str(python), "-m", "finetune_compat.cell.script.notebook", first, *rest]
        if is_three_calls(script):
            return script.stem, [str(python), "-m", "finetune_compat.cell.script.calls", first, *rest]
        return script.stem, [str(python), first, *rest]
    launcher = python.parent / first
    if not launcher.is_file():
        raise CompatError(
            "it is neither a script, a notebook nor a command of that environment",
            where=first,
            meaning=f"There is no {launcher}.",
            todo="Give train.py, train.ipynb, or a launcher: compat watch -- accelerate launch train.py.",
        )
    script_name = next((Path(word).stem for word in rest if word.endswith(".py")), first)
    return script_name, [str(launcher), *rest]


def check_script(given: Sequence[str]) -> None:
    """Check a script or notebook before its environment is made. A launcher is not checked: the environment holds it.

    Raises:
        CompatError: there is no such file, or the notebook is invalid.
    """
    script = Path(given[0])
    if script.suffix not in SCRIPTS:
        return
    if not script.is_file():
        raise CompatError(
            "there is no such file",
            where=given[0],
            meaning=f"Nothing is at {script.absolute()}.",
            todo="Give an existing script (.py) or notebook (.ipynb).",
        )
    if script.suffix == ".ipynb":
        _check_notebook(script)


def _check_notebook(script: Path) -> None:
    try:
        cells = parsed(read_whole(script))["cells"]
        whole = all(isinstance(cell["cell_type"], str) and _is_source(cell["source"]) for cell in cells)
        problem = "" if whole else "the source of a cell is not text"
    except KeyError as missing:
        problem = f"it has no {missing}"
    except TypeError:
        problem = "it is not a JSON object"
    except (OSError, ValueError) as error:
        problem = why(error)
    if problem:
        raise CompatError(
            f"it is not a valid notebook: {problem}",
            where=str(script),
            meaning="A notebook is a JSON file with code cells, in version 4 of the notebook format.",
            todo="Open it in Jupyter and save it again, or give a script (.py).",
        )


def _is_source(source: object) -> bool:
    lines = source if isinstance(source, list) else [source]
    return all(isinstance(line, str) for line in lines)


CALLS = ("build", "train", "evaluate")
"""The functions that a file of three calls defines."""


def is_three_calls(script: Path) -> bool:
    """Whether `script` defines `build`, `train` and `evaluate`, and has no other top-level statements that act."""
    try:
        body = ast.parse(script.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False  # Python reports the error when it runs the script
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    passive = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    idle = all(isinstance(node, passive) or _is_docstring(node) for node in body)
    return set(CALLS) <= defined and idle


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def check_steps(steps: int, where: str) -> None:
    """Check that a training of `steps` steps can be judged.

    Raises:
        CompatError: `steps` is less than `FEWEST_STEPS`.
    """
    if steps < FEWEST_STEPS:
        raise CompatError(
            f"--steps {steps}",
            where=where,
            meaning="Before step 2 half of a LoRA adapter has no gradient to receive.",
            todo=f"Ask for {FEWEST_STEPS} steps or more.",
        )


def run_pipeline(  # noqa: PLR0913 - the options of compat watch, and where it runs
    given: Sequence[str],
    interpreter: Interpreter,
    steps: int = STEPS,
    variables: Mapping[str, str] | None = None,
    *,
    throw_away: bool = False,
    warm: Warm | None = None,
    limit_s: float = LIMIT_S,
    after: bool | None = None,
    background: Background | None = None,
) -> Pipeline:
    """Run a script and end each of its trainings after `steps` steps. Its output goes to stderr.

    Args:
        given: the script and its arguments.
        interpreter: the interpreter to run the script with.
        steps: number of steps of each training.
        variables: environment variables to add to the inherited ones.
        throw_away: whether to discard everything that the script writes below the current directory and next to itself,
            and what it saves through the libraries: it runs in a copy of these directories. If false, only the output
            of trainers and what would replace existing files is discarded.
        warm: a process with the interpreter's libraries, to fork the script from it.
        limit_s: seconds that the script may take. Then all of its processes are ended.
        after: whether to load again what the script saves after training, and the best checkpoint; None: if the model
            is small.
        background: where its output goes instead, and whether other scripts run at the same time; with `throw_away`.

    Raises:
        CompatError: there is no such script, or `steps` is too small.
        StackFailed: the script took longer than `limit_s`.
        NothingSeen: the process left no record.
        ChangesOutside: other scripts run at the same time, and this one was about to change a file outside its own
            directory.
        RecordsError: a record cannot be read.
        Interrupted: SIGINT, SIGTERM or SIGHUP arrived. All processes of the script have ended, and its links are
            removed.
    """
    check_steps(steps, "compat watch")
    flow, command = command_of(interpreter.python.absolute(), given)
    with _signals_of(background) as signals, temporary_folder() as folder:
        lock, torch = interpreter.lock_sha256, interpreter.torch_wanted
        together = background is not None and background.signals is not None
        request = WatchRequest(folder, flow, interpreter.name, steps, lock, torch, throw_away, after, together)
        asked = Path(folder, "request")
        asked.write_text(json.dumps(dataclasses.asdict(request)), encoding="utf-8")
        environ = {**environ_of(asked, interpreter.added), **(variables or {})}
        directory = Path.cwd()
        if throw_away:
            directory, command, own = _in_own_directory(Path(folder).resolve(), given, command)
            environ |= own
        log = background.log if background else None
        job = _Job(command, environ, directory, log, warm if may_fork(given) else None)
        status = _run(job, signals, limit_s)
        seen = _read(Path(folder), status, given)
        seen = dataclasses.replace(seen, changed=(*seen.changed, *put_back.sentences(put_back.read(Path(folder)))))
        return without_secrets(seen, given)


def _in_own_directory(
    folder: Path, given: Sequence[str], command: Sequence[str]
) -> tuple[Path, list[str], dict[str, str]]:
    """Copy the current directory and the script's below `folder`.

    Returns:
        The directory to run in, the command with the copy of the script, and variables for its temporary files.
    """
    here, root, temporary = Path.cwd(), folder / _OWN, folder / "tmp"
    script = next((word for word in given if word.endswith(SCRIPTS)), None)
    beside = [Path(script).resolve().parent] if script is not None else []
    for directory in (root, temporary):
        directory.mkdir()
    own_directory(root, [here, *beside], _PREFIX)
    words = [
        f"{root}{Path(word).resolve()}" if word == script and Path(word).is_absolute() else word for word in command
    ]
    return Path(f"{root}{here}"), words, {"TMPDIR": str(temporary)}


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """A temporary directory of a watch. On exit it is removed, with the links into it, and the files that existed
    before the script are put back. What watches left that were killed is removed first.

    Raises:
        CompatError: on exit, if a file could not be put back.
    """
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, Path(folder, _HELD).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            _remove_links(Path(folder, SCRATCH).resolve())
            put_back.put_back(Path(folder))


def _sweep(temporary: Path) -> None:
    """Remove the directories of watches that were killed, and the links into them, and put back the user's files."""
    for mark in temporary.glob(f"{_PREFIX}*/{_HELD}"):
        # The lock is held while the watch lives. Another user's directory could name any directory of this one's.
        with contextlib.suppress(OSError), mark.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if mark.stat().st_uid == mark.parent.stat().st_uid == os.getuid():
                _remove_links((mark.parent / SCRATCH).resolve())
                put_back.put_back(mark.parent, ended_at=mark.stat().st_mtime)
                shutil.rmtree(mark.parent, ignore_errors=True)


def without_secrets(seen: Pipeline, given: Sequence[str]) -> Pipeline:
    """The record `seen` with the secrets of the arguments `given` and of the environment removed.

    Call this before the record is written or shown.
    """
    return Redactor.of(given, os.environ).record(seen)


@contextlib.contextmanager
def _signals_of(background: Background | None) -> Iterator[Sequence[int]]:
    """The signals that the main thread collects. Without any, this is the main thread."""
    if background is not None and background.signals is not None:
        yield background.signals
        return
    with noted_signals() as noted:
        yield noted


@contextlib.contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list, in order of arrival, so that none of them interrupts the cleanup.

    Raises:
        Interrupted: on exit, if a signal arrived.
    """
    noted: list[int] = []
    asking = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # nohup, and a shell that starts a background command, ignore some signals. Keep these ignored.
    heeded = [number for number in asking if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: noted.append(number)) for number in heeded}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if noted:
            raise Interrupted(noted[0])


@dataclass(frozen=True, slots=True)
class _Job:
    """A script to start."""

    command: Sequence[str]
    environ: Mapping[str, str]
    directory: Path
    log: Path | None
    """File for its output; None: stderr, because stdout is reserved for the output of compat."""
    warm: Warm | None

    @property
    def outside(self) -> Path:
        """The file that says what the script would have changed outside its own directory."""
        return Path(self.environ[REQUEST]).with_name(OUTSIDE)

    def start(self) -> subprocess.Popen[bytes] | Forked:
        """Start it."""
        if self.warm is not None:
            return self.warm.start(self.command, self.environ, self.directory)
        if self.log is None:
            return subprocess.Popen(self.command, env=self.environ, cwd=self.directory, stdout=sys.stderr)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            return subprocess.Popen(
                self.command,
                env=self.environ,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )


def _run(job: _Job, signals: Sequence[int], limit_s: float) -> int:
    """Run the script and return its exit status. At the first of `signals`, after `limit_s` seconds, and where it must
    run alone, end all processes that it started.

    Raises:
        Interrupted: a signal arrived.
        StackFailed: the script took too long.
        ChangesOutside: it must run alone.
    """
    ends_at = time.monotonic() + limit_s
    if signals:
        raise Interrupted(signals[0])
    process, status = job.start(), None
    try:
        while status is None and not signals and not job.outside.exists() and time.monotonic() < ends_at:
            os.utime(Path(job.environ[REQUEST]).with_name(_HELD))  # when it was killed, should it be killed
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(_POLL_S)
        if status is None or signals or job.outside.exists():
            child_processes.end_tree(process, f"{REQUEST}={job.environ[REQUEST]}")
    finally:
        if job.log is not None:
            write_atomically(job.log, redact_here(job.log.read_text(encoding="utf-8", errors="replace")))
    if signals:  # Ctrl-C ends the script too: its exit status then means nothing
        raise Interrupted(signals[0])
    if job.outside.exists():
        raise ChangesOutside(job.outside.read_text(encoding="utf-8"), shlex.join(job.command))
    if status is not None:
        return status
    raise StackFailed(
        f"it took longer than {limit_s:g} s, and was ended",
        where=shlex.join(job.command),
        meaning="It waits for something, or does much before its first training: each training ends after a few steps.",
        todo="Give it more time (--limit SECONDS), or fewer data.",
    )


def _remove_links(scratch: Path) -> None:
    """Remove the links into `scratch`, and the directories that were made for them if nothing else is in them."""
    for record in scratch.glob(f"*{SHOWN}"):
        # The script may have removed or renamed the directory, or may have ended before the record was complete.
        with contextlib.suppress(OSError, ValueError):
            shown = json.loads(record.read_text(encoding="utf-8"))
            for link in list(Path(shown["directory"]).iterdir()):
                if link.is_symlink() and link.readlink().is_relative_to(scratch):
                    link.unlink()
            for made in shown["made"]:
                Path(made).rmdir()


def environ_of(request: Path, added: Path | None = None) -> dict[str, str]:
    """The inherited environment variables, and those that make Python load the watch first, and find `added`."""
    site = places().import_path() / "finetune_compat" / "cell" / "site"
    more = (os.environ.get("PYTHONPATH"), str(added) if added else None)
    path = os.pathsep.join([str(site), *filter(None, more)])
    return {**os.environ, "PYTHONPATH": path, REQUEST: str(request), child_processes.PARENT: str(os.getpid())}


def _read(folder: Path, status: int, given: Sequence[str]) -> Pipeline:
    """The record of the process with the most runs: a launcher only starts other processes, and its record is empty."""
    records = [_decoded(path) for path in sorted(folder.glob("*.json"))]
    if not records:
        raise NothingSeen(status, given[0])
    most = max(records, key=lambda record: (len(record.runs), sum(len(run.seen.stages) for run in record.runs)))
    others = [record for record in records if record is not most and record.runs]
    unseen = (f"{len(others)} other processes of the script trained or loaded models too",) if others else ()
    together = [_decoded(path) for path in sorted(folder.glob(f"*{RANK}"))]
    runs = tuple(
        _compared(run, [other.runs[place] for other in together if place < len(other.runs)])
        for place, run in enumerate(most.runs)
    )
    hosts = dict.fromkeys(host for record in records for host in record.hosts)
    answered = {host for record in records for host in record.hosts if host not in record.unanswered}
    return dataclasses.replace(
        most,
        status=status,
        runs=runs,
        unseen=(*most.unseen, *unseen),
        read=_read_by_any(records, folder),
        hosts=tuple(hosts),
        unanswered=tuple(host for host in hosts if host not in answered),
    )


def _read_by_any(records: Iterable[Pipeline], folder: Path) -> tuple[str, ...] | None:
    """Files that any process read outside `folder`, relative to the current directory if they are below it. None if a
    process has no list.
    """
    found: set[str] = set()
    for record in records:
        if record.read is None:
            return None
        found.update(record.read)
    here, own = Path.cwd(), folder.resolve()
    paths = [path for path in map(Path, sorted(found)) if not path.is_relative_to(own)]
    return tuple(str(path.relative_to(here) if path.is_relative_to(here) else path) for path in paths)


def _compared(run: Run, others: Sequence[Run]) -> Run:
    """The run, compared with those of the processes that trained together with it. Shards are not compared."""
    own = _weights_after(run)
    found = [weights for other in others if own and (weights := _weights_after(other))]
    return dataclasses.replace(run, ranks=len(found), ranks_differ=sum(weights != own for weights in found))


def _weights_after(run: Run) -> str | None:
    """The digest of the weights after training; None without one."""
    after = run.seen.census(Stage.AFTER_TRAINING)
    return after.subject_sha256 if after is not None and run.seen.training is not None else None


def _decoded(path: Path) -> Pipeline:
    """The record at `path`. Paths in the script's own directory are those of the user's directories that it copies."""
    own = json.dumps(str(path.parent.resolve() / _OWN))[1:-1]
    return read_pipeline(path.read_text(encoding="utf-8", errors="replace").replace(own, ""), path.name)


def exit_code(verdicts: Iterable[Verdict]) -> ExitCode:
    """UNHEALTHY if a verdict is FAIL, HEALTHY if all verdicts are PASS, else COULD_NOT_TELL."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if Outcome.FAIL in outcomes:
        return ExitCode.UNHEALTHY
    return ExitCode.COULD_NOT_TELL if outcomes != {Outcome.PASS} else ExitCode.HEALTHY
