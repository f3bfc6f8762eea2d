"""The answer of a gate as one frozen value: facts, comparisons and the decision, for every renderer.

`reason` is the only sentence in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import IntEnum, StrEnum
from pathlib import Path

from finetune_compat.checks import drift
from finetune_compat.checks.comparison import Change
from finetune_compat.contract.records import Observation, Stage
from finetune_compat.contract.verdict import Verdict
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import CellLine
from finetune_compat.results.run_files import RowState


class Decision(StrEnum):
    """The answer. Where several apply, the last of them is the answer."""

    ALLOW = "ALLOW"
    COULD_NOT_TELL = "COULD NOT TELL"
    """No evidence for or against the upgrade: the machine failed, or no cell reached training."""
    HOLD = "HOLD"
    """A person must review the upgrade."""
    BLOCK = "BLOCK"

    @property
    def exit_code(self) -> GateExit:
        """The exit code of `compat gate`."""
        return GateExit[self.name]


class GateExit(IntEnum):
    """Exit codes of `compat gate`; other commands use `ExitCode`."""

    ALLOW = 0
    HOLD = 1
    BLOCK = 2
    COULD_NOT_TELL = 3
    BAD_INPUT = 4


class Rule(StrEnum):
    """Where the versions of a side come from."""

    ROW = "matrix row"
    """A row of `matrices/stacks.toml`, with its committed lock."""
    OF_ITS_DAY = "of its day"
    """Bare pins: the other packages as of the pins' latest release day, or of the matrix's floor if later."""
    FILE = "file"
    """A file's versions; packages it does not pin are as of the day of resolution."""
    LIVE = "live environment"
    """An interpreter's installed versions, in a new environment; missing packages as of the day of resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two stacks."""

    asked: str
    """As it was typed."""
    stack: str
    """Name with its Python, for example `trl0.22-py311`: the `stack` of its cells."""
    rule: Rule
    as_of: date
    """The day as of which packages that the side does not pin are resolved."""
    versions: Mapping[str, str]
    """All locked versions by canonical package name, and that of torch."""
    not_followed: tuple[str, ...]
    """What the gate does not follow of the input or the script, and what it could not see; one sentence each."""
    lock_sha256: str
    """Empty where the resolver found no solution."""
    state: RowState
    reason: str
    """Why there are no cells; empty where they ran."""


@dataclass(frozen=True, slots=True)
class CellSide:
    """One cell on one side."""

    verdict: Verdict
    line: CellLine
    seen: Observation | None
    """None where the cell left no observation."""


class Aspect(StrEnum):
    """A fact, other than the verdict, that can differ between two observations of a cell."""

    TRAINABLE = "trainable parameters"
    TOTAL = "all parameters"
    DTYPES = "dtypes"
    ADAPTER_DTYPES = "adapter dtypes"
    CHECKPOINTING = "gradient checkpointing"
    MODULES = "matched modules"
    LOSS = "loss before any update"


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact of a cell that differs between the sides. Values are formatted; `-` is a missing value."""

    aspect: Aspect
    stage: Stage | None
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """One cell on both sides."""

    name: str
    """Without a stack, for example `sft-peft-model[qwen2-nf4-gc]@cpu`."""
    flow: str
    change: Change
    effect: Decision
    """The policy's decision on this change, with exceptions applied.

    COULD NOT TELL replaces ALLOW where the candidate trained no cell of the flow. It replaces every decision where no
    cell has a baseline.
    """
    exception: str | None
    """Reason of the exception that made the effect ALLOW; None where no exception applies."""
    before: CellSide | None
    after: CellSide | None
    differences: tuple[Difference, ...]
    drifts: tuple[drift.Change, ...]
    """Differences in computation before any update; empty where either side did not train."""
    again: str
    """The command that runs this cell again on both sides."""

    @property
    def sides(self) -> tuple[CellSide, ...]:
        """The sides that have the cell."""
        return tuple(side for side in (self.before, self.after) if side)

    @property
    def is_news(self) -> bool:
        """Whether reports must show the cell: it changed, or its effect is not ALLOW."""
        return self.change is not Change.UNCHANGED or self.effect is not Decision.ALLOW


@dataclass(frozen=True, slots=True)
class Tried:
    """A release that was run to see whether it is a safe target."""

    version: str
    passes: bool
    reason: str
    """Why the release does not pass; empty where it passes."""
    beside: str = ""
    """Other packages whose pins of a file or an environment must change with this release; empty if there are none."""


@dataclass(frozen=True, slots=True)
class SafeTarget:
    """The search for a release on which regressed cells pass."""

    package: str
    version: str | None
    """None if no release that was tried passes."""
    above: bool
    """Whether `version` is newer than the requested release."""
    tried: tuple[Tried, ...]
    """In the order they ran."""
    untried: int
    """Number of releases that were not run, if none passes."""
    between: str | None = None
    """The newest release between the two sides that was run and passes; None if there is none."""
    foretold: bool = False
    """Whether only releases of the baselines were looked at, and those that were run for another cause."""

    @property
    def beside(self) -> str:
        """Other packages that must change together with `version`."""
        return next((tried.beside for tried in self.tried if tried.passes and tried.version == self.version), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Cells with the same change for the same reason."""

    change: Change
    effect: Decision
    """The worst of its cells'."""
    cells: tuple[str, ...]
    """Names, as in `CellChange.name`."""
    flows: tuple[str, ...]
    group: Group | None
    """Facts of the side that deviates: the candidate, or the baseline of a fix. None where neither side deviates."""
    reason: str
    """The judge's reason for the first cell, or the differences in it."""
    target: SafeTarget | None
    """None where there was no search for a safe target."""


@dataclass(frozen=True, slots=True)
class FlowChange:
    """All cells of one flow."""

    flow: str
    story: str
    changes: Mapping[Change, int]
    """Number of cells by change, without zeros."""
    effect: Decision
    """The worst of its cells'."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A package whose version differs between the sides; None where a side does not have it."""

    package: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class DefaultChange:
    """A field of a configuration class that was added, removed, or has another default."""

    config: str
    """The class, for example `SFTConfig`."""
    field: str
    before: str | None
    """The default's repr; None where there is no such field."""
    after: str | None


@dataclass(frozen=True, slots=True)
class AppliedException:
    """An exception of the policy, and what it did in this gate."""

    flow: str | None
    issue: str | None
    change: Change | None
    reason: str
    expires: date
    expired: bool
    """Whether the exception no longer applies."""
    cells: tuple[str, ...]
    """Names of the cells it covers, or covered before it expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The whole answer."""

    decision: Decision
    reason: str
    """One sentence."""
    before: Side
    after: Side
    cells: tuple[CellChange, ...]
    """In catalog order."""
    causes: tuple[Cause, ...]
    """All cells that changed or are not allowed, grouped by cause, the most urgent first."""
    flows: tuple[FlowChange, ...]
    moved: tuple[Moved, ...]
    """The packages of `REPORTED` first, then the others by name."""
    defaults: tuple[DefaultChange, ...]
    defaults_unknown: str
    """Why the defaults could not be compared; empty where they were."""
    exceptions: tuple[AppliedException, ...]
    left_out: tuple[str, ...]
    """Names of the flows or cells that the call does not select; empty if it selects all."""
    command: str
    """The command that gives this answer again."""
    run: Path
    """Where the observations of both sides are."""
    harness_version: str
    script: str = ""
    """The user's script that was run; empty where cells of the catalog were run."""
    taken: tuple[DefaultChange, ...] = ()
    """Those of `defaults` that the user's script takes as they come: of classes that it makes without these fields."""
    foretold_by: str = ""
    """The baseline that gave the answer, if nothing was run; empty where the cells ran."""

    def cell(self, name: str) -> CellChange:
        """The cell called `name`.

        Raises:
            KeyError: there is no such cell.
        """
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise KeyError(name)
