"""The values of the opinion layer: opinions of checks, listed deviations, and verdicts of the judge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from finetune_compat.contract.records import Area, Stage


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


class Kind(StrEnum):
    """The cause of a listed deviation. The most serious kind comes first."""

    UPSTREAM = "upstream"
    """A bug of some releases of a library, on every machine."""
    TRAP = "trap"
    """A mistake that is easy to make, and to which no release in the window objects."""
    PLATFORM = "platform"
    """A limit or a difference of this kind of machine."""


def worst(kinds: Iterable[Kind]) -> Kind | None:
    """The most serious of `kinds`; None if there are none."""
    return min(kinds, key=tuple(Kind).index, default=None)


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
    kind: Kind
    check: str
    froze: str | None = None
    """The call chain that froze the parameters: `file::function`, the caller first, joined by ` -> `."""
    error: str | None = None
    """Beginning of the error's `Type: message`."""
    raised: str | None = None
    """The call chain that raised the error, written like `froze`."""
    stage: Stage | None = None
    """The stage at which the error was raised."""
    symptom: Symptom | None = None
    area: Area | None = None
    """Area of the tensors that the check names: exactly the tensors of this area."""
    measured: float | None = None
    """The value that the check measures (`checks.measures`)."""
    apart: float | None = None
    """How far apart two gradients are of which neither is a multiple of the other (`checks.measures`)."""
    feature: str | None = None
    """Applies only on a device that reports this feature."""
    unmeasured: str = ""
    """Releases of the cell that are newer than every measured one, with the newest measured one; empty if none is."""


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
    kind: Kind | None = None
    """The most serious kind of `issues`; None if none applies."""
    unmeasured: str = ""
    """For a cell that fails like `issues`, on releases for which they are not measured: these releases."""

    @property
    def failing(self) -> tuple[str, ...]:
        """Codes of the failing checks. These are root causes: checks that only repeat them are blocked."""
        return tuple(opinion.code for opinion in self.opinions if opinion.result is Result.FAIL)
