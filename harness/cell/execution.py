"""Run one flow on its freshly made setup, under the recorder. From here on the stack is imported."""

from __future__ import annotations

import dataclasses
import functools
import gc
import importlib
import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path

import torch
from transformers import set_seed

from harness.catalog import LEARNING_RATE, MODELS, Flow
from harness.cell import deep, handicaps, models
from harness.cell.instruments.emulation import presented
from harness.cell.recorder import Recorder
from harness.cell.runner import Facts, emulated, nothing_reached
from harness.cell.setup import Setup
from harness.plan import Plan, PlannedCell
from harness.records import DeviceKind


def execute(plan: Plan, planned: PlannedCell, flow: Flow) -> Facts:
    """The facts of one run of `flow`; nothing of it is left behind, on disk or in memory."""
    if plan.device is DeviceKind.CUDA and not torch.cuda.is_available():
        raise RuntimeError("no CUDA device: torch sees none, although the plan asks for one")
    set_seed(plan.seed)
    try:
        setup = prepared(plan, planned, flow)
    except Exception as error:  # noqa: BLE001 - a version that cannot make the tiny model is what this cell observed
        return nothing_reached(error)
    set_seed(plan.seed)
    try:
        setup = handicaps.slowed(setup, planned.handicap)
        with Recorder(flow, handicaps.callback(planned.handicap, plan.seed)) as recorder:
            _run(flow, setup, recorder)
        facts = recorder.facts(setup)
        return dataclasses.replace(facts, deep=deep.measured(flow, setup, facts)) if planned.deep else facts
    finally:
        shutil.rmtree(setup.scratch, ignore_errors=True)
        gc.collect()
        _set_imports_aside()


@functools.cache
def _set_imports_aside() -> None:
    """Once, after the first cell has imported all it needs: leave the stack's modules out of later garbage collections.

    A collection over a whole imported stack takes 0.2 s, and Trainer asks for several in every flow.
    """
    gc.freeze()


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
        lora=tiny.lora,
        attention=plan.attention,
        device=plan.device,
        emulates=emulated(plan.device, planned.variant.precision),
        saved=models.saved_model(tiny.shape, plan.seed, plan.scratch),
        scratch=Path(tempfile.mkdtemp(dir=plan.scratch)),
        learning_rate=LEARNING_RATE[flow.subject],
        steps=plan.steps,
        seed=plan.seed,
    )
