"""The values of the opinion layer: what a check says, what a listed deviation must look like, what the judge
concludes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """What one check says of one observation."""

    PASS = "pass"
    FAIL = "fail"
    BLOCKED = "blocked"
    """A check it depends on failed: this one could only repeat that failure."""
    NOT_APPLICABLE = "n/a"


class Outcome(StrEnum):
    """What the judge concludes for one cell."""

    PASS = "pass"
    XFAIL = "xfail"
    """Exactly the listed deviation, and nothing else."""
    FAIL = "fail"
    INFRASTRUCTURE = "infrastructure"
    """The machine failed; nothing is known about the versions. Never green, never a regression."""
    UNINSTALLABLE = "uninstallable"
    """The stack could not be resolved or installed."""


class Symptom(StrEnum):
    """What the user of the flow would have seen, judged from eval loss before and after, or from the error."""

    FALLS = "falls"
    BARELY = "barely moves"
    FLAT = "flat"
    """Equal to six decimals: nothing was learned at all."""
    RISES = "rises"
    NOT_FINITE = "not finite"
    ERROR = "error"
    UNKNOWN = "unknown"
    """The flow ended without an error and without an eval loss."""


class Sign(StrEnum):
    """One thing that the user of a flow that does not learn can see, whatever its cause."""

    EVAL_FLAT = "eval loss flat to six decimals"
    EVAL_BARELY = "eval loss barely moves"
    EVAL_RISES = "eval loss rises"
    WIGGLES = "train loss wiggles without learning"
    ACCURACY_FLAT = "accuracy flat to six decimals"


@dataclass(frozen=True, slots=True)
class Opinion:
    """One check's word on one observation."""

    code: str
    title: str
    result: Result
    message: str
    """For `fail`: what is wrong. For `blocked`: by which codes. For `n/a`: why. Empty for `pass`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """A listed deviation as it must show itself in one cell: the check that fails, and the evidence beside it."""

    issue: str
    title: str
    link: str
    kind: str
    check: str
    frame: str | None = None
    """End of the path of the file whose line froze the parameters."""
    called_from: str | None = None
    """End of the path of the file that line was called from."""
    error: str | None = None
    """Part of the error's `Type: message`."""
    symptom: Symptom | None = None
    feature: str | None = None
    """Applies only on a device that reports this feature."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The conclusion on one cell."""

    cell: str
    outcome: Outcome
    reason: str
    """One sentence: why this outcome."""
    symptom: Symptom
    opinions: tuple[Opinion, ...] = ()
    issues: tuple[str, ...] = ()
    """Ids of the ledger entries that apply to the cell."""
    links: tuple[str, ...] = ()
    refused: bool = False
    """The library answered with an error that says what is wrong, and the flow's user is served by that."""

    signs: tuple[Sign, ...] = ()
    """How it looks to the user, where eval loss does not fall as it should."""
    shown: tuple[str, ...] = ()
    """Of `issues`, those whose listed check failed, with the listed evidence. The others were not reached."""
    untrained: bool = False
    """Whether an error that is no refusal ended it before training, so that nothing is known of how it trains."""

    @property
    def failing(self) -> tuple[str, ...]:
        """Codes of the failing checks: the roots, since what follows from them is blocked."""
        return tuple(opinion.code for opinion in self.opinions if opinion.result is Result.FAIL)
