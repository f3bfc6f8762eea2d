"""The compared ways: `compat run` in a fresh checkout, the plain way, and the floor.

The plain way is what a careful project's CI does for each set of versions: `python -m venv`, `pip install` of the same
lock with its hashes, one pytest process with the same flows as plain tests. Its pip cache is warm, as this harness's uv
cache is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree as ET

from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine.places import PACKAGE
from finetune_compat.run.selection import On
from finetune_compat.stacks.environments import environment_of
from finetune_compat.stacks.locks import Lock, Unsolvable, locked
from finetune_compat.stacks.matrix import Stack, read_matrix

from side_by_side.children import Took, pinned, progress, timed
from side_by_side.session import PLUGIN, Event, seen

ROOT = PACKAGE.parents[1]

PYTHON = "3.11"

FAILING = (0, 1)
"""Exit codes of pytest and `compat run` with failing flows; old releases have bugs, and both ways report them."""


def spread(stacks: Sequence[Stack], number: int) -> tuple[Stack, ...]:
    """Return `number` of the stacks at equal distances, including the first and the last."""
    if number >= len(stacks):
        return tuple(stacks)
    if number == 1:
        return (stacks[-1],)
    return tuple(stacks[round(place * (len(stacks) - 1) / (number - 1))] for place in range(number))


@dataclass(frozen=True)
class Place:
    """A copy of the checkout, and everything that the ways create. Removed after all measurements."""

    work: Path
    logs: Path
    stacks: tuple[On, ...]
    flows: str
    """Only these flows, separated by commas; empty: all."""
    tell: Callable[[str], None]
    """Prints a line of progress."""

    @property
    def checkout(self) -> Path:
        """The copy: without environments, runs and caches."""
        return self.work / "checkout"

    @cached_property
    def environ(self) -> dict[str, str]:
        """Variables of every process; the store is the benchmark's, pip's cache the user's."""
        return {
            **pinned(),
            "COMPAT_STORE": str(self.work / "store"),
            "PIP_NO_CACHE_DIR": "false",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def lock(self, on: On) -> Lock:
        """Return the lock of a stack.

        Raises:

        CompatError: it has no lock.
        """
        found = locked(read_matrix().plan(on.stack, on.python, DeviceKind.CPU))
        if isinstance(found, Unsolvable):
            raise CompatError(f"{on.name} has no lock", where="--stacks", todo="Ask for another number of stacks.")
        return found

    # ------------------------------------------------------------------------------------------------------- ours

    def copy_checkout(self) -> None:
        """Copy the files that git tracks or would track."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - as everywhere
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.checkout / name)

    def run(self, name: str, *options: str) -> Took:
        """`compat run` of the stacks, on the CPU."""
        flows = ("--flows", self.flows) if self.flows else ()
        command = [sys.executable, "-m", "finetune_compat", "run", *(on.name for on in self.stacks), *flows, *options]
        log = self.logs / f"{name}.log"
        try:
            with progress(log, self.tell):
                return timed(
                    [*command, "--device", "cpu", "--tier", "full"],
                    log=log,
                    cwd=self.checkout,
                    environ=self.environ,
                    statuses=FAILING,
                )
        finally:
            sessions = self.checkout / "reports" / "runs" / "latest" / "nox.log"
            if sessions.exists():
                shutil.copy(sessions, self.logs / f"{name}-nox.log")

    def session(self, on: On) -> list[Event]:
        """Return the events of one session of nox in which every cell runs."""
        selected = ("-k", self.flows.replace(",", " or ")) if self.flows else ()
        command = [sys.executable, "-m", "nox", "--no-color", "-s", on.session, "--"]
        options = ("--device", "cpu", "--tier", "full", "--fresh", "-n", "1", "-p", PLUGIN, *selected)
        return seen([*command, *options], log=self.logs / "session.log", cwd=self.checkout, environ=self.environ)

    def overhead(self, on: On) -> float:
        """Return the recorder's cost on one stack, as `-- --overhead` prints it."""
        log = self.logs / "overhead.log"
        command = [sys.executable, "-m", "nox", "-s", on.session, "--", "--device", "cpu", "--overhead"]
        timed(command, log=log, cwd=self.checkout, environ=self.environ)
        return overall(log.read_text(encoding="utf-8"))

    def keep_plans(self) -> int:
        """Save the plans of the latest run, so that other ways run the same cells; return their number."""
        shutil.rmtree(self.work / "plans", ignore_errors=True)
        shutil.copytree(self.checkout / "reports" / "runs" / "latest" / "plans", self.work / "plans")
        return sum(len(self.cells(on)) for on in self.stacks)

    def plan(self, on: On) -> Path:
        """The plan of this harness's session."""
        return self.work / "plans" / f"{on.name}.json"

    def cells(self, on: On) -> tuple[str, ...]:
        """The cells that this harness's session ran."""
        from finetune_compat.contract.plan import read_plan

        return tuple(map(str, read_plan(self.plan(on)).cells))

    # -------------------------------------------------------------------------------------------------- the others

    def warm_caches(self, on: On) -> None:
        """Let uv and pip download what a stack needs, so that no way waits for a network."""
        lock = self.lock(on)
        with tempfile.TemporaryDirectory(dir=self.work) as aside:
            environment_of(lock, Path(aside))
        command = [*self._pip(Path(sys.executable)), "download", "--quiet", "--no-deps", "--dest"]
        with tempfile.TemporaryDirectory(dir=self.work) as aside:
            log = self.logs / f"{on.name}-download.log"
            timed([*command, aside, "--require-hashes", "-r", str(lock.path)], log=log, cwd=ROOT, environ=self.environ)

    def plain_environment(self, on: On) -> Took:
        """`python -m venv` and `pip install` of the stack's lock and torch."""
        lock, folder, log = self.lock(on), self._venv(on), self.logs / f"{on.name}-plain-environment.log"
        base = shutil.which(f"python{on.python}") or sys.executable
        pip = " ".join(self._pip(folder / "bin" / "python"))
        script = (
            f"set -e; {base} -m venv {folder}; {pip} install --quiet --no-deps --require-hashes -r {lock.path}; "
            f"{pip} install --quiet torch=={lock.facts['torch']}"
        )
        return timed(["bash", "-c", script], log=log, cwd=self.checkout, environ=self.environ)

    def plain_tests(self, on: On, name: str) -> Took:
        """One pytest process with every flow as a plain test.

        Raises:
            CompatError: it ran other cells than our session.
        """
        result = self.work / f"{on.name}.xml"
        command = [
            *(str(self._venv(on) / "bin" / "python"), "-m", "pytest", "-q", "--no-header", "--tb=line"),
            *(
                "-c",
                "harness/finetune_compat/cell/session/pytest.ini",
                "--rootdir",
                str(self.checkout),
                f"--junitxml={result}",
            ),
            "tests/benchmarks/plain",
        ]
        log = self.logs / f"{on.name}-plain-{name}.log"
        took = timed(command, log=log, cwd=self.checkout, environ=self._environ(on), statuses=FAILING)
        ran = sum(int(suite.get("tests", "0")) for suite in ET.parse(result).iter("testsuite"))  # noqa: S314 - our own
        self._same_cells(on, ran, log)
        return took

    def remove_plain(self, on: On) -> None:
        """Free disk space: an environment takes a gigabyte. The next measurement must not wait for the deletion."""
        shutil.rmtree(self._venv(on), ignore_errors=True)
        os.sync()

    def straight_line(self, on: On) -> Took:
        """The same flows as one script in the harness's environment: the floor.

        Raises:

        CompatError: it ran other cells than the session.
        """
        from finetune_compat.run.request import env_python

        log = self.logs / f"{on.name}-straight-line.log"
        python = env_python(on, self.checkout / ".nox")
        command = [str(python), "tests/benchmarks/straight_line.py"]
        took = timed(command, log=log, cwd=self.checkout, environ=self._environ(on))
        ran = len([line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("ran ")])
        self._same_cells(on, ran, log)
        return took

    def _same_cells(self, on: On, ran: int, log: Path) -> None:
        wanted = len(self.cells(on))
        if ran != wanted:
            raise CompatError(
                f"{on.name}: ran {ran} cells, our session {wanted}",
                where=str(log),
                meaning="Two ways that do different work cannot be compared.",
                todo="Read that log; what was measured before is in the table.",
            )

    def _environ(self, on: On) -> dict[str, str]:
        return {**self.environ, "PYTHONPATH": str(self.checkout / "harness"), "BENCHMARK_PLAN": str(self.plan(on))}

    def _venv(self, on: On) -> Path:
        return self.work / "plain" / on.name

    def _pip(self, python: Path) -> tuple[str, ...]:
        return str(python), "-m", "pip"


def of_flows(output: str) -> float:
    """Seconds of the flows in the last line of a straight-line script.

    Raises:

    CompatError: there are none.
    """
    for line in reversed(output.splitlines()):
        words = line.split()
        if words[:2] == ["flows", "took"]:
            return float(words[2])
    raise CompatError("it does not say what the flows took", where="straight_line.py", todo="Read its log.")


def overall(output: str) -> float:
    """The ratio in the last line of `-- --overhead`.

    Raises:
        CompatError: there is none.
    """
    for line in reversed(output.splitlines()):
        words = line.split()
        if words[:1] == ["all"]:
            return float(words[1])
    raise CompatError("no ratio over all flows", where="-- --overhead", todo="Read the log of the benchmark.")
