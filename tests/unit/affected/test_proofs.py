"""The file of proofs, and the proofs of an issue."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import builders as b
import pytest
from finetune_compat.affected.proofs import Proof, proofs_of, read_proofs
from finetune_compat.contract.errors import RecordsError


@pytest.mark.parametrize("text", ["", "{}x", '[{"issue": 1}]'])
def test_a_file_that_is_not_valid_is_reported(tmp_path: Path, text: str) -> None:
    """With the command that writes it."""
    path = tmp_path / "proofs.json"
    path.write_text(text)
    with pytest.raises(RecordsError, match=r"not a list of proofs"):
        read_proofs(path)


def proof(issue: str = "trl#3926", shows: int = 0) -> Proof:
    """A proof of one signature."""
    return Proof(
        issue=issue,
        shows=shows,
        cell=f"trl0.22-py311/sft-peft-model[qwen2-nf4-gc]@cpu{shows}",
        baseline="cpu",
        observation="0" * 64,
        measured="2026-11-24T00:00:00Z",
        command="compat run trl0.22",
    )


def test_proofs_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Every field of each."""
    path = tmp_path / "proofs.json"
    written = (proof(), proof(shows=1))
    path.write_text(json.dumps([asdict(one) for one in written]))
    assert read_proofs(path) == written


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    """With the reason of the operating system."""
    with pytest.raises(RecordsError, match="cannot be read: No such file or directory"):
        read_proofs(tmp_path / "gone.json")


def test_the_proofs_of_an_issue_are_those_of_what_it_shows() -> None:
    """Of other issues, and of signatures outside these versions, there are none."""
    loud = replace(b.FLAGSHIP, check="F001")
    issue = b.issue(b.FLAGSHIP, loud)
    every = (proof(), proof(shows=1), proof("trl#1"))
    assert proofs_of(issue, (loud,), every) == (proof(shows=1),)
    assert proofs_of(issue, (b.FLAGSHIP, loud), every) == every[:2]
    assert proofs_of(issue, (), every) == ()
