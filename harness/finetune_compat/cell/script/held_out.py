"""The rows of an evaluation set that are rows of the training set too, and whether they are there by mistake."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_MOST_ROWS = 5000
"""Most rows of a data set that are compared with another one."""

_DIFFERENT = 0.75
"""Least share of training rows that differ. Where few rows are possible, held-out rows are among them by chance."""

_COPIES, _ROWS, _SHARE = 3, 8, 0.9
"""Copying shows where at least `_ROWS` rows, and this share of the repeated ones, have the same number of copies, which
is at least `_COPIES`. Of rows drawn with replacement, a third at most do.
"""


@dataclass(frozen=True, slots=True)
class Shared:
    """The fields of `Seen` about held-out rows."""

    rows: int = 0
    trained: int = 0
    copies: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """An evaluation set that was cut from the training set, which still has its rows."""

    part: str = ""
    """As `Seen.held_out_part`."""
    name: str = ""
    """As `Seen.held_out_name`."""


def compared(trainer: Any) -> Shared:
    """Compare the evaluation set of `trainer` with its training set; of several the one that is in it in part, if there
    is one. Nothing is compared without a trainer.
    """
    training = tokens_of(getattr(trainer, "train_dataset", None))
    sets = [rows for rows in map(tokens_of, _named_sets(getattr(trainer, "eval_dataset", None)).values()) if rows]
    found = [_compared(training, rows) for rows in sets] if training else []
    return max(found, key=lambda one: (one.trained < one.rows or one.copies > 0, one.trained), default=Shared())


def _compared(training: Sequence[Hashable], evaluation: Sequence[Hashable]) -> Shared:
    trained = set(training)
    copies = copies_of(training, evaluation)
    if len(trained) < _DIFFERENT * len(training) and not copies:
        return Shared()
    return Shared(len(evaluation), sum(row in trained for row in evaluation), copies)


def _named_sets(held_out: Any) -> Mapping[str, Any]:
    """The evaluation sets that a trainer is given, by name. A single one has no name."""
    return held_out if isinstance(held_out, dict) else {"": held_out}


def copies_of(training: Sequence[Hashable], evaluation: Sequence[Hashable]) -> int:
    """The number of times that repeated rows occur in both sets together, if other rows occur once: rows were copied
    before the split. 0 if nothing shows that.
    """
    if max(len(training), len(evaluation)) >= _MOST_ROWS:
        return 0  # rows may be left out
    rows = Counter(Counter((*training, *evaluation)).values())
    once = rows.pop(1, 0)
    copies, same = max(rows.items(), key=lambda item: item[1], default=(0, 0))
    shows = once and copies >= _COPIES and same >= _ROWS and same >= _SHARE * rows.total()
    return copies if shows else 0


_HELD_OUT = re.compile(r"(?i)held.?out|hold.?out|unseen|(?<!in)valid|(?<![a-z])(val|test|dev)(?![a-z])")
"""Names that say that no row is trained on. `eval` does not: rows that are trained on may be evaluated too."""


def cut_of(given: Mapping[str, Any], names_of: Callable[[Any], Sequence[str]]) -> Cut:
    """The evaluation set among a trainer's arguments that was cut from the training set and left in it; of several the
    first that is said to be held out.

    Args:
        given: the arguments of the trainer by name.
        names_of: the names that the script has for an object.
    """
    training = given.get("train_dataset")
    found = []
    for key, rows in _named_sets(given.get("eval_dataset")).items():
        if part := _part_of(training, rows):
            names = filter(_HELD_OUT.search, (str(key), *names_of(rows)))
            found.append(Cut(part, next(names, "")))
    return next((cut for cut in found if cut.name), next(iter(found), Cut()))


def _part_of(training: Any, evaluation: Any) -> str:
    """As `Seen.held_out_part`."""
    if not (_is_table(training) and _is_table(evaluation)):
        return ""
    rows, cut = len(training), len(evaluation)
    if not 0 < 2 * cut < rows:
        return ""
    with suppress(AttributeError):  # a private attribute: the digest of how a data set was made
        for part, places in (("end", range(rows - cut, rows)), ("beginning", range(cut))):
            parts = (training.select(places), training.select(list(places)))
            if any(one._fingerprint == evaluation._fingerprint for one in parts):
                return part
    return ""


def _is_table(rows: Any) -> bool:
    """Whether `rows` is a data set of the library datasets that is not a stream."""
    return type(rows).__module__.startswith("datasets.") and hasattr(rows, "select") and hasattr(rows, "__len__")


def tokens_of(rows: Any) -> list[Hashable]:
    """The tokens of the first rows of a data set of the library datasets. Reading others may change what is trained."""
    if not _is_table(rows) or "input_ids" not in (rows.column_names or ()) or rows.format["type"] == "custom":
        return []
    few = rows.select_columns("input_ids").with_format(None)
    return [tuple(row) for row in few[:_MOST_ROWS]["input_ids"]]
