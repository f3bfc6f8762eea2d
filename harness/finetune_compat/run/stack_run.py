"""Run the cells of one stack in its environment, and publish what they say. Host side."""

from __future__ import annotations

import argparse
import datetime
import functools
import math
import os
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import assert_never

from packaging.version import Version

from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract import catalog
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.errors import CompatError, why
from finetune_compat.contract.names import check_run_id
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import DeviceKind, Variant, cell_id
from finetune_compat.contract.redaction import redact
from finetune_compat.contract.seeds import Seeds, parse_seeds
from finetune_compat.machine import scratch
from finetune_compat.machine.capacity import at_once, this_machine
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.gpus import USUAL, Gpu, Wanted, choose, kind_of, read_gpus, told, visible
from finetune_compat.machine.units import bytes_of
from finetune_compat.results.run_files import (
    RUNS,
    RowState,
    StackRow,
    read_rows,
    remove_row,
    unfinished,
    write_row,
)
from finetune_compat.run.keyword import selected
from finetune_compat.run.workers import workers_of
from finetune_compat.stacks import real_weights
from finetune_compat.stacks.ask import cell_environ
from finetune_compat.stacks.locks import Lock
from finetune_compat.stacks.matrix import ROOT

RUN_ID = "COMPAT_RUN_ID"
"""Environment variable by which sessions that run side by side write into the same run."""

AFTER_DASHES = "arguments after --"
"""Where nox takes our options; commands that take them themselves are named instead."""

SEED = 0

LIMIT_S = 120.0
"""Seconds a cell may take. A tiny cell takes under one; the first of a process also pays for importing the stack."""

REAL_LIMIT_S = 3600.0
"""The same for real weights, which may have to be fetched first."""

MEMORY_LIMIT = 8 * 2**30
"""Bytes of resident memory the process of a tiny cell may hold: many times what any was seen to hold
(`scheduling.machine`). Real weights have no limit unless one is given.
"""

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


class Instead(StrEnum):
    """What a session can do in place of running the cells, each an option of that name."""

    FAULTS = "faults"
    """Plant faults, and see whether the check that must name one names it."""
    GUARD = "guard"
    """Run every cell under a `TrainingGuard`, the guard's own tests and its documentation."""
    CLOSED_FORMS = "closed-forms"
    """Hold the closed forms of `compat census` against models really loaded."""
    ADAPTERS = "adapters"
    """Save adapters, and hold `compat inspect` against what this stack makes of them."""
    PIPELINES = "pipelines"
    """Watch scripts as users write them, and see that what they do is told."""
    OVERHEAD = "overhead"
    """Measure what the recorder costs."""
    GUARD_OVERHEAD = "guard-overhead"
    """Measure what the guard costs."""


@dataclass(frozen=True, slots=True)
class Options:
    """Our own arguments after `--`; `pytest` holds the rest."""

    device: DeviceChoice
    attention: str
    """By Transformers' name: sdpa unless told otherwise, as users train."""
    steps: int
    limit_s: float
    instead: Instead | None
    tier: Tier
    """How much is measured of the cells."""
    seeds: Seeds | None
    """Calibrate the learning test with these seeds, instead of running the cells; None: do not."""
    pytest: tuple[str, ...]
    gpus: Wanted = USUAL
    model: str | None = None
    """Real weights in place of the tiny models: a directory, or a hub id."""
    memory_limit: int | None = None
    """Bytes of resident memory of a cell's process; None: no limit."""
    cells: Path | None = None
    """Names the only cells to run, one id a line, in their order; None: all."""
    fresh: bool = False
    """Run also what the store has; the new observations are its answers from then on."""


def plan_of(stack: str, lock: Lock, options: Options, ledger: Ledger, device: DeviceKind, *, base_torch: bool) -> Plan:
    """What `options` ask of the stack called `stack`, in the run that this process writes into: every cell there is."""
    run = this_run(RUNS)
    versions = {**lock.requirements, "torch": lock.facts["torch"]}
    cells = planned_cells(ledger, device, versions, tier=options.tier, model=options.model)
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
        cells=cells if options.cells is None else _named(options.cells, cells, stack, device),
        memory_limit=options.memory_limit,
        model=options.model,
    )


def _named(file: Path, cells: Sequence[PlannedCell], stack: str, device: DeviceKind) -> tuple[PlannedCell, ...]:
    """Those of `cells` that `file` names, in its order."""
    try:
        names = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CompatError(
            f"cannot be read: {why(error)}", where=str(file), todo="Name a file with a cell's id a line after --cells."
        ) from None
    known = {cell_id(stack, cell.flow, cell.variant, device): cell for cell in cells}
    return tuple(known[name] for name in names if name in known)


def run_plan(
    plan: Plan,
    lock: Lock,
    env_python: Path,
    gpus: Sequence[Gpu],
    options: Options,
    log: Path | None = None,
    *,
    alone: bool = False,
) -> None:
    """Run the cells of `plan` that the store does not have, copy those it has, and write the stack's row into the run.

    Args:
        plan: the cells.
        lock: what the stack was resolved to.
        env_python: the interpreter of the environment that equals `lock`.
        gpus: what they run on; without any, the CPU.
        options: what is not ours of them reaches pytest.
        log: takes what pytest prints; None prints it.
        alone: no other stack runs beside it.

    Raises:
        CompatError: pytest does not understand the options, they select nothing, or the shared store does not answer.
    """
    from finetune_compat.run.from_store import longest_first, look_up

    run = Path(plan.run)
    if len(gpus) > 1 and options.cells is None:
        plan = longest_first(plan)
    served = look_up(plan, lock, env_python, gpus, fresh=options.fresh)
    plan, path = served.plan, write_plan(served.plan)
    earlier = _earlier_selection(run, plan.stack)
    write_row(run, unfinished(plan.stack, earlier))
    for file in (plan.selected_file, plan.unkept_file):
        file.unlink(missing_ok=True)
    chosen = selected(plan.cells, options.pytest)
    told = served.told([plan.id_of(cell) for cell in (plan.cells if chosen is None else chosen)])
    print(told, flush=True)
    if chosen and all(cell.stored for cell in chosen):
        status = 0
        write_atomically(plan.selected_file, "".join(f"{plan.id_of(cell)}\n" for cell in chosen))
    else:
        to_run = sum(not cell.stored for cell in (plan.cells if chosen is None else chosen))
        workers = _workers(plan, to_run, gpus, options, alone=alone)
        status = run_process(_cells_command(env_python, path, gpus, options, workers), plan, gpus, log)
    _refuse_empty_selection(plan, status, options, earlier)
    row = _row(plan, status, earlier)
    served.copy(row.selected)
    write_row(run, row)
    for line in served.finish():
        print(line, flush=True)


def write_plan(plan: Plan) -> Path:
    path = Path(plan.run) / "plans" / f"{plan.stack}.json"
    write_atomically(path, plan.to_json())
    return path


def run_process(command: Sequence[str], plan: Plan, gpus: Sequence[Gpu], log: Path | None = None) -> int:
    # Elsewhere pytest tidies up after others too: the leftovers of a project's own tests can take it seconds.
    environ = {**cell_environ(gpus, hub=_from_hub(plan)), "PYTEST_DEBUG_TEMPROOT": str(plan.scratch)}
    with scratch.held(plan.scratch, Path(plan.run).parent):
        if log is None:
            return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("a") as out:
                return subprocess.run(
                    command, cwd=ROOT, env=environ, check=False, stdout=out, stderr=subprocess.STDOUT
                ).returncode
        finally:
            write_atomically(log, redact(log.read_text(encoding="utf-8", errors="replace")))


def _from_hub(plan: Plan) -> bool:
    return plan.model is not None and real_weights.from_hub(plan.model)


def record_absent(name: str, state: RowState, reason: str) -> None:
    """Write the row of a stack of which no cell could run into the run."""
    run = this_run(RUNS)
    write_row(run, StackRow(name, state, reason, ()))


def this_run(runs: Path) -> Path:
    """The directory, among `runs`, of the run that this process and those it starts write into. Its id comes from the
    environment; where there is none, a new one is put there.

    Raises:
        CompatError: the id in the environment cannot be the name of a run.
    """
    run_id = os.environ.setdefault(RUN_ID, new_run_id())
    check_run_id(run_id, RUN_ID)
    return runs / run_id


def new_run_id() -> str:
    """A name that sorts by time and that two runs of one second do not share."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def parse_options(posargs: Sequence[str], where: str = AFTER_DASHES) -> Options:
    """Split our options from pytest's. Messages say `where` they were given.

    Raises:
        CompatError: an option of ours has a value it cannot have.
    """
    parser = argparse.ArgumentParser(prog="nox -s compat --", add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--device", default="auto", choices=[choice.value for choice in DeviceChoice])
    parser.add_argument("--attention", default=ATTENTION[0], choices=ATTENTION)
    parser.add_argument("--steps", type=int, default=catalog.STEPS)
    parser.add_argument("--limit", type=float)
    parser.add_argument("--memory-limit", type=size, metavar="BYTES")
    parser.add_argument("--cells", type=Path, metavar="FILE")
    parser.add_argument("--model")
    parser.add_argument("--gpus", type=int, default=USUAL.most)
    parser.add_argument("--gpu-idle-below", type=float, default=USUAL.idle_below)
    parser.add_argument("--gpu-larger-than", type=float, default=USUAL.larger_than)
    asked = parser.add_mutually_exclusive_group()
    for instead in Instead:
        asked.add_argument(f"--{instead}", dest="instead", action="store_const", const=instead)
    parser.add_argument("--tier", default=Tier.QUICK.value, choices=[tier.value for tier in Tier])
    parser.add_argument("--fresh", action="store_true")
    asked.add_argument("--seeds", type=parse_seeds, metavar="N or FIRST-LAST")
    try:
        ours, rest = parser.parse_known_args(list(posargs))
    except argparse.ArgumentError as error:
        raise CompatError(
            str(error),
            where=where,
            todo="Correct it; what is not ours is handed to pytest as it is."
            if where == AFTER_DASHES
            else f"`{where} --help` says what each option takes.",
        ) from None
    if ours.limit is None:
        ours.limit = LIMIT_S if ours.model is None else REAL_LIMIT_S
    if ours.instead is not None and ours.memory_limit is not None:
        raise CompatError(
            f"--memory-limit does not go with --{ours.instead}",
            where=where,
            meaning="A worker is ended for its memory, and this runs in one process without workers.",
            todo="Leave one of them out.",
        )
    if ours.memory_limit is None and ours.model is None and ours.instead is None:
        ours.memory_limit = MEMORY_LIMIT
    if ours.steps < FEWEST_STEPS or not 0 < ours.limit < math.inf:
        raise CompatError(
            f"--steps {ours.steps} --limit {ours.limit:g}",
            where=where,
            meaning="Before step 2 half of a LoRA adapter has no gradient to receive; a limit is in seconds.",
            todo=f"Ask for {FEWEST_STEPS} steps or more, and for a limit above 0.",
        )
    wanted = Wanted(ours.gpus, ours.gpu_idle_below, ours.gpu_larger_than)
    if not wanted.makes_sense:
        raise CompatError(
            f"--gpus {wanted.most} --gpu-idle-below {wanted.idle_below:g} --gpu-larger-than {wanted.larger_than:g}",
            where=where,
            meaning="No GPU can be as asked for. The limits are in GB of memory: used by others, and in all.",
            todo="Ask for one GPU or more, used below some number above 0, and larger than 0 or more.",
        )
    harness_only = "seeds" if ours.seeds is not None else ours.instead
    if ours.tier == Tier.DEEP_ONLY:
        harness_only = harness_only or f"tier {ours.tier}"
    if ours.model is not None and harness_only is not None:
        raise CompatError(
            f"--model does not go with --{harness_only}",
            where=where,
            meaning="That is about the harness, and made for its tiny models.",
            todo="Leave one of them out.",
        )
    return Options(
        device=DeviceChoice(ours.device),
        attention=ours.attention,
        steps=ours.steps,
        limit_s=ours.limit,
        instead=ours.instead,
        tier=Tier(ours.tier),
        seeds=ours.seeds,
        pytest=tuple(rest),
        gpus=wanted,
        model=None if ours.model is None else real_weights.checked(ours.model),
        memory_limit=ours.memory_limit,
        cells=ours.cells,
        fresh=ours.fresh,
    )


def size(text: str) -> int:
    """Bytes, such as 1500000000, 1500MB or 1.5GiB.

    Raises:
        argparse.ArgumentTypeError: it is no amount of memory.
    """
    amount = bytes_of(text)
    if amount is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of memory such as 3GiB or 1500MB")
    return amount


def chosen_gpus(posargs: Sequence[str], where: str = AFTER_DASHES) -> tuple[Gpu, ...]:
    """The GPUs that cells will run on, said in a line or two; none where `--device`, or that there is none, says CPU.

    Raises:
        CompatError: an option of ours has a value it cannot have, or asks for a GPU that is not to be seen.
        GpuFailed: there are GPUs, and the driver does not answer.
    """
    options = parse_options(posargs, where)
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
        print(*told(choice), sep="\n", flush=True)
        return choice.chosen
    hidden = f"CUDA_VISIBLE_DEVICES={names} hides every GPU there is ({len(there)})" if there else ""
    if options.device is DeviceChoice.CUDA:
        raise CompatError(
            "--device cuda, and there is no NVIDIA GPU to be seen",
            where=where,
            meaning=f"{hidden or 'There is no NVIDIA driver, or it knows no GPU'}.",
            todo="Ask for --device cpu, or for auto, which takes a GPU where there is one.",
        )
    if hidden:
        print(f"CPU: {hidden}", flush=True)
    return ()


def planned_cells(
    ledger: Ledger,
    device: DeviceKind,
    versions: Mapping[str, str],
    *,
    tier: Tier = Tier.QUICK,
    model: str | None = None,
) -> tuple[PlannedCell, ...]:
    """Every cell of `device` that exists on these versions, with the deviations the ledger lists for them; of the real
    weights `model`, if there are any.
    """
    deep = () if tier is Tier.QUICK else catalog.DEEP_CELLS
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


def exists(flow: catalog.Flow, variant: Variant, versions: Mapping[str, str]) -> bool:
    """Whether these versions have the variant's architecture, if it is ours, and can be asked for the flow at all."""
    tiny = catalog.MODELS.get(variant.model)
    known = tiny is None or _version(versions["transformers"]) >= _version(tiny.since)
    return known and _version(versions["trl"]) >= _version(flow.since)


_version = functools.cache(Version)  # a matrix asks for a few versions, some thousands of times


def _workers(plan: Plan, to_run: int, gpus: Sequence[Gpu], options: Options, *, alone: bool) -> int:
    """How many workers run the cells: one for each GPU; on a CPU as many as fit, or as `compat run` gave the stack."""
    if not may_share(options, gpus):
        return max(len(gpus), 1)
    if not alone:
        return plan.workers()
    most = at_once(this_machine(0))
    return workers_of({plan.stack: to_run}, most, most)[plan.stack]


def _cells_command(env_python: Path, plan: Path, gpus: Sequence[Gpu], options: Options, workers: int) -> list[str]:
    return [
        *pytest_command(env_python, plan),
        *("-n", str(workers)),
        # Cells may come longest first: a larger batch would leave the other workers too little.
        "--maxschedchunk=1",
        # A cell that kills its worker is lost alone, however many there are.
        f"--max-worker-restart={len(catalog.cells_on(kind_of(gpus)))}",
        *("-q", "--no-header", "--no-summary", "--tb=no", *options.pytest, "tests/cells"),
    ]


def may_share(options: Options, gpus: Sequence[Gpu]) -> bool:
    """Whether a stack may have several workers on a CPU: with tiny models, which take one core and little memory each,
    unless pytest-xdist's own options are given.
    """
    told = any(word.startswith(("-n", "--numprocesses", "--maxprocesses", "--dist", "--tx")) for word in options.pytest)
    return not gpus and options.model is None and not told


def pytest_command(env_python: Path, plan: Path) -> list[str]:
    return [
        *(str(env_python), "-m", "pytest", "-c", "tests/cells/pytest.ini", "--rootdir", str(ROOT)),
        *("-p", "finetune_compat.cell.plugin", "--plan", str(plan)),
    ]


def _earlier_selection(run: Path, stack: str) -> tuple[str, ...]:
    """Cells of the same stack that this run selected before, on another device, by another `-k` or from the store: they
    stay judged.
    """
    return next((row.selected for row in read_rows(run) if row.name == stack), ())


def _row(plan: Plan, status: int, earlier: Sequence[str]) -> StackRow:
    if not plan.selected_file.exists():
        reason = f"pytest ended with status {status} before it could select any cell: see the session's output"
        return StackRow(plan.stack, RowState.INFRASTRUCTURE, reason, tuple(earlier))
    cells = tuple(plan.selected_file.read_text(encoding="utf-8").split("\n"))[:-1]
    return StackRow(plan.stack, RowState.RAN, "", tuple(dict.fromkeys((*earlier, *cells))))


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
        where=f"{AFTER_DASHES} ({' '.join(options.pytest)})",
        meaning="-k matches parts of a cell's name, such as sft-peft-model[qwen2-nf4-gc].",
        todo=f"The flows are {', '.join(flow.name for flow in catalog.CATALOG)}.",
    )
