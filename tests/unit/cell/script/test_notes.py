"""Sentences about a watched run."""

from __future__ import annotations

from finetune_compat.cell.script.notes import Notes


def test_a_sentence_is_said_once() -> None:
    notes = Notes()
    for _ in range(2):
        notes.change("a")
        notes.miss("b")
    assert (notes.changed, notes.unseen) == (("a",), ("b",))
