"""The answer of `compat bisect` as one frozen value, for the terminal, JSON and the text of an upstream issue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finetune_compat.bisect.lines import Changed


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    """One release that was run, or whose result was stored."""

    version: str
    bad: bool | None
    """None if it was skipped."""
    shown: str
    """The observation; for a skipped release why it gives none."""
    ran: bool
    """Whether it was run now."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Two neighbouring releases with different results."""

    before: ReleaseResult
    after: ReleaseResult
    skipped: tuple[str, ...]
    """Releases between them that gave no result."""
    unseen: tuple[str, ...]
    """Releases between them that were not run, because the bound was used up."""
    moved: tuple[str, ...]
    """Other packages whose versions differ (example: `peft 0.17.0 -> 0.17.1`)."""
    runs: int
    """Runs between the neighbouring results of the sample, for this and the other edges between them."""
    lines: tuple[Changed, ...] = ()
    """Functions that differ, on the freeze chain or the error's stack of the bad release."""


@dataclass(frozen=True, slots=True)
class BisectAnswer:
    """Everything that `compat bisect` found."""

    package: str
    subject: str
    condition: str
    command: str
    releases: int
    bound: int
    """The most runs of one edge beyond the sample."""
    edges: tuple[Edge, ...]
    stretches: tuple[tuple[str, str, bool | None, str], ...]
    """First and last release, whether they are bad, and what the first shows."""
    results: tuple[ReleaseResult, ...]
    not_looked_at: tuple[str, ...]
    older: str
    """The releases that were left out as too old; empty if none were."""
    runs: int
    sample_runs: int
    stored: int
    seconds: float
    versions: Mapping[str, Mapping[str, str]]
    """Locked versions of the reported packages, by release."""
    run: str
    """The directory of the run."""

    @property
    def first_bad(self) -> Edge | None:
        """The newest edge at which a good release is followed by a bad one."""
        return next((edge for edge in reversed(self.edges) if not edge.before.bad and edge.after.bad), None)
