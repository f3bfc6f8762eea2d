"""Match regular expressions of an adapter's configuration, which a stranger wrote, within a limit of time."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable
from typing import NoReturn

from finetune_compat.contract.errors import AdapterError

LIMIT_S = 2.0
"""CPU seconds that one match may take. A pattern of PEFT's documentation takes microseconds."""


def full(pattern: str, text: str) -> re.Match[str] | None:
    """`re.fullmatch`, within the limit.

    Raises:
        AdapterError: it takes too long.
    """
    return _limited(re.fullmatch, pattern, text)


def begin(pattern: str, text: str) -> re.Match[str] | None:
    """`re.match`, within the limit.

    Raises:
        AdapterError: it takes too long.
    """
    return _limited(re.match, pattern, text)


def _limited(how: Callable[[str, str], re.Match[str] | None], pattern: str, text: str) -> re.Match[str] | None:
    if threading.current_thread() is not threading.main_thread():
        return how(pattern, text)  # signals reach the main thread only

    def too_long(_number: int, _frame: object) -> NoReturn:
        raise AdapterError(
            f"the pattern {pattern!r} takes longer than {LIMIT_S:g} s to match the name of a module",
            where="adapter_config.json",
            meaning="It can match in very many ways, such as (a|a)+. PEFT would hang on it too.",
            todo="Write the pattern so that each part of it matches in one way, or list the modules.",
        )

    # The module `re` looks for signals while it matches.
    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
    try:
        return how(pattern, text)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
