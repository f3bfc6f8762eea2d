"""Statements as workflow commands of GitHub Actions, which annotate the files of a pull request."""

from __future__ import annotations

from collections.abc import Iterable

from finetune_compat.affected.notes import Level, Note

_COMMANDS = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "notice"}


def commands(notes: Iterable[Note]) -> str:
    """One line for each statement that the project does not accept."""
    return "".join(f"{_annotation(note)}\n" for note in notes if not note.accepted)


def _annotation(note: Note) -> str:
    title = f"{note.rule.id}: {note.rule.title}"
    properties = f"file={_property(note.file)},line={note.line},title={_property(title)}"
    return f"::{_COMMANDS[note.level]} {properties}::{_data(note.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
