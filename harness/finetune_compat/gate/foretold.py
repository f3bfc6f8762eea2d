"""The answer of the committed baselines, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from packaging.version import Version

from finetune_compat.checks.comparison import Change, Health, health
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.gate.decide import Compared, compared_cells, decide, moved
from finetune_compat.gate.decision import Decision, Gate, SafeTarget, Tried
from finetune_compat.gate.defaults import Defaults
from finetune_compat.gate.known import NONE, Known
from finetune_compat.gate.sides import GateSelection
from finetune_compat.gate.targets import suspect
from finetune_compat.results.run_files import Results

NOTHING_RUN = "the answer is from a baseline that was measured elsewhere; nothing was run here"


def foretold(known: Known, places: tuple[int, int], given: Compared, selection: GateSelection) -> Gate:
    """The gate between two stacks of the baselines.

    ALLOW becomes COULD NOT TELL: the baselines order the work and may say BLOCK or HOLD, and never ALLOW.

    Args:
        known: the results of the baselines.
        places: the places of both sides in them.
        given: both sides, without results.
        selection: the cells that are compared.
    """
    stacks = (given.before.stack, given.after.stack)
    verdicts = [
        verdict
        for place, stack in zip(places, stacks, strict=True)
        for verdict in known.verdicts(place, stack)
        if selection.has(parse_cell(verdict.cell))
    ]
    lines = {**known.lines(places[0], stacks[0]), **known.lines(places[1], stacks[1])}
    given = replace(
        given,
        results=Results(given.results.run, (), {}, tuple(dict.fromkeys(verdicts))),
        lines=lines,
        drifts=known.drifts(*places),
    )
    gate = decide(given, Defaults((), NOTHING_RUN), _targets(known, places, given))
    origin = known.origin(gate.causes[0].cells if gate.causes else ())
    gate = replace(gate, foretold_by=f"the baseline of {origin.day}, {origin.processor}")
    if gate.decision is not Decision.ALLOW:
        return gate
    reason = f"None of its {len(gate.cells)} cells regresses, which is no evidence for this machine."
    return replace(gate, decision=Decision.COULD_NOT_TELL, reason=reason)


def word(gate: Gate) -> str:
    """The answer of the baselines in one sentence, for a gate that goes on to confirm it."""
    confirming = "; confirming" if gate.decision is not Decision.COULD_NOT_TELL else ""
    return f"{gate.decision} by {gate.foretold_by}{confirming}. {gate.reason}"


def _targets(known: Known, places: tuple[int, int], given: Compared) -> dict[str, SafeTarget]:
    """By regressed cell, the nearest release of the baselines on which the cells of its cause pass."""
    by_cause: dict[tuple[str, ...], list[str]] = {}
    for cell in compared_cells(given):
        if cell.change is Change.REGRESSED and cell.after is not None:
            key = cell.after.verdict.issues or cell.after.verdict.failing
            by_cause.setdefault(key, []).append(cell.name)
    found: dict[str, SafeTarget] = {}
    for names in by_cause.values():
        target = _target(known, places, given, names)
        found.update(dict.fromkeys(names, target) if target else {})
    return found


def _target(known: Known, places: tuple[int, int], given: Compared, names: Sequence[str]) -> SafeTarget | None:
    line = given.lines[f"{given.after.stack}/{names[0]}"]
    chains = (*line.freezes, *((line.error.frames,) if line.error else ()))
    package = suspect(
        moved(given.before.versions, given.after.versions),
        pinned=(),
        issues=line.issues,
        files=[frame.file for chain in chains for frame in chain[-1:]],
        ledger=given.ledger,
    )
    if package is None:
        return None
    if _axis(known.stacks[places[1]].name) != package.package:
        return None
    passing = sorted(version for version, passes in on_releases(known, package.package, names).items() if passes)
    above = [version for version in passing if version > package.after]
    below = [version for version in passing if package.before < version < package.after]
    if not above and not below:
        return None
    nearest = above[0] if above else below[-1]
    tried = (Tried(str(nearest), True, ""),)
    return SafeTarget(package.package, str(nearest), bool(above), tried, 0, foretold=True)


def on_releases(known: Known, package: str, names: Sequence[str]) -> dict[Version, bool]:
    """Whether cells pass on the releases of a package that the baselines hold, each with the packages of its day."""
    if not any(cell.name in names for cell in known.cells):
        return {}
    return {
        Version(stack.versions[package]): _pass(known, at, names)
        for at, stack in enumerate(known.stacks)
        if package in stack.versions and _axis(stack.name) == package
    }


def _axis(stack: str) -> str:
    return stack.rstrip("0123456789").removesuffix("-py").rstrip("0123456789.")


def _pass(known: Known, at: int, names: Sequence[str]) -> bool:
    cells = {cell.name: cell.results[at] for cell in known.cells if cell.name in names}
    return all(
        place != NONE and health(known.results[place].verdict) in (Health.TRAINS, Health.REFUSED)
        for place in cells.values()
    )
