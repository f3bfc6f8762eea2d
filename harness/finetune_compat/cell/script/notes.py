"""Sentences that a watched run reports in addition to its measurements."""

from __future__ import annotations


class Notes:
    """Two lists of distinct sentences: what ran differently from the script, and what was not measured."""

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._unseen: dict[str, None] = {}

    def change(self, sentence: str) -> None:
        """Add a sentence about something that ran differently from the script."""
        self._changed[sentence] = None

    def miss(self, sentence: str) -> None:
        """Add a sentence about something that was not measured."""
        self._unseen[sentence] = None

    @property
    def changed(self) -> tuple[str, ...]:
        """The sentences of `change`, in the order in which they were added."""
        return tuple(self._changed)

    @property
    def unseen(self) -> tuple[str, ...]:
        """The sentences of `miss`, in the order in which they were added."""
        return tuple(self._unseen)
