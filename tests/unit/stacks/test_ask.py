"""Running a module in a stack: it gives an answer or one error. The interpreter of these tests stands in for a
stack's.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.contract.errors import ExitCode, LockError, StackFailed, UnknownName
from finetune_compat.machine.places import PACKAGE
from finetune_compat.stacks import ask as stack_python
from finetune_compat.stacks import locks
from finetune_compat.stacks.ask import StackPython, ask
from finetune_compat.stacks.environments import Environment
from finetune_compat.stacks.locks import Lock
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.stacks.uv_tool import Answer
from stack_builders import NO_SOLUTION

MATRIX = read_matrix()


@pytest.fixture
def module(tmp_path: Path, in_places: Any) -> Callable[[str], StackPython]:
    """Write the module `answering`; return the stack in which it is found."""

    in_places(importable=tmp_path)

    def write(code: str) -> StackPython:
        (tmp_path / "answering.py").write_text(f"import json, os, sys\nfrom pathlib import Path\n{code}\n")
        lock = Lock(Path("trl0.22-py311.txt"), "", {}, {})
        return StackPython("trl0.22-py311", Path(sys.executable), lock, Environment("2.13.0", False, True))

    return write


class TestAsking:
    def test_the_answer_is_what_the_module_wrote(self, module: Callable[[str], StackPython]) -> None:
        """The answer is JSON, separate from what libraries print; the module runs with the variables of a cell
        process.
        """
        stack = module(
            'print("loading"); request = json.loads(Path(sys.argv[1]).read_text())\n'
            'Path(sys.argv[2]).write_text(json.dumps([request, os.environ["HF_HUB_OFFLINE"]]))'
        )
        assert ask(stack, "answering", {"r": 64, "name": "é"}) == [{"r": 64, "name": "é"}, "1"]

    @pytest.mark.parametrize(
        ("code", "problem"),
        [
            ('raise ImportError("no top_k")', "status 1 and no result: ImportError: no top_k"),
            ('sys.exit("first\\nlast\\n")', "status 1 and no result: last"),
            ("pass", "status 0 and no result: stderr is empty"),
            ("os.kill(os.getpid(), 9)", "signal 9 and no result: stderr is empty"),
            ('Path(sys.argv[2]).write_text("{}"); sys.exit(7)', "status 7 and no result: stderr is empty"),
        ],
    )
    def test_a_module_without_an_answer_is_one_error(
        self, module: Callable[[str], StackPython], code: str, problem: str
    ) -> None:
        """The error has the last line of its output; a file written before the failure is no answer."""
        with pytest.raises(StackFailed) as raised:
            ask(module(code), "answering", {})
        assert raised.value.exit_code is ExitCode.COULD_NOT_TELL
        assert str(raised.value) == (
            f"trl0.22-py311: answering ended with {problem}\n"
            "A library of this stack fails when it is imported or called, or the machine ran out of memory.\n"
            "Run the stack's cells (`nox -l` lists the sessions): they record where a library fails."
        )


class TestEnvironment:
    def test_the_python_is_that_of_the_stacks_lock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is the first Python of the row, unless another is named."""
        made = Environment("2.13.0+cpu", base_torch=False, reused=True)
        monkeypatch.setattr(stack_python, "environment_of", lambda lock: (Path("/envs", lock.path.stem), made))
        first, other = (
            stack_python.stack_python(MATRIX, "trl0.22"),
            stack_python.stack_python(MATRIX, "trl0.22", "3.12"),
        )
        assert (first.name, first.python, first.environment) == ("trl0.22-py311", Path("/envs/trl0.22-py311"), made)
        assert (other.name, other.python) == ("trl0.22-py312", Path("/envs/trl0.22-py312"))
        assert first.lock.requirements["trl"] == "0.22.2"

    def test_an_unknown_stack_is_bad_input(self) -> None:
        """The message is the matrix's."""
        with pytest.raises(UnknownName, match=r"there is no stack 'trl0\.2222'"):
            stack_python.stack_python(MATRIX, "trl0.2222")

    def test_a_stack_nothing_solves_has_no_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error has the resolver's reason."""
        (plan, *_) = MATRIX.plans(MATRIX.stack("trl1.9"))
        monkeypatch.setattr(locks, "run_uv", lambda *_, **__: Answer(1, "", NO_SOLUTION))
        locks.make_locks([plan], lambda _: None, tmp_path)
        monkeypatch.setattr(stack_python, "locked", lambda plan: locks.locked(plan, tmp_path))
        with pytest.raises(LockError) as raised:
            stack_python.stack_python(MATRIX, "trl1.9")
        found = locks.locked(plan, tmp_path)
        assert isinstance(found, locks.Unsolvable)
        assert str(raised.value) == (
            f"trl1.9-py311: no versions go together: {found.cause}\n"
            "The resolver found no solution for this stack, so it has no environment.\n"
            "Name another stack; `compat stacks` lists all of them."
        )


def test_an_answer_that_takes_too_long_is_could_not_tell(
    module: Callable[[str], StackPython],
) -> None:
    """The process is ended."""
    with pytest.raises(StackFailed, match="answering took longer than 3 s, and was ended") as raised:
        ask(module("import time; time.sleep(600)"), "answering", {}, limit_s=3.0)
    assert raised.value.exit_code is ExitCode.COULD_NOT_TELL


ASKS = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:]
from finetune_compat.stacks import ask
from finetune_compat.stacks.environments import Environment
from finetune_compat.stacks.locks import Lock
plain = ask.cell_environ
ask.cell_environ = lambda gpus: {**plain(gpus), "PYTHONPATH": os.pathsep.join(sys.argv[1:])}
lock = Lock(Path("trl0.22-py311.txt"), "", {}, {})
stack = ask.StackPython("trl0.22-py311", Path(sys.executable), lock, Environment("2.13.0", False, True))
ask.ask(stack, "sleeping", {})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the children of a killed process")
def test_the_process_in_a_stack_ends_with_its_host(tmp_path: Path) -> None:
    """Also if the host is killed: a model on the meta device may have gigabytes."""
    pid = tmp_path / "pid"
    (tmp_path / "sleeping.py").write_text(
        f"import os, pathlib, time\npathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", ASKS, str(PACKAGE.parent), str(tmp_path)]) as host:
        try:
            _eventually(lambda: pid.exists() and pid.read_text() != "")
        finally:
            host.kill()
    _eventually(lambda: not Path(f"/proc/{pid.read_text()}").exists())


def _eventually(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.05)
