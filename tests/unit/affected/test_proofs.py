"""The file of proofs, and the proofs of an issue."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.affected.proofs import read_proofs
from finetune_compat.contract.errors import RecordsError


@pytest.mark.parametrize("text", ["", "{}x", '[{"issue": 1}]'])
def test_a_file_that_is_not_valid_is_reported(tmp_path: Path, text: str) -> None:
    """With the command that writes it."""
    path = tmp_path / "proofs.json"
    path.write_text(text)
    with pytest.raises(RecordsError, match=r"not a list of proofs"):
        read_proofs(path)
