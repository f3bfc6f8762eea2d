"""Defaults that a script takes as they come, read from its source."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import gates
import pytest
from finetune_compat.gate.decision import DefaultChange, Gate
from finetune_compat.gate.report import markdown, wording
from finetune_compat.gate.taken import taken, with_taken

PACKING = DefaultChange("SFTConfig", "packing_strategy", "'ffd'", "'bfd'")
CHECKPOINTING = DefaultChange("SFTConfig", "gradient_checkpointing", "False", "True")
REMOVED = DefaultChange("SFTConfig", "max_seq_length", "None", None)
OTHER = DefaultChange("DPOConfig", "loss_type", "'sigmoid'", "['sigmoid']")
WHOLE = DefaultChange("KTOConfig", "", "the class is there", None)
CHANGED = (PACKING, CHECKPOINTING, REMOVED, OTHER, WHOLE)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("SFTConfig(output_dir='out', gradient_checkpointing=True)", (PACKING,)),
        ("import trl\ntrl.SFTConfig()", (PACKING, CHECKPOINTING)),
        ("a = SFTConfig(packing_strategy='ffd')\nb = SFTConfig(gradient_checkpointing=True)", (PACKING, CHECKPOINTING)),
        ("SFTConfig(packing_strategy='bfd', gradient_checkpointing=True)", ()),
        ("print('SFTConfig(')", ()),
        ("getattr(trl, 'SFTConfig')()", ()),
    ],
)
def test_a_default_is_taken_by_a_call_without_the_field(source: str, found: tuple[DefaultChange, ...]) -> None:
    """A field that every call gives keeps its value, and other classes do not matter."""
    assert taken(CHANGED, source) == found


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """An answer about a script."""
    shutil.copytree(gates.FOLDER / "clean-upgrade" / "run", tmp_path / "run")
    found = gates.gate_of("clean-upgrade", tmp_path / "run")
    return replace(found, defaults=CHANGED, script=str(tmp_path / "train.py"))


def test_the_answer_names_them(gate: Gate) -> None:
    """Where the value changes what the script does."""
    Path(gate.script).write_text("from trl import SFTConfig\nargs = SFTConfig('out')\n")
    told = with_taken(gate)
    line = (
        "Your script takes these new defaults: SFTConfig.packing_strategy 'ffd' -> 'bfd', "
        "SFTConfig.gradient_checkpointing False -> True."
    )
    assert wording.taken_line(told) == line
    assert "Your script takes these new defaults" in markdown.comment(told)


def test_a_notebook_is_read_without_its_commands(gate: Gate, tmp_path: Path) -> None:
    """Lines for the shell are not Python."""
    notebook = tmp_path / "train.ipynb"
    cells = [{"cell_type": "code", "source": ["!pip install trl\n", "SFTConfig()"]}]
    notebook.write_text(json.dumps({"cells": cells}))
    assert with_taken(replace(gate, script=str(notebook))).taken == (PACKING, CHECKPOINTING)


@pytest.mark.parametrize("text", ["\0", "def", "(" * 5000, "\ud800"])
def test_a_script_that_cannot_be_read_has_none(gate: Gate, text: str) -> None:
    """The run itself reports what is wrong with it."""
    Path(gate.script).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert with_taken(gate) == gate
