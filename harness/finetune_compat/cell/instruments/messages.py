"""Collect warnings and log records of level WARNING and above, each with its stage."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from finetune_compat.cell.instruments.frames import without_place
from finetune_compat.contract.records import Message, Stage
from finetune_compat.contract.redaction import redact_here

_LIBRARIES = ("transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes")

LONGEST = 400
"""Characters of a message that are recorded: enough to recognise it, few enough for thousands of cells."""


class _Collector(logging.Handler):
    def __init__(self, note: Callable[[str, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)  # a malformed logging call of a library, as in transformers 4.46
        self._note(f"log:{record.name.partition('.')[0]}", text)


class MessageLog:
    """Counts messages by stage, category and text."""

    def __init__(self, stage: Callable[[], Stage]) -> None:
        self._stage = stage
        self._seen: Counter[tuple[Stage, str, str]] = Counter()

    def note(self, category: str, text: str) -> None:
        """Count one message at the current stage."""
        self._seen[self._stage(), category, redact_here(without_place(text.strip()))[:LONGEST]] += 1

    def messages(self) -> tuple[Message, ...]:
        """All messages, in the order of their first occurrence."""
        return tuple(Message(stage, category, text, count) for (stage, category, text), count in self._seen.items())


@contextmanager
def collected(stage: Callable[[], Stage]) -> Iterator[MessageLog]:
    """While open, collect messages; `stage` returns the current stage of the flow."""
    log = MessageLog(stage)
    handler = _Collector(log.note)

    def show(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        log.note(category.__name__, str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        # The root logger receives every record, except those of libraries whose loggers do not propagate.
        silent = [logger for logger in map(logging.getLogger, _LIBRARIES) if not logger.propagate]
        loggers = [logging.getLogger(), *silent]
        for logger in loggers:
            logger.addHandler(handler)
        try:
            yield log
        finally:
            for logger in loggers:
                logger.removeHandler(handler)
