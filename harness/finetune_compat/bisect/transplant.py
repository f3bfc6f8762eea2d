"""Proof by transplant: put a function of one release into the other, in scratch copies, and run both.

PROVEN means that the bad function breaks the good release, and the good function repairs the bad one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from finetune_compat.bisect.lines import Installed, installed
from finetune_compat.bisect.probe import Bench, Probe, of_script
from finetune_compat.contract.errors import CompatError
from finetune_compat.gate.resolved import Resolved
from finetune_compat.gate.script import Script
from finetune_compat.history.condition import Measured
from finetune_compat.history.functions import changes, exchanged, functions
from finetune_compat.machine.files import write_atomically
from finetune_compat.results.run_files import judged
from finetune_compat.run import stack_run
from finetune_compat.stacks.locks import Unsolvable
from finetune_compat.watch.host import Interpreter, NothingSeen, run_pipeline


@dataclass(frozen=True, slots=True)
class Proof:
    """What a function does in the other release."""

    place: str
    """File and function (example: `trl/models/utils.py::prepare_peft_model`)."""
    good: str
    bad: str
    """The two sides, as they were named."""
    good_shows: str
    bad_shows: str
    good_with_bad: str
    """What the good release shows with the bad release's function."""
    bad_with_good: str
    breaks: bool
    """Whether the bad function makes the good release show what the bad one shows."""
    repairs: bool
    """Whether the good function makes the bad release show what the good one shows."""
    change: tuple[str, ...] = ()
    """The lines of the only change that was exchanged, from the good release to the bad one; empty for all of them."""

    @property
    def proven(self) -> bool:
        """Whether it holds both ways."""
        return self.breaks and self.repairs


@dataclass(frozen=True, slots=True)
class Ran:
    """A side that was run: its versions, and its result."""

    of: Resolved
    probe: Probe

    @property
    def environment(self) -> Installed:
        """Its environment.

        Raises:
            CompatError: it has none, or the cell gave no result in it.
        """
        if self.probe.python is None or self.probe.measured.state is None:
            raise CompatError(
                self.probe.measured.shown, where=self.of.asked, todo="Name a side on which the cell gives a result."
            )
        return installed(self.probe.python, self.probe.versions)


def prove(bench: Bench, good: Ran, bad: Ran, place: str, hunk: int | None = None) -> Proof:
    """Exchange one function between two releases, or one change of it, and run the cell or script on both.

    Raises:
        CompatError: a release has no such function, both have the same one, or the change does not exist or is no
            Python without the others.
    """
    file, _, function = place.partition("::")
    sources = good.environment.source(file), bad.environment.source(file)
    change = _chosen(good, bad, place, hunk)
    texts = exchanged(*sources, function, hunk)
    if texts is None:
        raise CompatError(
            "it is no Python" if hunk is None else f"change {hunk} is no Python without the others",
            where=place,
            meaning="The function of one release, put into the file of the other, cannot be parsed.",
            todo="Exchange the whole function, or another one." if hunk is None else "Choose another change.",
        )
    broken, repaired = (_with(bench, side, file, text) for side, text in zip((good, bad), texts, strict=True))
    return Proof(
        place=place if hunk is None else f"{place}, change {hunk}",
        good=good.of.asked,
        bad=bad.of.asked,
        good_shows=good.probe.measured.shown,
        bad_shows=bad.probe.measured.shown,
        good_with_bad=broken.shown,
        bad_with_good=repaired.shown,
        breaks=broken.state == bad.probe.measured.state,
        repairs=repaired.state == good.probe.measured.state,
        change=change,
    )


def _chosen(good: Ran, bad: Ran, place: str, hunk: int | None) -> tuple[str, ...]:
    """The lines of the change to exchange; empty without `hunk`.

    Raises:
        CompatError: a release has no such function, both have the same one, or there is no such change.
    """
    file, _, function = place.partition("::")
    found = []
    for side in (good, bad):
        there = functions(side.environment.source(file))
        if function not in there:
            near = get_close_matches(function, there, n=3, cutoff=0.4)
            raise CompatError(
                f"{side.of.asked} has no {function or 'function'} in {file}"
                if there
                else f"it has no Python file {file}",
                where=side.of.asked,
                meaning=f"Names that look like it: {', '.join(near)}."
                if near
                else "The name is FILE::FUNCTION, and FILE is relative to site-packages.",
                todo="Example: trl/models/utils.py::prepare_peft_model. `compat bisect` lists functions that differ.",
            )
        found.append(there[function])
    parts = changes(*found)
    if not parts:
        raise CompatError(
            "there is nothing to exchange",
            where=place,
            meaning="Both releases have the same function there.",
            todo="Name another function.",
        )
    if hunk is None:
        return ()
    if hunk > len(parts):
        listed = (f"{number}: {_short(part)}" for number, part in enumerate(parts, 1))
        raise CompatError(
            f"the function has {len(parts)} changes",
            where=f"--hunk {hunk}",
            meaning=" ".join(listed),
            todo="Choose one of these.",
        )
    return parts[hunk - 1]


def _short(part: Sequence[str]) -> str:
    """The first line of a change, and how many follow."""
    more = f" (and {len(part) - 1} more lines)" if len(part) > 1 else ""
    return f"{part[0][:1]}{part[0][1:].strip()}{more};"


def _with(bench: Bench, side: Ran, file: str, text: str) -> Measured:
    """Run the cell or script with one changed file, in a scratch copy. Nothing is stored."""
    if side.probe.python is None or isinstance(side.of.lock, Unsolvable):
        return Measured(None, "no environment")
    bench.progress(f"{side.of.asked} with the other release's {file}")
    with scratch_copy(side.probe.python, file.partition("/")[0]) as python:
        write_atomically(installed(python, {}).site / file, text)
        return _run(bench, side, python)


def _run(bench: Bench, side: Ran, python: Path) -> Measured:
    lock = side.of.lock
    if isinstance(lock, Unsolvable):
        return Measured(None, "no environment")
    if bench.subject.script is not None:
        return _run_script(bench, bench.subject.script, Interpreter(side.of.stack, python, lock.sha256))
    base = side.probe.seen.stack.base_torch if side.probe.seen else False
    plan = stack_run.plan_of(side.of.stack, lock, bench.options, bench.ledger, bench.device, base_torch=base)
    run = Path(tempfile.mkdtemp(prefix="transplant-", dir=bench.run))
    cells = tuple(cell for cell in plan.cells if str(cell) == bench.subject.cell)
    stack_run.run_unstored(replace(plan, run=str(run), cells=cells), python, bench.gpus, bench.options)
    results = judged(run, bench.ledger, only=side.of.stack)
    verdict = next(iter(results.verdicts), None)
    if verdict is None:
        return Measured(None, "the cell does not exist on these versions")
    return bench.condition.of(verdict, results.observations.get(verdict.cell))


def _run_script(bench: Bench, script: Script, interpreter: Interpreter) -> Measured:
    visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in bench.gpus)}
    try:
        seen = run_pipeline(script.given, interpreter, script.steps, visible, throw_away=True)
    except NothingSeen as error:
        return Measured(None, error.what)
    return of_script(interpreter.name, {}, bench.condition, seen).measured


@contextmanager
def scratch_copy(python: Path, package: str) -> Iterator[Path]:
    """The interpreter of a scratch copy of an environment, which is deleted on exit.

    `package` is a real copy: its files share nothing with the cache of the installer, whose hard links all environments
    share. Everything else is linked to, and must not be changed.
    """
    root = python.parent.parent
    site = installed(python, {}).site
    with tempfile.TemporaryDirectory(prefix="compat-transplant-") as folder:
        copy = Path(folder)
        into = copy / site.relative_to(root)
        into.mkdir(parents=True)
        for entry in site.iterdir():
            if entry.name == package:
                shutil.copytree(entry, into / package, ignore=shutil.ignore_patterns("__pycache__"))
            elif entry.name != "__pycache__":
                (into / entry.name).symlink_to(entry.resolve())
        (copy / "bin").mkdir()
        for name in ("python", "python3"):
            (copy / "bin" / name).symlink_to(python.resolve())
        shutil.copy(root / "pyvenv.cfg", copy / "pyvenv.cfg")
        yield copy / "bin" / "python"
