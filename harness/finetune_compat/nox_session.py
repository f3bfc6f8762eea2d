"""One compat session of nox: read the stack's lock, make the environment equal to it, and run the cells.

Only noxfile.py imports nox, so that these are ordinary functions with ordinary errors.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract import catalog
from finetune_compat.contract.errors import EnvironmentMismatch, ExitCode, InstallError, Unbuildable
from finetune_compat.contract.options import Instead
from finetune_compat.contract.plan import Plan
from finetune_compat.contract.seeds import Seeds
from finetune_compat.evidence import branches, calibration, sweeps
from finetune_compat.machine.gpus import Gpu, kind_of
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import RowState, refuse_other_latest
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions, parse_options
from finetune_compat.stacks.environments import prepare_environment
from finetune_compat.stacks.locks import Lock, Unsolvable, locked
from finetune_compat.stacks.matrix import Matrix, Stack


def run_compat(
    matrix: Matrix, stack: Stack, python: str, env_python: Path, posargs: Sequence[str], *, alone: bool
) -> ExitCode | Unsolvable:
    """Run the cells of `stack` in the environment of `env_python`.

    Args:
        matrix: the matrix.
        stack: the stack to run.
        python: the Python version of the session, such as `3.11`.
        env_python: the interpreter of the session's environment.
        posargs: the arguments after `--`. Unknown options are passed to pytest.
        alone: whether no other stack runs in parallel.

    Returns:
        The exit code of the stack's verdicts, or `Unsolvable` if the resolver found no solution.

    Raises:
        CompatError: an argument is invalid, the lock is stale, or the environment cannot be made equal to the lock.
    """
    options = parse_options(posargs)
    gpus = stack_run.chosen_gpus(options)
    lock = locked(matrix.plan(stack, python, kind_of(gpus)))
    if isinstance(lock, Unsolvable):
        stack_run.record_absent(stack.on(python), RowState.UNINSTALLABLE, lock.cause)
        return lock
    start = time.perf_counter()
    try:
        environment = prepare_environment(env_python, lock, matrix.torch, options.supply)
    except Unbuildable as error:
        stack_run.record_absent(stack.on(python), RowState.UNINSTALLABLE, error.what)
        raise
    except (InstallError, EnvironmentMismatch) as error:
        stack_run.record_absent(stack.on(python), RowState.INFRASTRUCTURE, error.what)
        raise
    how, seconds = "reused" if environment.reused else "made", time.perf_counter() - start
    print(
        f"environment {how} in {seconds:.1f} s from {lock.path.name}, torch {environment.torch}{environment.note}",
        flush=True,
    )
    return run_stack(
        stack=stack,
        python=python,
        lock=lock,
        env_python=env_python,
        base_torch=environment.base_torch,
        gpus=gpus,
        options=options,
        alone=alone,
    )


def verdict_sentence(code: ExitCode) -> str:
    """The result of a session in one sentence, for nox's last line."""
    match code:
        case ExitCode.HEALTHY:
            return "Every verdict is a pass or a known, listed deviation."
        case ExitCode.UNHEALTHY:
            return "At least one cell fails: see the table above. docs/reports.md explains how to triage."
        case ExitCode.COULD_NOT_TELL:
            return "Infrastructure failure: a cell was killed, hung, or never ran. Nothing is known about the versions."
        case ExitCode.BAD_INPUT:
            return "An argument or a file is invalid: see the message above."
        case ExitCode.ENVIRONMENT:
            return "The environment could not be made: see the message above."
        case _ as unreachable:
            assert_never(unreachable)


def run_stack(
    *,
    stack: Stack,
    python: str,
    lock: Lock,
    env_python: Path,
    base_torch: bool,
    gpus: Sequence[Gpu],
    options: RunOptions,
    alone: bool = False,
) -> ExitCode:
    """Run every selected cell of `stack` and print its table. With `options.instead` or `options.seeds`, run that.

    Args:
        stack: the stack to run.
        python: the Python version, such as `3.11`.
        lock: the lock of the stack.
        env_python: the interpreter of the environment that equals `lock`.
        base_torch: whether that environment has another torch than the lock.
        gpus: the GPUs to run on; empty for the CPU.
        options: the options after `--`.
        alone: whether no other stack runs in parallel, so that the cells may use every core.

    Returns:
        HEALTHY, UNHEALTHY or COULD_NOT_TELL over this stack's cells.

    Raises:
        CompatError: the ledger, a results file or the run's id is invalid.
    """
    from finetune_compat.report import print_stack, summary_of

    refuse_other_latest(places().runs)
    ledger = load_ledger()
    plan = stack_run.plan_of(stack.on(python), lock, options, ledger, kind_of(gpus), base_torch=base_torch)
    if options.seeds is not None:
        plans = sweeps.plans_of(plan, options.seeds, options.pytest)
        return max(_calibrate(one, lock, env_python, gpus[:1], options.seeds, fresh=options.fresh) for one in plans)
    if options.instead is not None:
        plan = branches.traced(plan, options.pytest) if options.instead is Instead.BRANCHES else plan
        # One GPU: a Trainer in one process that sees two GPUs spreads its model over both.
        command = _instead_command(options.instead, env_python, stack_run.write_plan(plan), options)
        status = stack_run.run_process(command, plan, gpus[:1], pass_env=options.pass_env)
        if options.instead is Instead.FAULTS:
            _save_faults(plan, status, options)
        if options.instead is Instead.BRANCHES:
            print(branches.save(plan, status, options.pytest))
        return _exit_code(status)
    stack_run.run_plan(plan, lock, env_python, gpus, options, alone=alone)
    summary = summary_of(Path(plan.run), plan.stack, ledger)
    print_stack(summary, plan.stack)
    return summary.exit_code_of(plan.stack)


def _save_faults(plan: Plan, status: int, options: RunOptions) -> None:
    from finetune_compat.evidence import faults, independent_faults

    for records in (faults, independent_faults):
        print(records.save(plan, status, options.pytest))
    faults.publish()


def finish_run(run: Path) -> None:
    """Write the derived files of a run whose sessions have ended, and print its window. Do nothing without rows."""
    from finetune_compat.report import print_window, publish

    if (run / "rows").is_dir():
        print_window(publish(run, load_ledger()))


def _calibrate(plan: Plan, lock: Lock, env_python: Path, gpus: Sequence[Gpu], asked: Seeds, *, fresh: bool) -> ExitCode:
    """Sweep the plan's one cell over seeds, and print and store the error rates. Cached runs are not repeated."""
    from finetune_compat.evidence import learning

    path, cell = stack_run.write_plan(plan), plan.id_of(plan.cells[0])
    seeds = sweeps.seeds_for(cell, asked, calibration.read_sweeps())
    into = sweeps.runs_of(plan, lock, env_python, gpus)
    if fresh:
        into.unlink(missing_ok=True)
    print(f"{cell}: seeds {seeds.start} to {seeds.stop - 1}, {len(catalog.Handicap) + 1} runs each, stored in {into}")
    command = [
        str(env_python),
        "-m",
        "finetune_compat.cell.sweep",
        str(path),
        str(into),
        str(seeds.start),
        str(seeds.stop),
    ]
    if stack_run.run_process(command, plan, gpus):
        return ExitCode.COULD_NOT_TELL
    found = calibration.read(into, seeds)
    print(learning.describe(found))
    print(calibration.save(found))
    learning.publish()
    return ExitCode.HEALTHY if found.on_target else ExitCode.UNHEALTHY


def _instead_command(instead: Instead, env_python: Path, plan: Path, options: RunOptions) -> list[str]:
    match instead:
        case Instead.FAULTS:
            tests = ["tests/mutation", "tests/independent_faults"]
        case Instead.GUARD:
            tests = ["-p", "finetune_compat.cell.fixtures", "tests/guard"]
        case Instead.CLOSED_FORMS:
            tests = ["tests/families"]
        case Instead.ADAPTERS:
            # `compat inspect` runs on the host; the stack saves the adapters.
            tests = ["--host-python", sys.executable, "tests/adapters"]
        case Instead.PIPELINES:
            # `compat watch` runs on the host; the scripts run in this stack.
            tests = ["--host-python", sys.executable, "tests/pipelines"]
        case Instead.BRANCHES:
            return [str(env_python), "-m", "finetune_compat.cell.branches", str(plan)]
        case Instead.OVERHEAD | Instead.GUARD_OVERHEAD:
            return [
                str(env_python),
                f"tests/benchmarks/{instead.value.replace('-', '_')}.py",
                str(plan),
                *options.pytest,
            ]
        case unreachable:
            assert_never(unreachable)
    return [*stack_run.pytest_command(env_python, plan), "-v", "--no-header", "--tb=short", *options.pytest, *tests]


def _exit_code(status: int) -> ExitCode:
    """The exit code for the status of a test process. A negative status is the signal that ended it."""
    if status < 0:
        return ExitCode.COULD_NOT_TELL
    return ExitCode.UNHEALTHY if status else ExitCode.HEALTHY
