"""Statements as SARIF 2.1.0, which code scanning services read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from finetune_compat.affected.notes import Note, Rule
from finetune_compat.contract.version import __version__

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(notes: Sequence[Note], rules: Sequence[Rule]) -> str:
    """One log with one run.

    Args:
        notes: the statements; each has its rule among `rules`.
        rules: all rules that were applied, also those without a statement.
    """
    places = {rule.id: place for place, rule in enumerate(rules)}
    driver = {"name": "finetune-compat", "version": __version__, "rules": [_rule(rule) for rule in rules]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(note, places[note.rule.id]) for note in notes],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(rule: Rule) -> dict[str, Any]:
    described = {"id": rule.id, "shortDescription": {"text": rule.title}, "help": {"text": rule.help}}
    return described | ({"helpUri": rule.link} if rule.link else {})


def _result(note: Note, place: int) -> dict[str, Any]:
    where = {"artifactLocation": {"uri": quote(note.file)}, "region": {"startLine": note.line}}
    result: dict[str, Any] = {
        "ruleId": note.rule.id,
        "ruleIndex": place,
        "level": str(note.level),
        "message": {"text": note.message},
        "locations": [{"physicalLocation": where}],
        # Without the line: a statement stays the same when lines are added above it.
        "partialFingerprints": {"statement/v1": _digest(note)},
    }
    if note.accepted:
        result["suppressions"] = [{"kind": "external", "justification": note.accepted}]
    return result


def _digest(note: Note) -> str:
    return hashlib.sha256(f"{note.rule.id}\0{note.file}\0{note.message}".encode()).hexdigest()
