"""Fixtures of the tests of the guard: tiny healthy trainers as users make them.

They run inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --guard
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import transformers
import trl
from finetune_compat.cell import adapt, execution, plugin
from finetune_compat.cell.objectives import plain
from finetune_compat.cell.objectives.sft import arguments as sft_arguments
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import QWEN2, flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Precision, Variant
from peft import get_peft_model
from transformers import set_seed

Make = Callable[..., Any]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test per planned cell, with the cell's name. These are not cells: nothing is recorded."""
    if "guarded" in metafunc.fixturenames:
        cells = metafunc.config.stash[plugin._PLAN].cells
        metafunc.parametrize("guarded", cells, ids=[str(cell) for cell in cells])


@pytest.fixture
def setup(plan: Plan) -> Iterator[Setup]:
    """A tiny float32 model on disk, and scratch space."""
    set_seed(plan.seed)
    planned = PlannedCell("sft-peft-model", Variant(QWEN2, Precision.FULL, False), ())
    made = execution.prepared(plan, planned, flow_named(planned.flow))
    yield made
    shutil.rmtree(made.scratch, ignore_errors=True)


def _with(arguments: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a trainer, with other options in its configuration."""
    known = {field.name for field in dataclasses.fields(arguments["args"])}
    assert set(options) <= known, "an option this version does not have would silently not be tested"
    for name, value in options.items():
        setattr(arguments["args"], name, value)
    return arguments


@pytest.fixture
def sft(setup: Setup) -> Make:
    """Make a healthy SFTTrainer over a PeftModel, as the flow sft-peft-model does; by keyword, other options."""

    def make(*callbacks: Any, model: Any = None, **options: Any) -> Any:
        model = model or get_peft_model(adapt.load_model(setup), adapt.lora_config(setup))
        return trl.SFTTrainer(model=model, callbacks=list(callbacks), **_with(sft_arguments(setup), options))

    return make


@pytest.fixture
def full(setup: Setup) -> Make:
    """Make a healthy `transformers.Trainer` that trains every parameter: no TRL, no PEFT."""

    def make(*callbacks: Any, **options: Any) -> Any:
        model, arguments = adapt.load_model(setup), _with(plain.arguments(setup), options)
        return transformers.Trainer(model=model, callbacks=list(callbacks), **arguments)

    return make
