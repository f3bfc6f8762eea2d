"""The rows of an evaluation set that are rows of the training set too, and whether they are there by mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
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


def compared(trainer: Any) -> Shared:
    """Compare the evaluation set of `trainer`, or the first of several, with its training set. Nothing is compared
    without a trainer.
    """
    training, evaluation = tokens_of(getattr(trainer, "train_dataset", None)), tokens_of(_evaluation_set(trainer))
    if not training or not evaluation:
        return Shared()
    trained = set(training)
    copies = copies_of(training, evaluation)
    if len(trained) < _DIFFERENT * len(training) and not copies:
        return Shared()
    return Shared(len(evaluation), sum(row in trained for row in evaluation), copies)


def _evaluation_set(trainer: Any) -> Any:
    held_out = getattr(trainer, "eval_dataset", None)
    return next(iter(held_out.values()), None) if isinstance(held_out, dict) else held_out


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


def is_tail(given: Mapping[str, Any]) -> bool:
    """Whether the evaluation set among a trainer's arguments was cut from the end of its training set, which still has
    these rows. A set of training rows that is to be watched is taken from the beginning, or at random.
    """
    training: Any = given.get("train_dataset")
    evaluation: Any = given.get("eval_dataset")
    if not (_is_table(training) and _is_table(evaluation)):
        return False
    rows, cut = len(training), len(evaluation)
    if not 0 < 2 * cut < rows:
        return False
    with suppress(AttributeError):  # a private attribute: the digest of how a data set was made
        last = range(rows - cut, rows)
        tails = (training.select(last), training.select(list(last)))
        return any(tail._fingerprint == evaluation._fingerprint for tail in tails)
    return False


def _is_table(rows: Any) -> bool:
    """Whether `rows` is a data set of the library datasets that is not a stream."""
    return type(rows).__module__.startswith("datasets.") and hasattr(rows, "select") and hasattr(rows, "__len__")


def tokens_of(rows: Any) -> list[Hashable]:
    """The tokens of the first rows of a data set of the library datasets. Reading others may change what is trained."""
    if not _is_table(rows) or "input_ids" not in (rows.column_names or ()) or rows.format["type"] == "custom":
        return []
    few = rows.select_columns("input_ids").with_format(None)
    return [tuple(row) for row in few[:_MOST_ROWS]["input_ids"]]
