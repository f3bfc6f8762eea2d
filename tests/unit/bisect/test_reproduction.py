"""Scripts for upstream issues: complete, and without a name of this project."""

from __future__ import annotations

import ast

import pytest
from finetune_compat.bisect.reproduction import reproduction
from finetune_compat.contract.catalog import CATALOG

CELLS = [f"{flow.name}[{variant}]" for flow in CATALOG for variant in flow.variants]
WITH_SCRIPT = [cell for cell in CELLS if reproduction(cell)]


def test_every_flow_of_text_has_one_unless_its_rows_are_its_own() -> None:
    without = {cell.partition("[")[0] for cell in CELLS} - {cell.partition("[")[0] for cell in WITH_SCRIPT}
    assert without == {"rft-all-linear", "rft-labels-masked", "dpo-peft-config", "dpo-peft-model"}


@pytest.mark.parametrize("cell", WITH_SCRIPT)
def test_it_is_complete(cell: str) -> None:
    """Every name is a builtin, or is imported or assigned in the script."""
    text = reproduction(cell)
    tree = ast.parse(text)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    known = {node.id for node in names if isinstance(node.ctx, ast.Store)} | {*dir(__builtins__), *__builtins__}  # type: ignore[misc]
    known |= {alias.asname or alias.name for node in ast.walk(tree) for alias in getattr(node, "names", [])}
    known |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    known |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    assert {node.id for node in names if isinstance(node.ctx, ast.Load)} <= known
    assert not [word for word in ("finetune_compat", "setup", "record", "adapt.") if word in text]


def test_the_flagship_reads_like_a_users_script() -> None:
    text = reproduction("sft-peft-model[qwen2-int8-gc]")
    assert "load_in_8bit=True" in text
    assert (
        "model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=True)\nshow('prepare', model)"
        in text
    )
    assert "trainer = SFTTrainer(model=model, **arguments())\nshow('trainer', trainer.model)" in text
    assert "prepare_model_for_kbit_training(model" not in reproduction("sft-peft-model[qwen2-full-gc]")
