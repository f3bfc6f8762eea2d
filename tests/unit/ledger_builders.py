"""Files of known issues for tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import ExitCode, MatrixError

ENTRY = """
[[issue]]
id = "trl#3926"
title = "SFTTrainer freezes the adapters of a PeftModel it is handed"
kind = "upstream"
link = "https://github.com/huggingface/trl/issues/3926"
cause = "It prepares a second time."
remedy = "Hand it the base model."
needs = "a PeftModel"
sees = "0 trainable parameters"
imports = ["trl.SFTTrainer"]

[[issue.shows]]
windows = { trl = ">=0.20.0,<0.23.1" }
flows = ["sft-peft-model"]
precisions = ["nf4", "int8"]
gradient_checkpointing = true
device = "cpu"
check = "C104"
froze = "peft/peft_model.py::prepare -> peft/utils/other.py::freeze"
symptom = "flat"
"""
FREEZE = 'froze = "peft/peft_model.py::prepare -> peft/utils/other.py::freeze"'
SCRIPTED = """
[[issue.scripts]]
windows = { peft = ">=0.17.0,<0.17.1" }
script = "one_bug"
error = "AssertionError: one is two"
harm = "learns nothing"
"""
PLACES = """
[[place]]
name = "freeze"
windows = { peft = "<0.18.0" }
chain = "peft/a.py::old"

[[place]]
name = "freeze"
windows = { peft = ">=0.18.0" }
chain = "peft/b.py::caller -> peft/b.py::new"
"""
TODO = "Correct the file and run again; docs/extending.md describes the fields."


def written(tmp_path: Path, text: str) -> Path:
    """Write a ledger file."""
    path = tmp_path / "known-issues.toml"
    path.write_text(text, encoding="utf-8")
    return path


def fault_of(tmp_path: Path, text: str) -> str:
    """Return the error of an invalid ledger file, without the first line and the advice."""
    path = written(tmp_path, text)
    with pytest.raises(MatrixError) as raised:
        load_ledger(path)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(TODO)
    return message.removeprefix(f"{path}: ").removesuffix(f"\n{TODO}")
