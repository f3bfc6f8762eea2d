"""The marker up to which a script's own collator masks a row, such as `### Response:`, and that no row has.

The collator itself says so: a marker that is put into a row makes it mask everything before, and without one it masks
nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from finetune_compat.cell.script.own import is_own
from finetune_compat.cell.script.random_states import kept

_IGNORED = nn.CrossEntropyLoss().ignore_index
_MOST_TOKENS, _MOST_CHARACTERS, _MOST_MARKERS = 32, 200, 32
_FEWEST_TOKENS = 4
"""Tokens of a row in which a marker can have something before and after it."""


def missing(trainer: Any, tokenizer: Any) -> list[int]:
    """The tokens of the marker; empty if there is none.

    Args:
        trainer: a trainer none of whose training rows had a masked token.
        tokenizer: reads markers that the collator holds as text; None if there is none.
    """
    collator = getattr(trainer, "data_collator", None)
    row = _first_row(getattr(trainer, "train_dataset", None))
    if row is None or not _functions(collator):
        return []
    with kept(), suppress(Exception):  # a collator may refuse rows that are made up
        if _masks(collator, row, [], at=len(row["input_ids"]) // 2):
            return []
        return next(filter(lambda ids: _works(collator, row, ids), _candidates(collator, tokenizer)), [])
    return []


def _works(collator: Any, row: Mapping[str, list[int]], marker: list[int]) -> bool:
    with suppress(Exception):
        return _masks(collator, row, marker, at=len(row["input_ids"]) // 2)
    return False


def _masks(collator: Any, row: Mapping[str, list[int]], marker: list[int], *, at: int) -> bool:
    """Whether `collator` masks everything before place `at` of `row`, and not all behind it, with `marker` there."""
    filled = {name: [*values[:at], *values[at - 1 : at] * len(marker), *values[at:]] for name, values in row.items()}
    for name in {"input_ids", "labels"} & filled.keys():
        filled[name][at : at + len(marker)] = marker
    batch = collator([{name: list(values) for name, values in filled.items()} for _ in range(2)])
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    wanted = filled["input_ids"]
    begin = next(place for place in range(len(ids)) if ids[place : place + len(wanted)] == wanted)
    masked = [label == _IGNORED for label in labels[begin : begin + len(wanted)]]
    return all(masked[:at]) and not all(masked[at + len(marker) :])


def _first_row(rows: Any) -> dict[str, list[int]] | None:
    """The columns of the first row that have an entry for each token; None if there is none. Only a list and a data set
    of the library datasets are read: reading a row of a user's own class may change what is trained next.
    """
    table = type(rows).__module__.startswith("datasets.") and hasattr(rows, "__len__")
    if table and rows.format["type"] == "custom":  # a transformation may draw random numbers
        return None
    first = rows[0] if (table or isinstance(rows, list)) and len(rows) else None
    if not isinstance(first, Mapping) or "input_ids" not in first:
        return None
    columns = {name: torch.as_tensor(first[name]).tolist() for name in first if _is_numeric(first[name])}
    length = len(columns.get("input_ids", ()))
    return {name: c for name, c in columns.items() if len(c) == length} if length >= _FEWEST_TOKENS else None


def _is_numeric(value: Any) -> bool:
    return isinstance(value, torch.Tensor | list) and torch.as_tensor(value).dim() == 1


def _functions(collator: Any) -> list[Callable[..., Any]]:
    """The functions of the script that `collator` consists of; empty for a collator of a library."""
    if inspect.isroutine(collator):
        return [collator] if is_own(collator.__module__) else []
    own = [cls for cls in type(collator).__mro__ if is_own(cls.__module__)]
    return [value for cls in own for value in vars(cls).values() if inspect.isfunction(value)]


def _candidates(collator: Any, tokenizer: Any) -> Iterator[list[int]]:
    """The token sequences that `collator` holds: in its attributes, and in the variables that its functions name."""
    held = [*vars(collator).values()] if hasattr(collator, "__dict__") else []
    for cls in type(collator).__mro__:
        held += vars(cls).values() if is_own(cls.__module__) else ()
    for function in _functions(collator):
        variables = inspect.getclosurevars(function)
        held += [*variables.nonlocals.values(), *variables.globals.values()]
    found = [ids for value in held if (ids := _sequence(value, tokenizer))]
    yield from found[:_MOST_MARKERS]


def _sequence(value: Any, tokenizer: Any) -> list[int]:
    """`value` as tokens; empty if it cannot be a sequence of them."""
    if isinstance(value, str) and tokenizer is not None and 0 < len(value) <= _MOST_CHARACTERS:
        return list(tokenizer(value, add_special_tokens=False)["input_ids"])
    ids = value.tolist() if hasattr(value, "tolist") else value
    whole = isinstance(ids, list | tuple) and all(isinstance(one, int) and not isinstance(one, bool) for one in ids)
    return list(ids) if whole and 0 < len(ids) <= _MOST_TOKENS else []
