"""What a watched run has to say beside its measurements, each sentence once."""

from __future__ import annotations


class Notes:
    """Two lists of sentences: what was done otherwise than the script says, and what could not be seen."""

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._unseen: dict[str, None] = {}

    def change(self, sentence: str) -> None:
        """Something was done otherwise than the script says."""
        self._changed[sentence] = None

    def miss(self, sentence: str) -> None:
        """Something could not be seen."""
        self._unseen[sentence] = None

    @property
    def changed(self) -> tuple[str, ...]:
        """In the order in which it came up."""
        return tuple(self._changed)

    @property
    def unseen(self) -> tuple[str, ...]:
        """Likewise."""
        return tuple(self._unseen)
