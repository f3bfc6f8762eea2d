"""Checks of the configuration, and of files beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapter_stories import A0, B0, EMBED, TIED, Example, found, judged, loading, stories_of
from adapters import raw, write
from finetune_compat.checks.codes import Severity
from finetune_compat.inspect import config_checks
from finetune_compat.inspect.inspection import inspect_adapter


@pytest.mark.parametrize("given", stories_of(config_checks), ids=str)
def test_a_check_reports_its_fault_and_nothing_else(tmp_path: Path, given: Example) -> None:
    """The message is exactly one sentence; healthy adapters have none."""
    seen = found(tmp_path, given).get(given.code)
    assert (seen and seen.sentence) == given.sentence


def test_values_that_were_not_read_are_a_note(tmp_path: Path) -> None:
    """The note names the dtype."""
    directory = write(tmp_path / "a")
    one = b"\0\0\x80\x3f" * 12
    entries = [(A0, "F32", [2, 6], one), (B0, "F8_E8M0", [6, 2], b"\1" * 12)]
    raw(directory / "adapter_model.safetensors", entries)
    seen = {finding.code: finding for finding in inspect_adapter(directory).findings}
    assert seen["S107"].sentence == "The values of 1 of 2 tensors were not read (dtype F8_E8M0)."
    assert seen["S107"].where == (B0,)
    assert "S204" not in seen


def test_pickles_beside_the_file_are_a_note(tmp_path: Path) -> None:
    """PEFT loads only one of the two."""
    directory = write(tmp_path / "a")
    (directory / "adapter_model.bin").touch()
    (seen,) = inspect_adapter(directory).findings
    assert (seen.code, seen.severity) == ("S108", Severity.NOTE)
    assert seen.sentence == ("The directory also holds pickled weights (adapter_model.bin); they were not read.")


@pytest.mark.parametrize(
    ("tied", "sentence"),
    [
        (True, TIED.format(EMBED).replace("If the base", "The base")),
        (None, TIED.format(EMBED)),
        (False, None),
    ],
)
def test_tied_weights_are_judged_by_the_base_model(tmp_path: Path, tied: bool | None, sentence: str | None) -> None:
    """The base model is known to be tied, unknown, or known not to be tied."""
    seen = judged(tmp_path, loading(tied=tied), modules_to_save=["embed_tokens"])
    assert seen.get("S105") == sentence
