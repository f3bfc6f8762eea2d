"""Which changed defaults a user's script takes as they come: read from its source, which is not run."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from finetune_compat.gate.decision import DefaultChange, Gate


def with_taken(gate: Gate) -> Gate:
    """The answer with the defaults that its script takes; unchanged without a script that can be read."""
    try:
        source = _source(Path(gate.script)) if gate.script else ""
        return replace(gate, taken=taken(gate.defaults, source))
    except (OSError, ValueError, SyntaxError, RecursionError, KeyError, TypeError):
        return gate  # it ran, so Python reads it: a notebook with commands, or a launcher


def _source(script: Path) -> str:
    text = script.read_text(encoding="utf-8")
    if script.suffix != ".ipynb":
        return text
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in cells for line in ("".join(cell)).splitlines()]
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def taken(changed: Iterable[DefaultChange], source: str) -> tuple[DefaultChange, ...]:
    """Those of `changed` whose class `source` calls, in at least one call without the field.

    Raises:
        SyntaxError: `source` is not Python.
    """
    calls: dict[str, list[set[str]]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            calls.setdefault(name, []).append({word.arg for word in node.keywords if word.arg})
    return tuple(
        item
        for item in changed
        if item.field
        and item.after is not None
        and any(item.field not in given for given in calls.get(item.config, ()))
    )
