"""The answer of an earlier gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finetune_compat.contract.errors import RecordsError
from finetune_compat.gate.decision import Gate
from finetune_compat.gate.report import publish, stored
from gate_printing import printed


class TestStored:
    def test_the_answer_is_read_as_it_was_written(self, every_gate: Gate, tmp_path: Path) -> None:
        """`compat report` of a gate prints what the gate printed."""
        publish(every_gate, tmp_path)
        read = stored.read_gate(tmp_path / "gate.json")
        assert printed(read, 80, details=True) == printed(every_gate, 80, details=True)

    def test_a_file_that_is_no_answer(self, tmp_path: Path) -> None:
        """The error names the file and what to do."""
        path = tmp_path / "gate.json"
        path.write_text(json.dumps({"schema_version": 1}))
        with pytest.raises(RecordsError, match="Run the gate again"):
            stored.read_gate(path)
