"""The values of the opinion layer: opinions of checks, listed deviations, and verdicts of the judge."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """The result of one check on one subject."""

    PASS = "pass"
    FAIL = "fail"
    BLOCKED = "blocked"
    """A required check failed or was blocked, so this check could only repeat that failure."""
    NOT_APPLICABLE = "n/a"


class Outcome(StrEnum):
    """What the judge concludes for one cell."""

    PASS = "pass"
    XFAIL = "xfail"
    """Exactly the listed deviation, and nothing else."""
    FAIL = "fail"
    INFRASTRUCTURE = "infrastructure"
    """The machine failed, or there is nothing to judge; nothing is known about the versions. Never green, never a
    regression.
    """
    UNINSTALLABLE = "uninstallable"
    """The stack could not be resolved or installed."""


class Symptom(StrEnum):
    """What the user of the flow sees: the change of eval loss, or an error."""

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
    """A visible sign that a flow does not learn. It does not name a cause."""

    EVAL_FLAT = "eval loss flat to six decimals"
    EVAL_BARELY = "eval loss barely moves"
    EVAL_RISES = "eval loss rises"
    WIGGLES = "train loss wiggles without learning"
    ACCURACY_FLAT = "accuracy flat to six decimals"


@dataclass(frozen=True, slots=True)
class Opinion:
    """The opinion of one check on one subject."""

    code: str
    title: str
    result: Result
    message: str
    """For `fail`: what is wrong. For `blocked`: the blocking codes. For `n/a`: the reason. Empty for `pass`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """A listed deviation in one cell: the check that must fail, and the required evidence."""

    issue: str
    title: str
    link: str
    kind: str
    check: str
    frame: str | None = None
    """End of the path of the file whose line froze the parameters."""
    called_from: str | None = None
    """End of the path of the file that called that line."""
    error: str | None = None
    """Substring of the error's `Type: message`."""
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
    """Whether the trainer refused the flow with a valid reason, which counts as healthy."""

    signs: tuple[Sign, ...] = ()
    """What the user sees, if eval loss does not fall as it should."""
    shown: tuple[str, ...] = ()
    """The `issues` whose listed check failed with the listed evidence. The others were not reached."""
    untrained: bool = False
    """Whether an error other than a refusal ended the cell before training, so nothing is known about its training."""

    @property
    def failing(self) -> tuple[str, ...]:
        """Codes of the failing checks. These are root causes: checks that only repeat them are blocked."""
        return tuple(opinion.code for opinion in self.opinions if opinion.result is Result.FAIL)
