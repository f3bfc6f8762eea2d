"""What one compat session of nox does: take the stack's lock, make its environment equal to it, run its cells.

nox itself appears in noxfile.py only, so that this is an ordinary function with ordinary errors.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from finetune_compat.contract.errors import EnvironmentMismatch, ExitCode, InstallError, Unbuildable
from finetune_compat.machine.gpus import kind_of
from finetune_compat.results.run_files import RowState
from finetune_compat.run import stack_run
from finetune_compat.stacks.environments import keep_bytecode, prepare_environment
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import Matrix, Stack
from finetune_compat.stacks.supply import parse_supply


def run_compat(
    matrix: Matrix, stack: Stack, python: str, env_python: Path, posargs: Sequence[str], *, alone: bool
) -> ExitCode | Unsolvable:
    """Run the cells of `stack` in the environment of `env_python`; arguments that are not ours reach pytest.

    `alone` says that no other stack runs beside it.

    Returns:
        How healthy the stack is, or that the resolver found no solution for it.

    Raises:
        CompatError: an argument is wrong, the lock is stale, or the environment cannot be made equal to it.
    """
    supply, rest = parse_supply(posargs)
    gpus = stack_run.chosen_gpus(rest)
    lock = locked(matrix.plan(stack, python, kind_of(gpus)))
    if isinstance(lock, Unsolvable):
        stack_run.record_absent(stack.on(python), RowState.UNINSTALLABLE, lock.cause)
        return lock
    start = time.perf_counter()
    try:
        environment = prepare_environment(env_python, lock, matrix.torch, supply)
    except Unbuildable as error:
        stack_run.record_absent(stack.on(python), RowState.UNINSTALLABLE, error.what)
        raise
    except (InstallError, EnvironmentMismatch) as error:
        stack_run.record_absent(stack.on(python), RowState.INFRASTRUCTURE, error.what)
        raise
    how, seconds = "reused" if environment.reused else "made", time.perf_counter() - start
    print(f"environment {how} in {seconds:.1f} s from {lock.path.name}, torch {environment.torch}", flush=True)
    outcome = stack_run.run_stack(
        stack=stack,
        python=python,
        lock=lock,
        env_python=env_python,
        base_torch=environment.base_torch,
        gpus=gpus,
        posargs=rest,
        alone=alone,
    )
    if not environment.reused:
        keep_bytecode(env_python)
    return outcome


def verdict_sentence(code: ExitCode) -> str:
    """One sentence on what an unhealthy session found, for nox's last line."""
    match code:
        case ExitCode.HEALTHY:
            return "Every verdict is a pass or a known, listed deviation."
        case ExitCode.UNHEALTHY:
            return "At least one verdict failed; the table above names it, reports/README.md says how to triage."
        case ExitCode.COULD_NOT_TELL:
            return "A cell was killed, hung, or never ran: nothing is known about it. This is not the version's fault."
        case ExitCode.BAD_INPUT:
            return "An argument or a file is wrong; the message above says which."
        case ExitCode.ENVIRONMENT:
            return "The environment could not be made; the message above says why."
        case _ as unreachable:
            assert_never(unreachable)
