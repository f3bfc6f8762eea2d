"""Run the cells of one stack in its environment, and publish what they say. Host side."""

from __future__ import annotations

import argparse
import datetime
import math
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import assert_never

from packaging.version import Version

from harness import catalog
from harness.errors import CompatError, ExitCode
from harness.ledger import Ledger, load_ledger
from harness.locks import Lock
from harness.matrix import ROOT, Stack
from harness.plan import Plan, PlannedCell
from harness.records import DeviceKind
from harness.report import print_stack, print_window, publish
from harness.results import RUNS, RowState, StackRow, read_rows, remove_row, unfinished, write_atomically, write_row

RUN_ID = "COMPAT_RUN_ID"
"""Environment variable by which sessions that run side by side write into the same run."""

SEED = 0

LIMIT_S = 120.0
"""Seconds a cell may take. A tiny cell takes under one; the first of a process also pays for importing the stack."""

ATTENTION = ("sdpa", "eager", "flash_attention_2")
"""Attention implementations of Transformers; the first is what users train with."""

FEWEST_STEPS = 2
"""lora_B starts at zero, so lora_A receives its first gradient at step 2."""


_PYTEST_USAGE_ERROR = 4
"""pytest's exit code for arguments it does not understand."""


class DeviceChoice(StrEnum):
    """What `--device` accepts."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class Options:
    """Our own arguments after `--`; `pytest` holds the rest."""

    device: DeviceChoice
    attention: str
    """By Transformers' name: sdpa unless told otherwise, as users train."""
    steps: int
    limit_s: float
    faults: bool
    """Plant faults and see whether the checks name them, instead of running the cells."""
    closed_forms: bool
    """Hold the closed forms of `compat census` against models really loaded, instead of running the cells."""
    overhead: bool
    """Measure what the recorder costs, instead of running the cells."""
    pytest: tuple[str, ...]


def run_stack(
    *, stack: Stack, python: str, lock: Lock, env_python: Path, base_torch: bool, posargs: Sequence[str]
) -> ExitCode:
    """Run every selected cell of `stack` and print its table; or what an option asks for in place of the cells.

    Returns:
        HEALTHY, UNHEALTHY or COULD_NOT_TELL over this stack's cells.

    Raises:
        CompatError: an argument, the ledger or a results file is wrong.
    """
    options = parse_options(posargs)
    ledger = load_ledger()
    run = RUNS / os.environ.setdefault(RUN_ID, new_run_id())
    device = chosen_device(posargs)
    plan = Plan(
        run=str(run),
        stack=stack.on(python),
        lock_sha256=lock.sha256,
        torch_wanted=lock.facts["torch"],
        base_torch=base_torch,
        device=device,
        attention=options.attention,
        steps=options.steps,
        seed=SEED,
        limit_s=options.limit_s,
        cells=planned_cells(ledger, device, {**lock.requirements, "torch": lock.facts["torch"]}),
    )
    path = run / "plans" / f"{plan.stack}.json"
    write_atomically(path, plan.to_json())
    if command := _instead_of_cells(env_python, path, options):
        return _exit_code(_run(command, plan))
    earlier = _earlier_selection(run, plan.stack)
    write_row(run, unfinished(plan.stack, earlier))
    plan.selected_file.unlink(missing_ok=True)
    status = _run(_cells_command(env_python, path, device, options), plan)
    _refuse_empty_selection(plan, status, options, earlier)
    write_row(run, _row(plan, status, earlier))
    summary = publish(run, ledger)
    print_stack(summary, plan.stack)
    print_window(summary)
    return summary.exit_code_of(plan.stack)


def _run(command: Sequence[str], plan: Plan) -> int:
    try:
        return subprocess.run(command, cwd=ROOT, env=cell_environ(plan.device), check=False).returncode
    finally:
        shutil.rmtree(plan.scratch, ignore_errors=True)


def record_absent(name: str, state: RowState, reason: str) -> None:
    """Write the row of a stack of which no cell could run into the run."""
    run = RUNS / os.environ.setdefault(RUN_ID, new_run_id())
    write_row(run, StackRow(name, state, reason, ()))
    publish(run, load_ledger())


def new_run_id() -> str:
    """A name that sorts by time and that two runs of one second do not share."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def parse_options(posargs: Sequence[str]) -> Options:
    """Split our options from pytest's.

    Raises:
        CompatError: an option of ours has a value it cannot have.
    """
    parser = argparse.ArgumentParser(prog="nox -s compat --", add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--device", default="auto", choices=[choice.value for choice in DeviceChoice])
    parser.add_argument("--attention", default=ATTENTION[0], choices=ATTENTION)
    parser.add_argument("--steps", type=int, default=catalog.STEPS)
    parser.add_argument("--limit", type=float, default=LIMIT_S)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--closed-forms", action="store_true")
    parser.add_argument("--overhead", action="store_true")
    try:
        ours, rest = parser.parse_known_args(list(posargs))
    except argparse.ArgumentError as error:
        raise CompatError(
            str(error), where="arguments after --", todo="Correct it; what is not ours is handed to pytest as it is."
        ) from None
    if ours.steps < FEWEST_STEPS or not 0 < ours.limit < math.inf:
        raise CompatError(
            f"--steps {ours.steps} --limit {ours.limit:g}",
            where="arguments after --",
            meaning="Before step 2 half of a LoRA adapter has no gradient to receive; a limit is in seconds.",
            todo=f"Ask for {FEWEST_STEPS} steps or more, and for a limit above 0.",
        )
    return Options(
        DeviceChoice(ours.device),
        ours.attention,
        ours.steps,
        ours.limit,
        ours.faults,
        ours.closed_forms,
        ours.overhead,
        tuple(rest),
    )


def chosen_device(posargs: Sequence[str]) -> DeviceKind:
    """The device cells will run on: what `--device` says, and where it says `auto`, a GPU if there is one.

    Raises:
        CompatError: an option of ours has a value it cannot have.
    """
    match parse_options(posargs).device:
        case DeviceChoice.CPU:
            return DeviceKind.CPU
        case DeviceChoice.CUDA if not visible_gpus():
            raise CompatError(
                "--device cuda, and there is no NVIDIA GPU to be seen",
                where="arguments after --",
                meaning="There is no /dev/nvidia0, or CUDA_VISIBLE_DEVICES hides it.",
                todo="Ask for --device cpu, or for auto, which takes a GPU where there is one.",
            )
        case DeviceChoice.CUDA:
            return DeviceKind.CUDA
        case DeviceChoice.AUTO:
            return DeviceKind.CUDA if visible_gpus() else DeviceKind.CPU
        case unreachable:
            assert_never(unreachable)


def visible_gpus() -> int:
    """NVIDIA GPUs this process may use, without importing torch: device files, or what CUDA_VISIBLE_DEVICES leaves of
    them.
    """
    files = [path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return len(files)
    named = [gpu.strip() for gpu in chosen.split(",")]
    return min(len(files), len([gpu for gpu in named if gpu and gpu != "-1"]))  # -1 is how people hide them all


def planned_cells(ledger: Ledger, device: DeviceKind, versions: Mapping[str, str]) -> tuple[PlannedCell, ...]:
    """Every cell of `device` whose architecture the stack's Transformers has, with the deviations the ledger lists for
    these versions.
    """
    missing = absent_models(versions["transformers"])
    return tuple(
        PlannedCell(flow.name, variant, ledger.listed(flow.name, variant, device, versions))
        for flow, variant in catalog.cells_on(device)
        if variant.model not in missing
    )


def absent_models(transformers: str) -> frozenset[str]:
    """The catalog's models whose architecture came after release `transformers`."""
    return frozenset(name for name, tiny in catalog.MODELS.items() if Version(transformers) < Version(tiny.since))


def _cells_command(env_python: Path, plan: Path, device: DeviceKind, options: Options) -> list[str]:
    workers = visible_gpus() if device is DeviceKind.CUDA else 1
    return [
        *_pytest(env_python, plan),
        *("-n", str(max(workers, 1))),
        # A cell that kills its worker is lost alone, however many there are.
        f"--max-worker-restart={len(catalog.cells_on(device))}",
        *("-q", "--no-header", "--no-summary", "--tb=no", *options.pytest, "tests/cells"),
    ]


def _instead_of_cells(env_python: Path, plan: Path, options: Options) -> list[str] | None:
    """The command of what was asked for in place of the cells, if anything was."""
    if options.overhead:
        return [str(env_python), "tests/benchmarks/overhead.py", str(plan), *options.pytest]
    tests = "tests/mutation/test_faults.py" if options.faults else "tests/families"
    if not options.faults and not options.closed_forms:
        return None
    return [*_pytest(env_python, plan), "-v", "--no-header", "--tb=short", *options.pytest, tests]


def _pytest(env_python: Path, plan: Path) -> list[str]:
    return [
        *(str(env_python), "-m", "pytest", "-c", "tests/cells/pytest.ini", "--rootdir", str(ROOT)),
        *("-p", "harness.cell.plugin", "--plan", str(plan)),
    ]


def cell_environ(device: DeviceKind) -> dict[str, str]:
    """The cell process's environment: this project on the path, one thread unless told, no hub, bytecode kept."""
    # What would change how a cell runs, and belongs to the shell it was started from.
    foreign = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTEST_", "ACCELERATE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device is DeviceKind.CPU else {}
    return {
        # Tiny models gain nothing from a second thread, and stacks run side by side.
        "OMP_NUM_THREADS": "1",
        **inherited,
        **hidden,
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _earlier_selection(run: Path, stack: str) -> tuple[str, ...]:
    """Cells of the same stack that this run selected before, on another device or by another `-k`: they stay judged."""
    return next((row.selected for row in read_rows(run) if row.name == stack and row.state is RowState.RAN), ())


def _exit_code(status: int) -> ExitCode:
    """Of a process that judges itself; a negative status is the signal that ended it."""
    if status < 0:
        return ExitCode.COULD_NOT_TELL
    return ExitCode.UNHEALTHY if status else ExitCode.HEALTHY


def _row(plan: Plan, status: int, earlier: Sequence[str]) -> StackRow:
    if not plan.selected_file.exists():
        reason = f"pytest ended with status {status} before it could select any cell: see the session's output"
        return StackRow(plan.stack, RowState.INFRASTRUCTURE, reason, tuple(earlier))
    selected = tuple(plan.selected_file.read_text(encoding="utf-8").split("\n"))[:-1]
    return StackRow(plan.stack, RowState.RAN, "", tuple(dict.fromkeys((*earlier, *selected))))


def _refuse_empty_selection(plan: Plan, status: int, options: Options, earlier: Sequence[str]) -> None:
    """What follows `--` was refused by pytest, or selects nothing: that is bad input, not a finding."""
    empty = plan.selected_file.exists() and not plan.selected_file.read_text(encoding="utf-8")
    if not empty and status != _PYTEST_USAGE_ERROR:
        return
    if earlier:
        write_row(Path(plan.run), StackRow(plan.stack, RowState.RAN, "", tuple(earlier)))
    else:
        remove_row(Path(plan.run), plan.stack)
    raise CompatError(
        "no cell matches" if empty else "pytest does not understand",
        where=f"arguments after -- ({' '.join(options.pytest)})",
        meaning="-k matches parts of a cell's name, such as sft-peft-model[qwen2-nf4-gc].",
        todo=f"The flows are {', '.join(flow.name for flow in catalog.CATALOG)}.",
    )
