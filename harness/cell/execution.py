"""Run one flow on its freshly made setup, under the recorder. From here on the stack is imported."""

from __future__ import annotations

import dataclasses
import functools
import gc
import importlib
import shutil
import tempfile
from contextlib import nullcontext, suppress
from pathlib import Path

import torch
from transformers import set_seed

from harness.catalog import LEARNING_RATE, MODELS, Flow, Handicap
from harness.cell import deep, handicaps, models
from harness.cell.instruments.emulation import presented
from harness.cell.instruments.memory import MemoryLog
from harness.cell.recorder import Recorder
from harness.cell.runner import Facts, emulated, nothing_reached
from harness.cell.setup import Setup
from harness.plan import Plan, PlannedCell
from harness.records import DeviceKind


def execute(plan: Plan, planned: PlannedCell, flow: Flow) -> Facts:
    """The facts of one run of `flow`; nothing of it is left behind on disk, and what is left in memory is noted."""
    if plan.device is DeviceKind.CUDA and not torch.cuda.is_available():
        raise RuntimeError("no CUDA device: torch sees none, although the plan asks for one")
    set_seed(plan.seed)
    try:
        setup = prepared(plan, planned, flow)
    except Exception as error:  # noqa: BLE001 - a version that cannot make the tiny model is what this cell observed
        return nothing_reached(error)
    set_seed(plan.seed)
    _import_all(flow, setup)
    # Before the recorder: what is set aside is never collected, and a recorder is part of cycles.
    _set_imports_aside("when all is imported and the first flow has not begun")
    memory = MemoryLog(plan.device)
    try:
        facts = _observed(flow, setup, memory, planned.handicap)
        # Only now is the recorder gone too, and whatever an error's traceback held.
        facts = dataclasses.replace(facts, memory=memory.end())
        _set_imports_aside("when the first cell has ended")
        return dataclasses.replace(facts, deep=deep.measured(flow, setup, facts)) if planned.deep else facts
    finally:
        shutil.rmtree(setup.scratch, ignore_errors=True)


@functools.cache
def _set_imports_aside(when: str) -> None:
    """Once for each `when`: leave the stack's modules out of later garbage collections, and of what counts as memory.

    A collection over a whole imported stack takes 0.2 s, as does looking for its tensors, and Trainer asks for several
    in every flow. At the first `when` no flow has begun, so no tensor of one is hidden. At the second, the first flow's
    have been counted; what it has left behind is its own fault and not the next one's.
    """
    gc.collect()  # garbage set aside would stay for good
    gc.freeze()


def _import_all(flow: Flow, setup: Setup) -> None:
    """Import the flow and what it will import, and have tables made that stay: none of this is the flow's memory.

    Whether it can be imported at all is for the flow to find out.
    """
    for module in ("bitsandbytes", flow.module):  # PEFT imports bitsandbytes in the middle of a flow
        with suppress(Exception):
            importlib.import_module(module)
    if setup.variant.precision.four_bit:
        _make_tables(setup.device)


@functools.cache
def _make_tables(device: DeviceKind) -> None:
    """Have bitsandbytes make the tables it keeps for a device. From 0.50 on it does so with the first 4-bit weight."""
    with suppress(Exception):  # whether it can quantize here is likewise for the flow to find out
        from bitsandbytes import functional

        # Not with compressed statistics: bitsandbytes 0.47 ends the process over them on a CPU.
        functional.dequantize_4bit(*functional.quantize_4bit(torch.zeros(64, device=device), quant_type="nf4"))


def _observed(flow: Flow, setup: Setup, memory: MemoryLog, handicap: Handicap | None) -> Facts:
    setup = handicaps.slowed(setup, handicap)
    memory.begin()
    with Recorder(flow, memory, handicaps.callback(handicap, setup.seed)) as recorder:
        _run(flow, setup, recorder)
    return recorder.facts(setup)


def _run(flow: Flow, setup: Setup, recorder: Recorder) -> None:
    try:
        with presented() if setup.emulates else nullcontext():
            importlib.import_module(flow.module).run(setup, recorder)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is what this cell observed
        recorder.failed(error)


def prepared(plan: Plan, planned: PlannedCell, flow: Flow) -> Setup:
    """What `flow` is given: the model saved on disk, an empty directory, and the numbers of the plan."""
    plan.scratch.mkdir(parents=True, exist_ok=True)
    tiny = MODELS[planned.variant.model]
    return Setup(
        variant=planned.variant,
        model=tiny.shape,
        lora=flow.lora or tiny.lora,
        attention=plan.attention,
        device=plan.device,
        emulates=emulated(plan.device, planned.variant.precision),
        saved=models.saved_model(tiny.shape, plan.seed, plan.scratch),
        scratch=Path(tempfile.mkdtemp(dir=plan.scratch)),
        learning_rate=LEARNING_RATE[flow.subject],
        steps=plan.steps,
        seed=plan.seed,
    )
