"""The answer as JSON, and its schema: `gate.schema.json` in this directory, written by `compat schema`.

The JSON holds the whole value with its observations. Floats that JSON cannot represent are the strings `NaN`,
`Infinity` and `-Infinity`, as in observations.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from finetune_compat.contract.records import standard
from finetune_compat.gate.decision import Gate
from finetune_compat.machine.files import write_atomically

SCHEMA = Path(__file__).parent / "gate.schema.json"

VERSION: Literal[1] = 1
"""Incremented when a field changes its meaning or is removed."""


@dataclass(frozen=True, slots=True)
class Document:
    """The written document: a version and the answer."""

    schema_version: Literal[1]
    gate: Gate


_DOCUMENT = TypeAdapter(Document)


class _Schema(GenerateJsonSchema):
    """Schema generator for values converted by `standard`."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def render(gate: Gate) -> str:
    """The answer, as one JSON object."""
    # In one line: with indentation Python encodes in Python, which takes as long as the rest of a gate that is cached.
    return json.dumps(_jsonable(gate), allow_nan=False) + "\n"


def parse(text: str) -> Gate:
    """The answer in `text`, which `render` made.

    Raises:
        ValidationError: it is not an answer of this version.
    """
    return _DOCUMENT.validate_json(text).gate


def _jsonable(gate: Gate) -> Any:
    return standard(_DOCUMENT.dump_python(Document(VERSION, gate), mode="json"))


def schema() -> str:
    """The JSON Schema (draft 2020-12) of every answer."""
    made = _DOCUMENT.json_schema(mode="serialization", schema_generator=_Schema)
    return json.dumps({"$schema": _Schema.schema_dialect, **made}, indent=1, sort_keys=True) + "\n"


def write_schema(path: Path = SCHEMA) -> Path:
    """Write the schema to `path` and return the path."""
    write_atomically(path, schema())
    return path
