"""The memory instrument, compared with known amounts. On a CPU it must find the tensors itself.

Runs inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --faults
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import bitsandbytes as bnb
import pytest
import torch
from finetune_compat.cell import adapt, execution, runner
from finetune_compat.cell.instruments.memory import MemoryLog, live_bytes
from finetune_compat.contract.catalog import QWEN2, flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import DeviceKind, Memory, Precision, Variant
from torch import nn

FLOAT = 4
"""Bytes of a float32."""

LINEARS, REST, BIASES, ROWS = 73_728, 16_704, 256, 1_024
"""For the tiny Qwen2: elements of its 14 linear weights, of everything not quantized, and of biases; and the weights'
rows.

2 layers x (q 64x64 + k 32x64 + v 32x64 + o 64x64 + gate 128x64 + up 128x64 + down 64x128), of 512 rows per layer.
"""


def added(make: Callable[[], object]) -> int:
    """Return the bytes that the result of `make` adds to the live ones."""
    gc.collect()
    before = live_bytes()
    made = make()
    after = live_bytes()
    del made
    gc.collect()
    assert live_bytes() == before  # and freed again
    return after - before


def _tied() -> nn.Module:
    first, second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
    second.weight = first.weight
    return nn.Sequential(first, second)


def _views() -> list[torch.Tensor]:
    base = torch.zeros(100, 10)
    return [base[50:], base.t(), base.detach(), nn.Parameter(base)]


def _four_bit(weight: torch.Tensor) -> nn.Parameter:
    return bnb.nn.Params4bit(weight, quant_type="nf4", compress_statistics=False).to("cpu")


def _with_gradients() -> nn.Module:
    module = nn.Linear(64, 32)
    module(torch.zeros(1, 64)).sum().backward()
    return module


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: nn.Linear(64, 32), FLOAT * (64 * 32 + 32)),
        (lambda: torch.zeros(10, dtype=torch.bfloat16), 2 * 10),
        (_views, FLOAT * 100 * 10),
        (_tied, FLOAT * 64 * 64),
        (_with_gradients, 2 * FLOAT * (64 * 32 + 32)),
        (lambda: torch.zeros(1000, device="meta"), 0),
        # Two weights a byte, a scale for each block of 64, and the table of the 16 codes.
        (lambda: _four_bit(torch.ones(64, 64)), 64 * 32 + FLOAT * 64 + FLOAT * 16),
    ],
    ids=["module", "half", "views", "tied", "gradients", "meta", "four-bit"],
)
def test_every_storage_counts_once(make: Callable[[], object], size: int) -> None:
    """It counts once under any number of names, with its gradient and with the state of a quantized weight."""
    assert added(make) == size


@pytest.mark.parametrize(
    ("precision", "size"),
    [
        (Precision.FULL, FLOAT * (LINEARS + REST + BIASES)),
        # A byte a weight, and a scale a row.
        (Precision.INT8, LINEARS + FLOAT * (ROWS + REST + BIASES)),
        # Half a byte a weight, a scale for each block of 64, and in each of the 14 layers the table of the 16 codes.
        (Precision.NF4, LINEARS // 2 + FLOAT * (LINEARS // 64 + 14 * 16 + REST + BIASES)),
    ],
)
def test_a_loaded_model_takes_what_its_config_says(plan: Plan, precision: Precision, size: int) -> None:
    """The sum has weights, biases and quantization state in closed form, and the buffers of the rotary embedding."""
    cell = PlannedCell("sft-peft-config", Variant(QWEN2, precision, gradient_checkpointing=False), ())
    setup = execution.prepared(plan, cell, flow_named(cell.flow))
    if _refused_on_a_cpu(plan, cell):
        with pytest.raises((AttributeError, ImportError, RuntimeError)):
            adapt.load_model(setup)
        return
    model = adapt.load_model(setup)
    buffers = {each.data_ptr(): FLOAT * each.numel() for each in model.buffers()}
    del model
    assert added(lambda: adapt.load_model(setup)) == size + sum(buffers.values())


def _refused_on_a_cpu(plan: Plan, cell: PlannedCell) -> bool:
    """Whether the ledger lists that this stack's Transformers loads no quantized weights on a CPU."""
    planned = next(each for each in plan.cells if str(each) == str(cell))
    return any(deviation.issue == "cpu-quantization" for deviation in planned.listed)


def test_the_peak_is_that_of_a_step(plan: Plan) -> None:
    """If the whole model trains: weights, gradients, Adam's two moments, three copies of the recorder (the weights when
    training began and before the step, and the gradients), and little more.
    """
    cell = PlannedCell("sft-full", Variant(QWEN2, Precision.FULL, gradient_checkpointing=False), ())
    memory = runner.run_cell(plan, cell).memory
    assert memory is not None
    weights = FLOAT * (LINEARS + REST + BIASES)
    assert 7 * weights <= memory.peak_bytes - memory.start_bytes < 7.1 * weights


def test_a_gpus_memory_is_its_allocators(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS's scratch space is freed at both ends; the peak is the allocator's since the start."""
    asked: list[str] = []

    def answering(name: str, answer: int | None = None) -> Callable[[], int | None]:
        def call() -> int | None:
            asked.append(name)
            return answer

        return call

    monkeypatch.setattr(torch.cuda, "memory_allocated", answering("allocated", 100))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", answering("highest", 900))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", answering("reset"))
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", answering("cleared"), raising=False)
    log = MemoryLog(DeviceKind.CUDA)
    assert log.end() is None
    log.begin()
    log.look()
    assert log.end() == Memory(start_bytes=100, end_bytes=100, peak_bytes=900)
    assert asked == ["cleared", "allocated", "reset", "highest", "cleared", "allocated"]


def test_a_flow_that_cannot_begin_has_no_memory(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """This means not measured, not zero."""
    cell = PlannedCell("sft-full", Variant(QWEN2, Precision.FULL, gradient_checkpointing=False), ())

    def fail(*_: object) -> None:
        raise ImportError("planted")

    monkeypatch.setattr(execution, "prepared", fail)
    seen = runner.run_cell(plan, cell)
    assert seen.error is not None and seen.error.message == "planted"
    assert seen.memory is None


@pytest.fixture(autouse=True)
def _on_a_cpu(plan: Plan) -> None:
    """On a GPU the allocator is asked."""
    if plan.device is not DeviceKind.CPU:
        pytest.skip("the allocator of a GPU knows what is alive")
    execution._make_tables(plan.device)  # these stay and belong to no weight
