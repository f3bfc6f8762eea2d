"""The answer as JSON, and its schema: `gate.schema.json` in this directory, written by `compat schema`.

The JSON holds the whole value with its observations. Floats that JSON cannot represent are the strings `NaN`,
`Infinity` and `-Infinity`, as in observations.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from finetune_compat.gate.decision import Gate
from finetune_compat.machine.files import write_atomically

SCHEMA = Path(__file__).parent / "gate.schema.json"

VERSION: Literal[1] = 1
"""Incremented when a field changes its meaning or is removed."""


@dataclass(frozen=True, slots=True)
class Document:
    """The written document: a version and the answer."""

    __pydantic_config__: ClassVar = ConfigDict(ser_json_inf_nan="strings")
    """Of the values below it too."""

    schema_version: Literal[1]
    gate: Gate


_DOCUMENT = TypeAdapter(Document)


class _Schema(GenerateJsonSchema):
    """Schema generator for floats that may be strings."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def render(gate: Gate) -> str:
    """The answer, as one JSON object."""
    return _DOCUMENT.dump_json(Document(VERSION, gate)).decode() + "\n"


def parse(text: str) -> Gate:
    """The answer in `text`, which `render` made.

    Raises:
        ValidationError: it is not an answer of this version.
    """
    return _DOCUMENT.validate_json(text).gate


def schema() -> str:
    """The JSON Schema (draft 2020-12) of every answer."""
    made = _DOCUMENT.json_schema(mode="serialization", schema_generator=_Schema)
    return json.dumps({"$schema": _Schema.schema_dialect, **made}, indent=1, sort_keys=True) + "\n"


def write_schema(path: Path = SCHEMA) -> Path:
    """Write the schema to `path` and return the path."""
    write_atomically(path, schema())
    return path
