"""Run the cells of one stack in its environment, and write the stack's row into the run. Host side."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import secrets
import subprocess
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import assert_never

from packaging.version import Version

from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract import catalog
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.names import check_run_id
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import DeviceKind, Variant
from finetune_compat.contract.redaction import redact_here
from finetune_compat.machine import child_processes, console, scratch
from finetune_compat.machine.capacity import at_once, this_machine
from finetune_compat.machine.files import sync, write_atomically
from finetune_compat.machine.gpus import Gpu, choose, fitting, kind_of, lines_of, read_gpus, visible
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import (
    RowState,
    StackRow,
    read_rows,
    remove_row,
    unfinished,
    write_row,
)
from finetune_compat.run.default_tier import default_tier
from finetune_compat.run.keyword import selected
from finetune_compat.run.options import AFTER_DASHES, RunOptions
from finetune_compat.run.workers import Sharing, workers_alone
from finetune_compat.stacks import real_weights
from finetune_compat.stacks.ask import cell_environ
from finetune_compat.stacks.locks import Lock

RUN_ID = "COMPAT_RUN_ID"
"""Environment variable with the id of the run that parallel sessions share."""

SEED = 0

_PYTEST_USAGE_ERROR = 4
"""pytest's exit code for invalid arguments."""


def plan_of(
    stack: str, lock: Lock, options: RunOptions, ledger: Ledger, device: DeviceKind, *, base_torch: bool
) -> Plan:
    """The plan of `stack` in the run of this process: all cells, or those that `options` name."""
    run = this_run()
    versions = {**lock.requirements, "torch": lock.facts["torch"]}
    cells = planned_cells(ledger, device, versions, tier=options.tier, model=options.model)
    if options.tier is Tier.DEFAULT:
        cells = default_tier().kept(cells, lock.sha256, device)
    by_id = {str(CellId(stack, cell.flow, str(cell.variant), device)): cell for cell in cells}
    return Plan(
        run=str(run),
        stack=stack,
        lock_sha256=lock.sha256,
        torch_wanted=lock.facts["torch"],
        base_torch=base_torch,
        device=device,
        attention=options.attention,
        steps=options.steps,
        seed=SEED,
        limit_s=options.limit_s,
        cells=cells if options.cells is None else tuple(by_id[name] for name in options.cells if name in by_id),
        memory_limit=options.memory_bytes,
        model=options.model,
    )


def run_plan(
    plan: Plan,
    lock: Lock,
    env_python: Path,
    gpus: Sequence[Gpu],
    options: RunOptions,
    log: Path | None = None,
    *,
    alone: bool = False,
    sharing: Sharing | None = None,
) -> None:
    """Run the cells of `plan` that are not cached, copy the cached ones, and write the stack's row into the run.

    Args:
        plan: the cells.
        lock: the lock of the stack.
        env_python: the interpreter of the environment that equals `lock`.
        gpus: the GPUs to run on; empty for the CPU.
        options: the options of the run, with the arguments for pytest.
        log: file for pytest's output; None prints it.
        alone: whether no other stack runs in parallel.
        sharing: what the stack shares with others of the same process. None: output goes to stdout.

    Raises:
        CompatError: pytest rejects its arguments, they select nothing, or the shared store does not answer.
    """
    from finetune_compat.run.from_store import longest_first, look_up

    run = Path(plan.run)
    if len(gpus) > 1 and options.cells is None:
        plan = longest_first(plan)
    served = look_up(plan, lock, env_python, gpus, fresh=options.fresh)
    plan = served.plan
    write_plan(plan)
    earlier = _earlier_selection(run, plan.stack)
    write_row(run, unfinished(plan.stack, earlier))
    for file in (plan.selected_file, plan.unkept_file):
        file.unlink(missing_ok=True)
    chosen = selected(plan.cells, options.pytest)
    line = served.describe([plan.id_of(cell) for cell in (plan.cells if chosen is None else chosen)])
    say = sharing.say if sharing else console.say
    say(f"{plan.stack}: {line}" if sharing else line)
    to_run = sum(not cell.stored for cell in (plan.cells if chosen is None else chosen))
    if chosen is not None:  # at once, because a gate reads them while the others run
        served.copy(plan.id_of(cell) for cell in chosen)
    most = sharing.pool.take(plan.stack, to_run) if sharing else None
    if chosen and all(cell.stored for cell in chosen):
        status = 0
        write_atomically(plan.selected_file, "".join(f"{plan.id_of(cell)}\n" for cell in chosen))
    else:
        workers = _workers(plan, to_run, gpus, options, alone=alone, most=most)
        stop = sharing.stop if sharing else None
        command = _cells_command(env_python, plan, gpus, options, workers)
        status = run_process(command, plan, gpus, log, stop, options.pass_env)
    with contextlib.suppress(FileNotFoundError):  # no cell began
        sync(run / "observations.jsonl")
    _refuse_empty_selection(plan, status, options, earlier)
    row = _row(plan, status, earlier)
    if chosen is None:
        served.copy(row.selected)
    write_row(run, row)
    for line in served.finish():
        say(line)


def run_unstored(plan: Plan, env_python: Path, gpus: Sequence[Gpu], options: RunOptions) -> None:
    """Run all cells of `plan` in an environment that equals no lock: the store is neither read nor written."""
    log = Path(plan.run) / "logs" / f"{plan.stack}.txt"
    write_plan(plan)
    status = run_process(_cells_command(env_python, plan, gpus, options, 1), plan, gpus, log)
    write_row(Path(plan.run), _row(plan, status, ()))


def write_plan(plan: Plan) -> Path:
    path = _plan_file(plan)
    write_atomically(path, plan.to_json())
    return path


def _plan_file(plan: Plan) -> Path:
    return Path(plan.run) / "plans" / f"{plan.stack}.json"


def run_process(
    command: Sequence[str],
    plan: Plan,
    gpus: Sequence[Gpu],
    log: Path | None = None,
    stop: threading.Event | None = None,
    pass_env: Collection[str] = (),
) -> int:
    """Run the cells' process and return its exit status. `stop` ends it with all its workers when it is set."""
    # In the default directory pytest also removes old files of other projects, which can take seconds.
    mark = f"PYTEST_DEBUG_TEMPROOT={plan.scratch}"
    variables = cell_environ(gpus, hub=_from_hub(plan), more=pass_env)
    environ = {**variables, "PYTEST_DEBUG_TEMPROOT": str(plan.scratch)}
    cwd = places().checkout or plan.run
    with scratch.held(plan.scratch, Path(plan.run).parent):
        if log is None:
            return subprocess.run(command, cwd=cwd, env=environ, check=False).returncode
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("a") as out:
                process = subprocess.Popen(command, cwd=cwd, env=environ, stdout=out, stderr=subprocess.STDOUT)
                return _status(process, mark, stop)
        finally:
            write_atomically(log, redact_here(log.read_text(encoding="utf-8", errors="replace")))


def _status(process: subprocess.Popen[bytes], mark: str, stop: threading.Event | None) -> int:
    try:
        while stop is not None and not stop.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_EVERY_S)
        if stop is not None:
            child_processes.end_tree(process, mark)
        return process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise


_LOOK_EVERY_S = 0.2
"""Seconds between two looks at the event that ends the cells of a stack."""


def _from_hub(plan: Plan) -> bool:
    return plan.model is not None and real_weights.from_hub(plan.model)


def record_absent(name: str, state: RowState, reason: str) -> None:
    """Write a row into the run for a stack that could run no cell."""
    run = this_run()
    write_row(run, StackRow(name, state, reason, ()))


def this_run() -> Path:
    """The directory of the run that this process and its children write into. The id comes from the environment; if it
    is not set, a new id is set.

    Raises:
        CompatError: the id in the environment is not a valid name of a run.
    """
    run_id = os.environ.setdefault(RUN_ID, new_run_id())
    check_run_id(run_id, RUN_ID)
    return places().runs / run_id


def new_run_id() -> str:
    """A run id that sorts by time and differs between two runs in the same second."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def chosen_gpus(options: RunOptions, where: str = AFTER_DASHES) -> tuple[Gpu, ...]:
    """Choose the GPUs to run on, and print the choice. Empty for the CPU: with `--device cpu`, or without a GPU.

    Raises:
        CompatError: `--device cuda` was given, and no GPU is visible.
        GpuFailed: the machine has GPUs, and the driver does not answer.
    """
    match options.device:
        case DeviceChoice.CPU:
            return ()
        case DeviceChoice.CUDA | DeviceChoice.AUTO:
            there, names = read_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
            candidates = visible(there, names, os.environ.get("CUDA_DEVICE_ORDER"))
        case unreachable:
            assert_never(unreachable)
    if candidates:
        choice = choose(there, candidates, options.gpus)
        print(*lines_of(choice), sep="\n", flush=True)
        return choice.chosen
    hidden = f"CUDA_VISIBLE_DEVICES={names} hides all {len(there)} GPUs" if there else ""
    if options.device is DeviceChoice.CUDA:
        raise CompatError(
            "--device cuda, and no NVIDIA GPU is visible",
            where=where,
            meaning=f"{hidden or 'There is no NVIDIA driver, or the driver finds no GPU'}.",
            todo="Use --device cpu, or --device auto, which uses a GPU if there is one.",
        )
    if hidden:
        print(f"CPU: {hidden}", flush=True)
    return ()


def planned_cells(
    ledger: Ledger,
    device: DeviceKind,
    versions: Mapping[str, str],
    *,
    tier: Tier = Tier.FULL,
    model: str | None = None,
) -> tuple[PlannedCell, ...]:
    """All cells of `device` that exist on these versions, with the deviations that the ledger lists for them. With
    `model`, the cells of these real weights.
    """
    deep = catalog.DEEP_CELLS if tier in (Tier.DEEP, Tier.DEEP_ONLY) else ()
    cells = catalog.cells_on(device) if model is None else catalog.cells_with(real_weights.cell_name(model), device)
    return tuple(
        PlannedCell(
            flow.name,
            variant,
            ledger.listed(flow.name, variant, device, versions),
            deep=(flow.name, variant) in deep,
        )
        for flow, variant in cells
        if exists(flow, variant, versions) and (tier is not Tier.DEEP_ONLY or (flow.name, variant) in deep)
    )


def all_cells(lock: Lock, device: DeviceKind, tier: Tier = Tier.FULL) -> tuple[PlannedCell, ...]:
    """The cells of `device` that exist on the versions of `lock`, without what the ledger lists for them."""
    return planned_cells(Ledger(issues=()), device, {**lock.requirements, "torch": lock.facts["torch"]}, tier=tier)


def exists(flow: catalog.Flow, variant: Variant, versions: Mapping[str, str]) -> bool:
    """Whether these versions have the flow, and the architecture of the variant's tiny model."""
    tiny = catalog.MODELS.get(variant.model)
    needed = {"trl": flow.since, "peft": flow.since_peft, **({"transformers": tiny.since} if tiny else {})}
    return all(_version(versions[name]) >= _version(since) for name, since in needed.items())


_version = functools.cache(Version)  # a matrix parses a few versions some thousands of times


def _workers(
    plan: Plan, to_run: int, gpus: Sequence[Gpu], options: RunOptions, *, alone: bool, most: int | None = None
) -> int:
    """How many workers run the cells: as many as fit, or as `compat run` gave the stack. Real weights have one for each
    GPU. `most` is the stack's share of the cores; None: all of them.
    """
    if not may_share(options) or not (alone or plan.workers_file.exists()):
        return max(len(gpus), 1)
    if not alone:
        return plan.workers()
    return workers_alone(to_run, max(most or tiny_at_once(gpus), len(gpus)))


def tiny_at_once(gpus: Sequence[Gpu]) -> int:
    """Processes with tiny models that this machine runs at once: a core and memory for each, also of the GPUs."""
    most = at_once(this_machine(0))
    return min(most, fitting(gpus)) if gpus else most


def _cells_command(env_python: Path, plan: Plan, gpus: Sequence[Gpu], options: RunOptions, workers: int) -> list[str]:
    return [
        *pytest_command(env_python, _plan_file(plan)),
        *("-n", str(workers)),
        *_joining(plan, workers),
        # Cells may come longest first: a larger batch would leave the other workers too little.
        "--maxschedchunk=1",
        # A cell that kills its worker is lost alone, however many there are.
        f"--max-worker-restart={len(catalog.cells_on(kind_of(gpus)))}",
        *("-q", "--no-header", "--no-summary", "--tb=no", *options.pytest, str(_session() / "test_flows.py")),
    ]


def _joining(plan: Plan, workers: int) -> tuple[str, ...]:
    """Options for a stack that has or may get several workers: further ones join, and on a CPU they are forked."""
    joining = ("--joining",) if plan.workers_file.exists() else ()
    if workers == 1 and not joining:
        return ()
    # A forked process cannot use CUDA if its parent did, and real weights have one worker.
    if plan.device is not DeviceKind.CPU or plan.model is not None:
        return joining
    return (*joining, "--fork-after", ",".join(_imports(plan)))


def _imports(plan: Plan) -> tuple[str, ...]:
    """What a worker imports before its first cell ends, in this order."""
    flows = [catalog.flow_named(cell.flow) for cell in plan.cells if not cell.stored]
    modules = [module for flow in flows for module in (flow.objective.module, flow.module)]
    first = ("pytest", "finetune_compat.checks", "finetune_compat.cell.execution", "bitsandbytes")
    return (*first, *dict.fromkeys(modules))


def may_share(options: RunOptions) -> bool:
    """Whether a stack may have several workers: with tiny models, which take one core and little memory each, unless
    pytest-xdist's own options are given.
    """
    chosen = ("-n", "--numprocesses", "--maxprocesses", "--dist", "--tx")
    given = any(word.startswith(chosen) for word in options.pytest)
    return options.model is None and not given


def pytest_command(env_python: Path, plan: Path) -> list[str]:
    return [
        # -P: cells must not import modules of the current directory.
        *(str(env_python), "-P", "-m", "pytest", "-c", str(_session() / "pytest.ini")),
        *("--rootdir", str(places().checkout or places().import_path())),
        *("-p", "finetune_compat.cell.plugin", "--plan", str(plan)),
    ]


def _session() -> Path:
    """The directory of the tests of a cell process, below the path from which that process imports this package."""
    return places().import_path() / "finetune_compat" / "cell" / "session"


def _earlier_selection(run: Path, stack: str) -> tuple[str, ...]:
    """Cells of the same stack that this run selected before, on another device, by another `-k` or from the store. They
    stay in the row, so that they are judged.
    """
    return next((row.selected for row in read_rows(run) if row.name == stack), ())


def _row(plan: Plan, status: int, earlier: Sequence[str]) -> StackRow:
    if not plan.selected_file.exists():
        reason = f"pytest ended with status {status} before it could select any cell: see the session's output"
        return StackRow(plan.stack, RowState.INFRASTRUCTURE, reason, tuple(earlier))
    cells = tuple(plan.selected_file.read_text(encoding="utf-8").split("\n"))[:-1]
    return StackRow(plan.stack, RowState.RAN, "", tuple(dict.fromkeys((*earlier, *cells))))


def _refuse_empty_selection(plan: Plan, status: int, options: RunOptions, earlier: Sequence[str]) -> None:
    """Raise an error if pytest rejects its arguments or they select nothing: this is bad input, not a failure."""
    empty = plan.selected_file.exists() and not plan.selected_file.read_text(encoding="utf-8")
    if not empty and status != _PYTEST_USAGE_ERROR:
        return
    if earlier:
        write_row(Path(plan.run), StackRow(plan.stack, RowState.RAN, "", tuple(earlier)))
    else:
        remove_row(Path(plan.run), plan.stack)
    raise CompatError(
        "no cell matches" if empty else "pytest rejects the arguments",
        where=f"{AFTER_DASHES} ({' '.join(options.pytest)})",
        meaning="-k matches parts of a cell's name, such as sft-peft-model[qwen2-nf4-gc].",
        todo=f"The flows are {', '.join(flow.name for flow in catalog.CATALOG)}.",
    )
