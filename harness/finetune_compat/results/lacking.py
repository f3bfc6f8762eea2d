"""Which fields of today's records a stored observation does not have, because an older harness wrote it.

`to_json` writes every field. So a field that is not in the JSON of a record was unknown to the harness that wrote it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Any

from finetune_compat.contract.records import Observation

_NOT_MEASURED = frozenset({"Observation.lacks"})
"""Fields that say nothing about a cell, and are left out of its JSON."""


def lacking(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the missing fields of an observation, given as parsed JSON, sorted: `Class.field`."""
    found: set[str] = set()
    _walk(Observation, raw, found)
    return tuple(sorted(found - _NOT_MEASURED))


def _walk(kind: type, raw: Mapping[str, Any], found: set[str]) -> None:
    names, inner = _fields(kind)
    if not raw.keys() >= names:
        found.update(f"{kind.__name__}.{name}" for name in names - raw.keys())
    for name, hint in inner:
        for of, value in _records(hint, raw.get(name)):
            _walk(of, value, found)


@cache
def _fields(kind: type) -> tuple[frozenset[str], tuple[tuple[str, Any], ...]]:
    """Names of all fields of a record class; and of those that hold further records, with their types."""
    hints = {name: hint for name, hint in typing.get_type_hints(kind).items() if _holds_records(hint)}
    return frozenset(field.name for field in dataclasses.fields(kind)), tuple(hints.items())


def _holds_records(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) or any(map(_holds_records, typing.get_args(hint)))


def _records(hint: Any, value: Any) -> Iterator[tuple[type, Mapping[str, Any]]]:
    """The records in `value`, which has the type `hint`: one, a sequence or a mapping of them, or None."""
    if value is None:
        return
    if dataclasses.is_dataclass(hint):
        yield typing.cast("type", hint), value
    elif typing.get_origin(hint) in (typing.Union, UnionType):
        yield from _records(next(filter(_holds_records, typing.get_args(hint))), value)
    else:
        of = next(filter(_holds_records, typing.get_args(hint)))
        for item in value.values() if isinstance(value, dict) else value:
            yield from _records(of, item)
