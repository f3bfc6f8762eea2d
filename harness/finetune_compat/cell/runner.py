"""Run one planned cell and record its observation. The module imports nothing of the stack: a stack that cannot be
imported is an observation too.
"""

from __future__ import annotations

import datetime
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.cell.instruments.frames import raised_chain, readable, without_place
from finetune_compat.cell.time_limit import importing
from finetune_compat.contract.catalog import MODELS, Flow, Subject, flow_named, lora_of
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import (
    CENSUS_STAGES,
    REPORTED,
    Absence,
    AbsentStage,
    Attention,
    Census,
    Deep,
    DeviceKind,
    DeviceRecord,
    Failure,
    Forward,
    Freeze,
    Labels,
    Memory,
    Message,
    ModelSizes,
    Observation,
    Precision,
    Reply,
    StackRecord,
    Stage,
    Started,
    Training,
    to_json,
)
from finetune_compat.contract.redaction import redact_here
from finetune_compat.contract.version import __version__
from finetune_compat.machine import cpu

LONGEST_ERROR = 2000
"""Characters of an error's message that are recorded."""

_EXECUTION = "finetune_compat.cell.execution"
"""The module that imports the stack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a run of a flow measures: the part of an observation that is not known before the run."""

    absent: tuple[AbsentStage, ...]
    attention_used: str | None = None
    stages: tuple[Census, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    training: Training | None = None
    labels: Labels | None = None
    reply: Reply | None = None
    forward: Forward | None = None
    deep: Deep | None = None
    sizes: ModelSizes | None = None
    weights_sha256: str | None = None
    options_dropped: tuple[str, ...] = ()
    warnings: tuple[Message, ...] = ()
    error: Failure | None = None
    memory: Memory | None = None


def run_cell(plan: Plan, planned: PlannedCell) -> Observation:
    """Run one cell and return its observation. An exception of the flow is part of the observation, and not raised."""
    flow = flow_named(planned.flow)
    started, clock = now(), time.perf_counter()
    facts = _facts(plan, planned, flow)
    return Observation(
        cell=plan.id_of(planned),
        stack=_stack(plan),
        device=_device(plan.device, emulated(plan.device, planned.variant.precision)),
        flow=flow.name,
        variant=planned.variant,
        seed=plan.seed,
        model=MODELS[planned.variant.model].shape if plan.model is None else None,
        lora=lora_of(flow, planned.variant.model) if flow.subject is Subject.ADAPTER else None,
        sizes=facts.sizes,
        handicap=planned.handicap,
        attention=Attention(plan.attention, facts.attention_used),
        stages=facts.stages,
        absent=facts.absent,
        freezes=facts.freezes,
        training=facts.training,
        labels=facts.labels,
        reply=facts.reply,
        forward=facts.forward,
        deep=facts.deep,
        weights_sha256=facts.weights_sha256,
        options_dropped=facts.options_dropped,
        warnings=facts.warnings,
        error=facts.error,
        memory=facts.memory,
        duration_s=round(time.perf_counter() - clock, 3),
        started_at=started,
        harness_version=__version__,
    )


def _facts(plan: Plan, planned: PlannedCell, flow: Flow) -> Facts:
    try:
        with importing():
            execution = importlib.import_module(_EXECUTION)
    except Exception as error:  # noqa: BLE001 - whatever a broken stack raises is what this cell observed
        return nothing_reached(error)
    with _environment_restored():
        facts: Facts = execution.execute(plan, planned, flow)
    return facts


@contextmanager
def _environment_restored() -> Iterator[None]:
    """Restore the environment variables on exit. TrainingArguments with bf16 sets ACCELERATE_MIXED_PRECISION, which all
    later trainers of the process would use.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def nothing_reached(error: Exception, stage: Stage = Stage.IMPORT) -> Facts:
    """The facts of a flow that did not begin, because `error` was raised before or at `stage`."""
    absent = tuple(AbsentStage(stage, Absence.NOT_REACHED) for stage in CENSUS_STAGES)
    return Facts(absent=absent, error=failure(error, stage))


def failure(error: Exception, stage: Stage) -> Failure:
    """The record of an exception that ended a flow at `stage`."""
    chain = readable(raised_chain(error.__traceback__))
    return Failure(type(error).__name__, redact_here(without_place(str(error)))[:LONGEST_ERROR], stage, chain)


def emulated(device: DeviceKind, precision: Precision) -> DeviceKind | None:
    """The device that 4-bit weights report to TRL; None if they report their real device."""
    return DeviceKind.CUDA if device is DeviceKind.CPU and precision.emulated else None


def _stack(plan: Plan) -> StackRecord:
    resolved = {name: version for name, version in installed_versions().items() if name in REPORTED}
    python = platform.python_version()
    return StackRecord(plan.stack, python, plan.lock_sha256, plan.torch_wanted, plan.base_torch, resolved)


@functools.cache
def installed_versions() -> dict[str, str]:
    """Version of every distribution in this environment, by normalized name."""
    found = [(dist.metadata["Name"], dist.version) for dist in importlib.metadata.distributions()]
    return {name.lower().replace("_", "-"): version for name, version in found if name}


def _device(kind: DeviceKind, emulates: DeviceKind | None) -> DeviceRecord:
    name = _gpu() if kind is DeviceKind.CUDA else cpu.name()
    return DeviceRecord(kind, name, emulates, _features(kind))


@functools.cache
def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device"


def _features(kind: DeviceKind) -> tuple[str, ...]:
    return cpu.features(kind, triton=importlib.util.find_spec("triton") is not None)


def append(plan: Plan, record: Observation | Started) -> None:
    """Append one line to the run's observations, in a single write: parallel sessions do not mix their lines."""
    path = Path(plan.run) / "observations.jsonl"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, (to_json(record) + "\n").encode())
    finally:
        os.close(handle)


def mark_started(plan: Plan, planned: PlannedCell) -> None:
    """Append the line that marks the cell as started. If no observation follows, the cell counts as infrastructure."""
    append(plan, Started(cell=plan.id_of(planned), started=now()))


def now() -> str:
    """The current time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
