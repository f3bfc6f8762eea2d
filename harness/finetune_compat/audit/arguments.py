"""The arguments of a call in a script."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_compat.audit.values import Place, Value


@dataclass(frozen=True)
class Given:
    """The arguments of a call."""

    positional: list[Value]
    named: dict[str, Value]
    place: Place
    open: bool = False
    """Whether there may be further ones."""

    def get(self, place: int | None, name: str) -> Value | None:
        """The argument by its position or name; None if it is not given."""
        if name in self.named:
            return self.named[name]
        return self.positional[place] if place is not None and place < len(self.positional) else None
