"""Which recorded fields a check reads: found by running it on an observation that reports every read.

Nobody keeps a list of fields by check. A check that read a field which the observation does not have judged the field's
default value, and not a measurement: what it says then is no pass (`unrecorded`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from finetune_compat.checks.case import NOT_RECORDED, Case
from finetune_compat.checks.cell_checks import ENGINE
from finetune_compat.checks.engine import NotApplicable
from finetune_compat.contract.records import Observation
from finetune_compat.contract.verdict import Opinion, Result


def unrecorded(opinions: Sequence[Opinion], case: Case) -> tuple[Opinion, ...]:
    """`opinions` on an observation, where a pass that rests on a field which the observation lacks is not applicable.

    A failure stays a failure: it rests on something that was recorded.
    """
    if not case.seen.lacks:
        return tuple(opinions)
    with reading(case.seen, case.seen.lacks) as (seen, read):
        return tuple(_without_pass(opinion, Case(seen, case.flow), read) for opinion in opinions)


def _without_pass(opinion: Opinion, case: Case, read: list[str]) -> Opinion:
    if opinion.result is not Result.PASS:
        return opinion
    missing = fields_of(opinion.code, case, read)
    if not missing:
        return opinion
    message = f"{NOT_RECORDED}{', '.join(sorted(missing))}"
    return dataclasses.replace(opinion, result=Result.NOT_APPLICABLE, message=message)


def fields_of(code: str, case: Case, read: list[str]) -> frozenset[str]:
    """The fields that the check called `code` reads.

    Args:
        code: code of a check of cells.
        case: a case that no check has seen yet, on the observation of `reading`.
        read: the list of `reading`.
    """
    read.clear()
    with contextlib.suppress(NotApplicable):
        ENGINE.function(code)(case)
    return frozenset(read)


@contextlib.contextmanager
def reading(seen: Observation, fields: Collection[str] | None = None) -> Iterator[tuple[Observation, list[str]]]:
    """A copy of `seen`, and a list to which the name of each of `fields` is added when it is read from the copy.

    Names are `Class.field`, such as `Training.loss`. Default: all fields of all records.
    """
    read: list[str] = []
    yield _copied(seen, None if fields is None else frozenset(fields), read.append), read


def _copied(value: Any, fields: frozenset[str] | None, note: Callable[[str], None]) -> Any:
    if isinstance(value, tuple):
        return tuple(_copied(item, fields, note) for item in value)
    if isinstance(value, Mapping):
        return {key: _copied(item, fields, note) for key, item in value.items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    kind = type(value)
    copy: Any = object.__new__(_noting(kind, fields))
    object.__setattr__(copy, "note", note)
    for field in dataclasses.fields(value):
        kind.__dict__[field.name].__set__(copy, _copied(getattr(value, field.name), fields, note))
    return copy


@cache
def _noting(kind: type, fields: frozenset[str] | None) -> type:
    """A subclass of a record class whose `fields` report each read. The records have slots, so a property of the
    subclass precedes the slot, and the slot of the record class still has the value.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    watched = [name for name in names if fields is None or f"{kind.__name__}.{name}" in fields]
    return type(kind.__name__, (kind,), {name: _property(kind, name) for name in watched})


def _property(kind: type, name: str) -> property:
    slot, full = kind.__dict__[name], f"{kind.__name__}.{name}"

    def read(record: Any) -> Any:
        record.note(full)
        return slot.__get__(record)

    return property(read)
