"""Ask a stack a question: run one module of `finetune_compat.cell` in its environment, JSON in and JSON out. Host side.

For commands that need a stack and run no cells. The module is called as `python -m MODULE REQUEST ANSWER`, with the
names of two files: it reads the first and writes the second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import LockError, StackFailed
from finetune_compat.machine import child_processes
from finetune_compat.machine.gpus import Gpu
from finetune_compat.machine.places import places
from finetune_compat.stacks.environments import Environment, environment_of
from finetune_compat.stacks.locks import Lock, Unsolvable, locked
from finetune_compat.stacks.matrix import Matrix


@dataclass(frozen=True, slots=True)
class StackPython:
    """A stack's environment, compared with its lock and equal to it."""

    name: str
    """With its Python, such as `trl0.22-py311`."""
    python: Path
    """The environment's interpreter."""
    lock: Lock
    environment: Environment


def stack_python(matrix: Matrix, name: str, python: str | None = None) -> StackPython:
    """The environment of the stack called `name` on `python`, by default on the first Python its row names.

    Raises:
        UnknownName: there is no such stack.
        LockError: its lock is missing or stale, or the resolver found no solution for it.
        InstallError, EnvironmentMismatch: as for `environment_of`.
    """
    stack = matrix.stack(name)
    version = python or stack.pythons[0]
    lock = locked(matrix.plan(stack, version))
    if isinstance(lock, Unsolvable):
        raise LockError(
            f"no versions go together: {lock.cause}",
            where=stack.on(version),
            meaning="The resolver found no solution for this stack, so there is no environment to ask.",
            todo="Name another stack; `compat stacks` lists all of them.",
        )
    if not (places().environments / lock.path.stem).exists():
        # Made once; with a CUDA build of torch that is gigabytes.
        print(f"making the environment of {stack.on(version)}", file=sys.stderr, flush=True)
    interpreter, environment = environment_of(lock)
    return StackPython(stack.on(version), interpreter, lock, environment)


def ask(stack: StackPython, module: str, request: Mapping[str, Any]) -> Any:
    """What `module` of `finetune_compat.cell` answers to `request` in the environment of `stack`, on a CPU.

    Raises:
        StackFailed: the process ended without an answer; names the last line of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "request.json"), Path(folder, "answer.json")
        asked.write_text(json.dumps(request), encoding="utf-8")
        done = subprocess.run(
            # -P: what lies in a current directory is not importable there.
            [str(stack.python), "-P", "-m", module, str(asked), str(answered)],
            cwd=folder,
            env=cell_environ(()),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not answered.exists():
            raise _failed(stack, module, done)
        return json.loads(answered.read_text(encoding="utf-8"))


def _failed(stack: StackPython, module: str, done: subprocess.CompletedProcess[str]) -> StackFailed:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    ended = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
    return StackFailed(
        f"{module} ended with {ended} and no answer: {lines[-1] if lines else 'it said nothing'}",
        where=stack.name,
        meaning="A library of this stack fails before it can be asked, or the machine ran out of something.",
        todo="Run the stack's cells (`nox -l` lists the sessions): they record where a library fails.",
    )


def cell_environ(gpus: Sequence[Gpu], *, hub: bool = False) -> dict[str, str]:
    """The cell process's environment: this project on the path, one thread unless told, bytecode kept, and no hub
    unless weights come from there.
    """
    # What would change how a cell runs, and belongs to the shell it was started from.
    foreign = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTEST_", "ACCELERATE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {
        # Tiny models gain nothing from a second thread, and stacks run side by side. `compat run` gives real ones more.
        "OMP_NUM_THREADS": "1",
        **inherited,
        # By UUID, which any CUDA_DEVICE_ORDER leaves as it is. A CPU cell sees none: a trainer takes a GPU it sees.
        "CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in gpus),
        "PYTHONPATH": str(places().import_path()),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        **({} if hub else {"HF_HUB_OFFLINE": "1"}),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # A cell without its host would run on beside the run that takes its place.
        child_processes.PARENT: str(os.getpid()),
    }
