"""A record of device-dependent branches."""

from __future__ import annotations

import dataclasses
from typing import Any

import builders as b
from finetune_compat.contract.branches import Accelerator, BranchTrace, Guard, TracedCell

MODEL, CONFIG = "sft-peft-model", "sft-peft-config"


def guard(condition: str, true: tuple[int, ...], false: tuple[int, ...], **changed: Any) -> Guard:
    """A guard of a CUDA GPU."""
    found = Guard(
        file="trl/models/utils.py",
        line=538,
        function="prepare_peft_model",
        condition=condition,
        accelerator=Accelerator.CUDA,
        true=true,
        false=false,
    )
    return dataclasses.replace(found, **changed)


CELLS = (
    TracedCell(f"{MODEL}[qwen2-nf4-gc]", emulates=True, error=""),
    TracedCell(f"{MODEL}[qwen2-nf4-plain-gc]", emulates=False, error=""),
    TracedCell(f"{MODEL}[qwen2-int8-gc]", emulates=False, error=""),
    TracedCell(f"{CONFIG}[qwen2-nf4-gc]", emulates=True, error=""),
)

TRACE = BranchTrace(
    stack="trl0.24-py311",
    lock_sha256="5f" * 32,
    versions=b.VERSIONS,
    python="3.11.7",
    device="Example CPU",
    harness_version="0.1.0",
    measured="2026-11-20T12:00:00+00:00",
    cells=CELLS,
    guards=(
        guard("torch.cuda.is_available()", (), (0, 1, 2, 3)),
        guard("is_sharded_qlora", (1,), (0, 2, 3)),
        guard("emulated_alone", (0,), (1,)),
        guard("is_torch_xpu_available()", (), (0, 1), accelerator=Accelerator.OTHER),
    ),
)
