"""What a gate says, in one frozen value: facts, comparisons and the decision, for every renderer. No sentences but
`reason`.
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
    """The answer. Of several that hold at once the last is given."""

    ALLOW = "ALLOW"
    COULD_NOT_TELL = "COULD NOT TELL"
    """Nothing stands against the upgrade, and nothing allows it: the machine failed, or no training was reached."""
    HOLD = "HOLD"
    """A person must look before the upgrade."""
    BLOCK = "BLOCK"

    @property
    def exit_code(self) -> GateExit:
        """What `compat gate` ends with."""
        return GateExit[self.name]


class GateExit(IntEnum):
    """Exit codes of `compat gate`; other commands have those of `ExitCode`."""

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
    """Bare pins: the other packages are as they were on the last release day of the pins, or on the floor."""
    FILE = "file"
    """A file's versions; what it leaves open is as of the day it was resolved."""
    LIVE = "live environment"
    """What is installed in an interpreter, made again in an environment of its own; what it lacks is as of the day it
    was resolved.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two stacks."""

    asked: str
    """As it was typed."""
    stack: str
    """Name with its Python, such as `trl0.22-py311`: the `stack` of its cells."""
    rule: Rule
    as_of: date
    """The day of whatever the side does not pin itself."""
    versions: Mapping[str, str]
    """All that is locked, by canonical name, and torch."""
    not_followed: tuple[str, ...]
    """What the input, or a script, says and the gate does not follow, and what could not be seen; a sentence each."""
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
    """What can differ between two observations of a cell beside its verdict."""

    TRAINABLE = "trainable parameters"
    TOTAL = "all parameters"
    DTYPES = "dtypes"
    ADAPTER_DTYPES = "adapter dtypes"
    CHECKPOINTING = "gradient checkpointing"
    MODULES = "matched modules"
    LOSS = "loss before any update"


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact of a cell that is not what it was. Values as they are shown; `-` is a value that is not there."""

    aspect: Aspect
    stage: Stage | None
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """One cell on both sides."""

    name: str
    """Without a stack, such as `sft-peft-model[qwen2-nf4-gc]@cpu`."""
    flow: str
    change: Change
    effect: Decision
    """What the policy makes of this change, exceptions applied. Could not tell in place of ALLOW where the candidate
    trained no cell of the flow, and in place of all where no cell has a baseline.
    """
    exception: str | None
    """Reason of the exception that made it ALLOW; None where none applies."""
    before: CellSide | None
    after: CellSide | None
    differences: tuple[Difference, ...]
    drifts: tuple[drift.Change, ...]
    """What is computed differently before any update; empty where either side did not train."""
    again: str
    """The command that runs this cell again on both sides."""

    @property
    def sides(self) -> tuple[CellSide, ...]:
        """The sides that have it."""
        return tuple(side for side in (self.before, self.after) if side)

    @property
    def is_news(self) -> bool:
        """Whether a reader must be shown it."""
        return self.change is not Change.UNCHANGED or self.effect is not Decision.ALLOW


@dataclass(frozen=True, slots=True)
class Tried:
    """A release that was run to see whether it is a safe target."""

    version: str
    passes: bool
    reason: str
    """Why it does not pass; empty where it does."""
    beside: str = ""
    """What else of a file or an environment must move with it, where that pins what does not go with it."""


@dataclass(frozen=True, slots=True)
class SafeTarget:
    """The search for a release on which regressed cells pass."""

    package: str
    version: str | None
    """None: none of those tried passes."""
    above: bool
    """Whether it is newer than the release that was asked about."""
    tried: tuple[Tried, ...]
    """In the order they ran."""
    untried: int
    """Releases the bound left out."""
    listed: tuple[str, ...] = ()
    """Releases that were not run, as the ledger lists a deviation of these cells for them."""

    @property
    def beside(self) -> str:
        """What else must move with the one that was found."""
        return next((tried.beside for tried in self.tried if tried.passes and tried.version == self.version), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Cells that changed in one way for one reason."""

    change: Change
    effect: Decision
    """The worst of its cells'."""
    cells: tuple[str, ...]
    """Names, as in `CellChange.name`."""
    flows: tuple[str, ...]
    group: Group | None
    """What was seen where the cells deviate: the candidate, or for a fix the baseline. None where nothing deviates."""
    reason: str
    """The judge's sentence on the first cell, or what differs in it."""
    target: SafeTarget | None
    """None where no safe target was looked for."""


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
    """A package that is not what it was; None where a side does not have it."""

    package: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class DefaultChange:
    """A field of a configuration class that was added, removed, or has another default."""

    config: str
    """The class, such as `SFTConfig`."""
    field: str
    before: str | None
    """As Python writes it; None where there is no such field."""
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
    """It does not apply any more."""
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
    """Everything but what is unchanged, the most urgent first."""
    flows: tuple[FlowChange, ...]
    moved: tuple[Moved, ...]
    """The packages users name first, then the others by name."""
    defaults: tuple[DefaultChange, ...]
    defaults_unknown: str
    """Why the defaults could not be compared; empty where they were."""
    exceptions: tuple[AppliedException, ...]
    left_out: tuple[str, ...]
    """Flows or cells that were not asked for, by name; empty for a whole gate."""
    command: str
    """The command that gives this answer again."""
    run: Path
    """Where the observations of both sides are."""
    harness_version: str
    script: str = ""
    """The user's own that was run; empty where cells of the catalog were."""

    def cell(self, name: str) -> CellChange:
        """The cell called `name`.

        Raises:
            KeyError: there is no such cell.
        """
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise KeyError(name)
