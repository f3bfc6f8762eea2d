"""Reads JSON files that this project wrote, into values. One error says what is wrong with a file and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from finetune_compat.contract.errors import Fault, RecordsError, why
from finetune_compat.machine.places import places

_T = TypeVar("_T")

_NO_JSON = "json_invalid"
"""pydantic's name for an error of the parser."""


def read_record(adapter: TypeAdapter[_T], path: Path, *, name: str, todo: str) -> _T:
    """The value in the JSON file `path`.

    Args:
        adapter: reads the type of the value.
        path: the file.
        name: what it must be, with its article, for example "a sweep over seeds".
        todo: what a user can do if it is not.

    Raises:
        RecordsError: the file is missing or cannot be read, is not JSON, or has another shape; with the first fault.
    """
    try:
        return adapter.validate_json(path.read_bytes())
    except FileNotFoundError:
        problem, meaning = "there is no such file", "It was not made yet, was moved, or its directory is another one."
    except OSError as error:
        problem, meaning = why(error), "The file cannot be read on this machine."
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        problem = str(Fault(_place(first["loc"]), first["msg"]))
        meaning = "The file was edited, or written by another version of finetune-compat."
        if first["type"] == _NO_JSON:
            meaning = "The file was edited or cut off, or a merge failed."
    raise RecordsError(f"not {name}: {problem}", where=places().shown(path), meaning=meaning, todo=todo)


def _place(loc: tuple[int | str, ...]) -> str:
    """A place in a file, for example `stacks[2].peft`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
