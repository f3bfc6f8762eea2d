"""The project of field note N2, file by file, for three releases of TRL: as its owners' table told it."""

from __future__ import annotations

import pytest
from finetune_compat.audit.command import audit, table
from finetune_compat.machine.places import PACKAGE, places

PROJECT = PACKAGE.parents[1] / "tests" / "audit" / "field_notes"
TRAIN, LOADER = "scripts/train.py", "vlm/loader.py"


def told(stack: str) -> dict[str, tuple[str, str]]:
    """Status and note by file, joined with the lock of a stack."""
    found = audit(PROJECT, lock=places().locks / f"{stack}-py311.txt")
    return {file: (status, note) for file, status, note in table(found)}


@pytest.mark.parametrize(("stack", "status"), [("trl0.19", "not hit"), ("trl0.22", "hit"), ("trl1.16", "not hit")])
def test_the_train_script_has_the_whole_pattern(stack: str, status: str) -> None:
    """It is wrong in a window of releases, which the note names."""
    found, note = told(stack)[TRAIN]
    assert found == status
    assert note.startswith("wrapped-model: ")
    if status == "not hit":
        assert ">=0.20.0,<0.23.1" in note


@pytest.mark.parametrize(("stack", "is_hit"), [("trl0.19", False), ("trl0.22", True), ("trl1.16", False)])
def test_the_legacy_helpers_are_part_of_it(stack: str, is_hit: bool) -> None:
    """prepare_for_kbit_training and apply_lora of the loader, by their lines."""
    _, note = told(stack)[LOADER]
    text = (PROJECT / LOADER).read_text().splitlines()
    lines = [
        number for number, line in enumerate(text, 1) if "return prepare_model" in line or "return get_peft" in line
    ]
    part = note.partition("lines ")[2]
    assert all(str(number) in part for number in lines)
    assert f"part of wrapped-model at {TRAIN}" in part
    assert ("(not hit)" in part) is not is_hit


@pytest.mark.parametrize("stack", ["trl0.19", "trl0.22", "trl1.16"])
def test_the_loader_trains_with_flash_attention_against_the_rule(stack: str) -> None:
    """On every release: it is the default of load_model."""
    status, note = told(stack)[LOADER]
    assert status == "hit"
    assert "attention: the model for training is loaded with flash_attention_2" in note


@pytest.mark.parametrize("stack", ["trl0.19", "trl0.22", "trl1.16"])
def test_files_without_a_pattern_are_told_as_that(stack: str) -> None:
    """Loading an adapter frozen is right where nothing is trained."""
    found = told(stack)
    assert {file: found[file][0] for file in ("vlm/data.py", "scripts/predict.py")} == {
        "vlm/data.py": "ok",
        "scripts/predict.py": "ok",
    }
