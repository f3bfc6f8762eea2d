"""Parse JSON from untrusted files, with a nesting limit that keeps recursive code within the recursion limit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

DEEPEST = 100
"""Maximum number of nested lists and objects; files of PEFT and Transformers have about five."""


def parsed(data: bytes, **options: Any) -> Any:
    """Parse JSON in UTF-8. `options` are those of `json.loads`.

    Raises:
        ValueError: the data is not JSON, or is nested more than `DEEPEST` levels deep. The message is a predicate of
            the file, for example "is not JSON: ...".
    """
    try:
        found = json.loads(data.decode("utf-8"), **options)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if _deeper_than(DEEPEST, found):
        raise ValueError(_TOO_DEEP)
    return found


_TOO_DEEP = f"is nested more than {DEEPEST} levels deep"


def _deeper_than(levels: int, value: Any) -> bool:
    inside = _with_items([value])
    for _ in range(levels):
        inside = _with_items(item for each in inside for item in (each.values() if isinstance(each, dict) else each))
    return bool(inside)


def _with_items(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]
