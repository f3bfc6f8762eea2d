"""Run one module of `finetune_compat.cell` in a stack's environment, with JSON input and output. Host side.

This is for commands that need a stack but run no cells. The module is started as `python -m MODULE REQUEST ANSWER`:
it reads the JSON file REQUEST and writes the JSON file ANSWER.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import LockError, StackFailed
from finetune_compat.contract.redaction import is_secret
from finetune_compat.machine import child_processes
from finetune_compat.machine.gpus import Gpu
from finetune_compat.machine.places import places
from finetune_compat.stacks.environments import Environment, environment_of
from finetune_compat.stacks.locks import Lock, Unsolvable, locked
from finetune_compat.stacks.matrix import Matrix


@dataclass(frozen=True, slots=True)
class StackPython:
    """A stack's environment, verified against its lock."""

    name: str
    """With the Python version, for example `trl0.22-py311`."""
    python: Path
    """The environment's interpreter."""
    lock: Lock
    environment: Environment

    @property
    def site(self) -> Path:
        """Its site-packages, to read sources without running them."""
        return next(iter(sorted(self.python.parent.parent.glob("lib/python3.*/site-packages"))))


def stack_python(matrix: Matrix, name: str, python: str | None = None) -> StackPython:
    """The environment of the stack called `name` on `python`; by default on the first Python version of its row.

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
            meaning="The resolver found no solution for this stack, so it has no environment.",
            todo="Name another stack; `compat stacks` lists all of them.",
        )
    if not (places().environments / lock.path.stem).exists():
        # The first use installs the environment, which is gigabytes with a CUDA build of torch.
        print(f"making the environment of {stack.on(version)}", file=sys.stderr, flush=True)
    interpreter, environment = environment_of(lock)
    return StackPython(stack.on(version), interpreter, lock, environment)


LIMIT_S = 300.0
"""Seconds that an answer may take. The import of a stack takes 13 CPU seconds, and the largest families a few more."""


def ask(stack: StackPython, module: str, request: Mapping[str, Any], limit_s: float = LIMIT_S) -> Any:
    """The output of `module` of `finetune_compat.cell` for `request`, run in the environment of `stack` on a CPU.

    Raises:
        StackFailed: the process ended without output, and the message has the last line of its stderr; or it took
            longer than `limit_s`.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "request.json"), Path(folder, "answer.json")
        asked.write_text(json.dumps(request), encoding="utf-8")
        # -P: modules in the current directory must not be importable.
        command = [str(stack.python), "-P", "-m", "finetune_compat.cell.answering", module, str(asked), str(answered)]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=cell_environ(()),
                capture_output=True,
                text=True,
                check=False,
                timeout=limit_s,
            )
        except subprocess.TimeoutExpired:
            raise StackFailed(
                f"{module} took longer than {limit_s:g} s, and was ended",
                where=stack.name,
                meaning="The model of the config is too large to build, or the machine is busy.",
                todo="Check the numbers in the config, such as num_hidden_layers.",
            ) from None
        if done.returncode or not answered.exists():
            raise _failed(stack, module, done)
        return json.loads(answered.read_text(encoding="utf-8"))


def _failed(stack: StackPython, module: str, done: subprocess.CompletedProcess[str]) -> StackFailed:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    ended = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
    return StackFailed(
        f"{module} ended with {ended} and no result: {lines[-1] if lines else 'stderr is empty'}",
        where=stack.name,
        meaning="A library of this stack fails when it is imported or called, or the machine ran out of memory.",
        todo="Run the stack's cells (`nox -l` lists the sessions): they record where a library fails.",
    )


_HANDED_ON = re.compile(
    # the system: programs, languages, temporary files, libraries and certificates
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|TEMP|TMP|XDG_\w+|LD_\w+|SSL_CERT_\w+|MALLOC_\w+"
    # threads and devices
    r"|(?:OMP|KMP|GOMP|MKL|OPENBLAS|NUMEXPR|CUDA|NVIDIA|NCCL|HIP|ROCR)_\w+"
    # caches and settings of the libraries that run in a cell
    r"|(?:TORCH|PYTORCH|TORCHINDUCTOR|TRITON|BNB|BITSANDBYTES|SAFETENSORS|TOKENIZERS|TRANSFORMERS|DATASETS)_\w+"
    r"|HF_(?:HOME|HUB_CACHE|HUB_OFFLINE|HUB_DOWNLOAD_TIMEOUT|HUB_ETAG_TIMEOUT|XET_CACHE|ASSETS_CACHE|DATASETS_\w+|ENDPOINT)"
)
"""Names of the variables that a cell process gets. Every package of a stack can read them: no token is among them."""


def cell_environ(gpus: Sequence[Gpu], *, hub: bool = False, more: Collection[str] = ()) -> dict[str, str]:
    """The environment variables of a cell process that may use `gpus`; without any, only the CPU.

    It gets the variables that the system and the libraries need, those called `more`, and no others of this process.
    This package is importable, bytecode is written, and the hub is offline unless `hub` is true. OMP_NUM_THREADS is 1
    unless it is already set.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in more or (_HANDED_ON.fullmatch(name) and not is_secret(name))
    }
    return {
        # Tiny models gain nothing from a second thread, and stacks run in parallel. `compat run` gives real ones more.
        "OMP_NUM_THREADS": "1",
        **inherited,
        # UUIDs do not depend on CUDA_DEVICE_ORDER. CPU cells see no GPU, because a trainer uses any GPU that it sees.
        "CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in gpus),
        "PYTHONPATH": str(places().import_path()),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        **({} if hub else {"HF_HUB_OFFLINE": "1"}),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # A cell must end with its host process; otherwise it keeps running while the next run resumes.
        child_processes.PARENT: str(os.getpid()),
    }
