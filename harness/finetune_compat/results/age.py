"""What is different today from what a baseline was measured with, as a value. `store.age` calculates it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """What a baseline depends on."""

    SOURCES = "sources"
    LOCKS = "locks"
    CHECKS = "checks"


@dataclass(frozen=True, slots=True)
class Age:
    """What is different today from what a baseline was measured with."""

    flows: tuple[str, ...]
    """Flows whose sources or catalog values changed, in catalog order; flows that are gone come last."""
    every_flow: bool
    """Whether these are all flows of the baseline."""
    locks: tuple[str, ...]
    """Stacks whose lock changed, or that have no lock any more."""
    checks: tuple[str, ...]
    """Codes of the checks that changed, or are new."""
    unknown: tuple[Part, ...]
    """Parts of which the baseline has no digests."""
