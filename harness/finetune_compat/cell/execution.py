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
from typing import Any

import torch
from transformers import set_seed

from finetune_compat.cell import deep, handicaps
from finetune_compat.cell.instruments.emulation import presented
from finetune_compat.cell.instruments.memory import MemoryLog
from finetune_compat.cell.models import Model, tiny_model
from finetune_compat.cell.objectives import Objective
from finetune_compat.cell.recorder import Recorder
from finetune_compat.cell.runner import Facts, emulated, nothing_reached
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import LEARNING_RATE, MODELS, REAL_LEARNING_RATE, Flow, Handicap, Subject, lora_of
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import DeviceKind, Stage


def execute(plan: Plan, planned: PlannedCell, flow: Flow) -> Facts:
    """The facts of one run of `flow`; nothing of it is left behind on disk, and what is left in memory is noted."""
    if plan.device is DeviceKind.CUDA and not torch.cuda.is_available():
        raise RuntimeError("no CUDA device: torch sees none, although the plan asks for one")
    set_seed(plan.seed)
    try:
        setup = prepared(plan, planned, flow)
    except Exception as error:  # noqa: BLE001 - a version that cannot make or read the model is what this cell observed
        return nothing_reached(error, Stage.IMPORT if plan.model is None else Stage.LOAD)
    set_seed(plan.seed)
    _import_all(flow, setup)
    # Before the recorder: what is set aside is never collected, and a recorder is part of cycles.
    _set_imports_aside("when all is imported and the first flow has not begun")
    memory = MemoryLog(plan.device)
    objective: Any = importlib.import_module(flow.objective.module)
    try:
        facts = _observed(flow, objective, setup, memory, planned.handicap)
        # Only now is the recorder gone too, and whatever an error's traceback held.
        facts = dataclasses.replace(facts, memory=memory.end())
        _set_imports_aside("when the first cell has ended")
        return dataclasses.replace(facts, deep=deep.measured(flow, objective, setup, facts)) if planned.deep else facts
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


def _observed(flow: Flow, objective: Objective, setup: Setup, memory: MemoryLog, handicap: Handicap | None) -> Facts:
    setup = handicaps.slowed(setup, handicap)
    memory.begin()
    end = setup.model.tokenizer.eos_token_id
    with Recorder(flow, objective, memory, end, handicaps.callback(handicap, setup.seed)) as recorder:
        _run(flow, setup, recorder)
    return recorder.facts(setup)


def _run(flow: Flow, setup: Setup, recorder: Recorder) -> None:
    try:
        with presented() if setup.emulates else nullcontext():
            importlib.import_module(flow.module).run(setup, recorder)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is what this cell observed
        recorder.failed(error)


def prepared(plan: Plan, planned: PlannedCell, flow: Flow) -> Setup:
    """What `flow` is given: the model, an empty directory, and the numbers of the plan."""
    plan.scratch.mkdir(parents=True, exist_ok=True)
    rates = LEARNING_RATE if plan.model is None else REAL_LEARNING_RATE
    return Setup(
        variant=planned.variant,
        model=_model(plan, planned, flow),
        lora=lora_of(flow, planned.variant.model),
        attention=plan.attention,
        device=plan.device,
        emulates=emulated(plan.device, planned.variant.precision),
        scratch=Path(tempfile.mkdtemp(dir=plan.scratch)),
        learning_rate=rates[flow.subject],
        steps=plan.steps,
        seed=plan.seed,
    )


def _model(plan: Plan, planned: PlannedCell, flow: Flow) -> Model:
    if plan.model is None:
        return tiny_model(MODELS[planned.variant.model].shape, plan.seed, plan.scratch)
    # Only with real weights must a stack be able to build a model without any.
    from finetune_compat.cell.real import real_model

    lora = lora_of(flow, planned.variant.model)
    return real_model(plan.model, planned.variant.precision, lora, adapters=flow.subject is Subject.ADAPTER)
