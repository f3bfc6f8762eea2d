"""Run one flow under the recorder, on a new setup. This module imports the stack."""

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
from finetune_compat.cell.instruments.rows import Data
from finetune_compat.cell.models import Model, tiny_model
from finetune_compat.cell.objectives import Objective
from finetune_compat.cell.recorder import Recorder
from finetune_compat.cell.runner import Facts, emulated, nothing_reached
from finetune_compat.cell.setup import Setup
from finetune_compat.cell.time_limit import importing
from finetune_compat.contract.catalog import LEARNING_RATE, MODELS, REAL_LEARNING_RATE, Flow, Handicap, Subject, lora_of
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import DeviceKind, Stage


def execute(plan: Plan, planned: PlannedCell, flow: Flow) -> Facts:
    """Run `flow` once and return its facts. Its files are deleted, and the memory that it leaves is measured."""
    if plan.device is DeviceKind.CUDA and not torch.cuda.is_available():
        raise RuntimeError("no CUDA device: torch sees none, although the plan asks for one")
    set_seed(plan.seed)
    try:
        setup = prepared(plan, planned, flow)
    except Exception as error:  # noqa: BLE001 - a version that cannot create or load the model is an observation
        return nothing_reached(error, Stage.IMPORT if plan.model is None else Stage.LOAD)
    set_seed(plan.seed)
    with importing():
        _import_all(flow, setup)
    # Before the recorder exists: objects set aside are never collected, and a recorder is part of reference cycles.
    _set_imports_aside("when all is imported and the first flow has not begun")
    memory = MemoryLog(plan.device)
    objective: Any = importlib.import_module(flow.objective.module)
    try:
        facts = _observed(flow, objective, setup, memory, planned.handicap)
        # After the recorder is released, with everything that an error's traceback held.
        facts = dataclasses.replace(facts, memory=memory.end())
        _set_imports_aside("when the first cell has ended")
        return dataclasses.replace(facts, deep=deep.measured(flow, objective, setup, facts)) if planned.deep else facts
    finally:
        shutil.rmtree(setup.scratch, ignore_errors=True)


@functools.cache
def _set_imports_aside(when: str) -> None:
    """Once for each `when`: exclude all existing objects from later garbage collections and memory measurements.

    A collection over an imported stack takes 0.2 s, and so does the search for its tensors. Trainer runs several
    collections in every flow. At the first `when` no flow has begun, so no tensor of a flow is excluded. At the second,
    the memory of the first flow is already measured, and what it left does not count for the next flow.
    """
    gc.collect()  # garbage that is set aside would never be freed
    gc.freeze()


def _import_all(flow: Flow, setup: Setup) -> None:
    """Import the flow and its libraries, and create permanent tables: they do not count as the flow's memory.

    Import errors are ignored here: the flow meets and records them.
    """
    for module in ("bitsandbytes", flow.module):  # PEFT imports bitsandbytes in the middle of a flow
        with suppress(Exception):
            importlib.import_module(module)
    if setup.variant.precision.four_bit:
        _make_tables(setup.device)


@functools.cache
def _make_tables(device: DeviceKind) -> None:
    """Let bitsandbytes create its permanent tables for a device. From 0.50 on the first 4-bit weight creates them."""
    with suppress(Exception):  # the flow meets and records errors of quantization
        from bitsandbytes import functional

        # Not with compressed statistics: with them bitsandbytes 0.47 crashes the process on a CPU.
        functional.dequantize_4bit(*functional.quantize_4bit(torch.zeros(64, device=device), quant_type="nf4"))


def _observed(flow: Flow, objective: Objective, setup: Setup, memory: MemoryLog, handicap: Handicap | None) -> Facts:
    setup = handicaps.slowed(setup, handicap)
    memory.begin()
    tokenizer = setup.model.tokenizer
    given = objective.given(setup) if setup.model.weights_sha256 is not None else None
    data = Data(tokenizer.eos_token_id, tokenizer.pad_token_id, given)
    with Recorder(flow, objective, memory, data, handicaps.callback(handicap, setup.seed)) as recorder:
        _run(flow, setup, recorder)
    return recorder.facts(setup)


def _run(flow: Flow, setup: Setup, recorder: Recorder) -> None:
    try:
        with presented() if setup.emulates else nullcontext():
            importlib.import_module(flow.module).run(setup, recorder)
    except Exception as error:  # noqa: BLE001 - every exception of a library is an observation
        recorder.failed(error)


def prepared(plan: Plan, planned: PlannedCell, flow: Flow) -> Setup:
    """The setup of `flow`: the model, an empty directory, and the settings of the plan."""
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
        model = tiny_model(MODELS[planned.variant.model].shape, plan.seed, plan.scratch)
        return dataclasses.replace(model, dtype=torch.bfloat16) if planned.variant.precision.bf16 else model
    # Imported only for real weights: building a model without weights does not work on every stack.
    from finetune_compat.cell.real import real_model

    lora = lora_of(flow, planned.variant.model)
    return real_model(plan.model, planned.variant.precision, lora, adapters=flow.subject is Subject.ADAPTER)
