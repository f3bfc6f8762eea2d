"""The prompts that a script tokenizes alone, for example to know how many labels to mask."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

Ids = tuple[int, ...]

_MOST = 5000

_READERS = ("__call__", "encode", "apply_chat_template")


class Prompts:
    """The tokens of every text that the script, and no library, has a tokenizer read alone."""

    def __init__(self) -> None:
        self.read: set[Ids] = set()

    def follow(self, module: ModuleType) -> None:
        """Note what tokenizers read, from now on. `module` defines their base class."""
        base = module.PreTrainedTokenizerBase
        for name in _READERS:
            if name in vars(base):
                setattr(base, name, self._reading(vars(base)[name]))

    def _reading(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def read(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if len(self.read) < _MOST and "site-packages" not in sys._getframe(1).f_code.co_filename:
                with suppress(Exception):  # results of other forms are no prompts
                    self.read.add(_alone(result))
            return result

        return read


def _alone(result: Any) -> Ids:
    """The tokens of the only text of a tokenizer's result.

    Raises:
        TypeError, ValueError: it has several texts, or no tokens.
    """
    found = result["input_ids"] if hasattr(result, "keys") else result
    ids = found.tolist() if hasattr(found, "tolist") else found
    if ids and isinstance(ids[0], list):
        (ids,) = ids
    return tuple(map(int, ids))
