"""Search for the nearest safe target of each regression: run other releases in the run of the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from finetune_compat.checks.comparison import Change, Health, health
from finetune_compat.checks.script_checks import called_by_the_script
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError, RegistryUnreachable
from finetune_compat.contract.records import REPORTED, DeviceKind
from finetune_compat.contract.verdict import Verdict
from finetune_compat.gate.decide import Compared, moved
from finetune_compat.gate.decision import CellChange, CellSide, Rule, SafeTarget, Tried
from finetune_compat.gate.resolve import Resolved, of_release
from finetune_compat.gate.sides import GateSelection, Runs
from finetune_compat.gate.targets import Bench, Suspect, search, suspect
from finetune_compat.stacks import index
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.locks import Unsolvable
from finetune_compat.stacks.matrix import Matrix

_PINNED = (Rule.FILE, Rule.LIVE)
"""Rules of sides whose other versions come from the user."""


@dataclass(frozen=True, slots=True)
class Search:
    """Runs other releases in place of the requested one."""

    matrix: Matrix
    runner: Runs
    before: Resolved
    after: Resolved
    device: DeviceKind
    bound: int
    """Maximum number of releases to run for one cause."""

    def of(self, given: Compared, cells: Sequence[CellChange]) -> dict[str, SafeTarget]:
        """The nearest safe target by regressed cell. A cell is missing where the package to search is unknown."""
        by_cause: dict[tuple[object, ...], list[CellChange]] = {}
        for cell in cells:
            if cell.change is Change.REGRESSED and cell.exception is None and cell.after is not None:
                by_cause.setdefault(_cause(cell.after), []).append(cell)
        found: dict[str, SafeTarget] = {}
        for same in by_cause.values() if self.bound else ():
            target = self._of_cause(given, same)
            found.update({cell.name: target for cell in same} if target else {})
        return found

    def _of_cause(self, given: Compared, cells: Sequence[CellChange]) -> SafeTarget | None:
        package = self._suspect(given, cells)
        if package is None:
            return None
        try:
            there = index.releases(package.package)
        except CompatError as error:
            self.runner.progress(f"no search for a safe target: {error.what}")
            return None
        selection = GateSelection(cells=tuple(parse_cell(f"/{cell.name}").test for cell in cells))
        bench = Bench(
            passes=lambda release: self._try(package, release, selection),
            listed=lambda release: self._listed(given.after.versions, package, release, cells),
            bound=self.bound,
        )
        return search(package, there, bench)

    def _suspect(self, given: Compared, cells: Sequence[CellChange]) -> Suspect | None:
        after = cells[0].after
        line = after.line if after else None
        freezes = after.seen.freezes if after and after.seen else ()
        chains = (*line.freezes, *((line.error.frames,) if line.error else ())) if line else ()
        return suspect(
            moved(given.before.versions, given.after.versions),
            pinned=[pin.name for pin in self.after.pins],
            issues=line.issues if line else (),
            files=[frame.file for chain in chains for frame in chain[-1:]],
            ledger=given.ledger,
            froze=[file for freeze in freezes if (file := called_by_the_script(freeze))],
        )

    def _listed(
        self, versions: Mapping[str, str], package: Suspect, release: Release, cells: Sequence[CellChange]
    ) -> bool:
        """Whether the ledger lists an issue that these cells show for one of them on the release."""
        there = {**versions, package.package: str(release.version)}
        issues = {issue for cell in cells if cell.after for issue in cell.after.verdict.issues}
        variants = [(cell.flow, cell.after.seen.variant) for cell in cells if cell.after and cell.after.seen]
        return any(
            item.issue in issues and not item.unmeasured
            for flow, variant in variants
            for item in self.runner.ledger.listed(flow, variant, self.device, there)
        )

    def _try(self, package: Suspect, release: Release, selection: GateSelection) -> Tried | None:
        version = str(release.version)
        self.runner.progress(f"does {package.package} {version} pass?")
        try:
            of = self._with(package, release)
            self.runner.cells(of, selection)
        except RegistryUnreachable as error:
            self.runner.progress(f"{version}: {error.what}")
            return None
        except CompatError as error:
            return Tried(version, False, error.what)
        verdicts = [
            verdict
            for verdict in self.runner.results().verdicts
            if parse_cell(verdict.cell).stack == of.stack and _asked(verdict, selection)
        ]
        return _tried(version, verdicts, selection, self._beside(package, of))

    def _with(self, package: Suspect, release: Release) -> Resolved:
        """The requested side with another release.

        Where the side's pins conflict with the release, for example those of a lock file, the other packages are as of
        the day of the release.
        """
        asked = (package.package, release.version, release.day, self.matrix, self.device)
        of = of_release(self.after, *asked)
        if isinstance(of.lock, Unsolvable) and self.after.rule in _PINNED:
            return of_release(replace(self.after, rule=Rule.OF_ITS_DAY, pins=()), *asked)
        return of

    def _beside(self, package: Suspect, of: Resolved) -> str:
        """Other packages whose pins of a file or environment must change with the release; empty if there are none."""
        if self.after.rule not in _PINNED or of.rule is self.after.rule:
            return ""
        if isinstance(of.lock, Unsolvable) or isinstance(self.after.lock, Unsolvable):
            return ""
        there = moved(self.after.lock.requirements, of.lock.requirements)
        names = [item for item in there if item.package in REPORTED and item.package != package.package]
        return ", ".join(f"{item.package} {item.after}" for item in names if item.after)


def _cause(side: CellSide) -> tuple[object, ...]:
    return side.verdict.issues or side.verdict.failing


def _asked(verdict: Verdict, selection: GateSelection) -> bool:
    cell = parse_cell(verdict.cell)
    return not cell.flow or cell.test in selection.cells


def _tried(version: str, verdicts: Sequence[Verdict], selection: GateSelection, beside: str) -> Tried | None:
    """The result on a release, which passes if every selected cell is healthy; None where the machine failed."""
    if any(health(verdict) is Health.UNKNOWN for verdict in verdicts):
        return None
    wrong = next((verdict for verdict in verdicts if health(verdict) in (Health.DEVIATES, Health.ABSENT)), None)
    if wrong is not None:
        return Tried(version, False, wrong.reason)
    missing = len(selection.cells) - len({verdict.cell for verdict in verdicts})
    if missing:
        return Tried(version, False, f"{missing} cells do not exist on it")
    return Tried(version, True, "", beside)
