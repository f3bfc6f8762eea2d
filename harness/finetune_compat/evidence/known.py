"""Derive what gates know before they run from the committed baselines: `compat known`."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from finetune_compat.checks import Result, drift
from finetune_compat.checks.digests import check_digests
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import REPORTED, Frame, Observation
from finetune_compat.contract.verdict import Outcome, Verdict
from finetune_compat.evidence.tier import tier_of
from finetune_compat.gate.known import (
    FILE,
    NONE,
    Held,
    HeldCell,
    HeldDrift,
    HeldStack,
    Known,
    Origin,
    read_known,
    to_json,
)
from finetune_compat.machine.files import read_object, write_atomically
from finetune_compat.machine.places import places
from finetune_compat.results.lines import line_of
from finetune_compat.results.run_files import PROVENANCE, Results, judged
from finetune_compat.run import default_tier
from finetune_compat.stacks.matrix import Matrix, read_matrix

MOST_FAILING = 2
"""Failing opinions of a verdict that are held. The message of a cause names no more."""


def known_file() -> Path:
    """The file, in the checkout."""
    return places().the_checkout(f"matrices/{FILE}") / "matrices" / FILE


def write_known() -> tuple[Path, ...]:
    """Judge the committed baselines with today's checks and ledger, write the results and the default tier that follows
    from them, and return both files.
    """
    write_atomically(known_file(), made())
    tier = known_file().with_name(default_tier.FILE)
    write_atomically(tier, default_tier.to_json(tier_of(read_known(known_file()))))
    return known_file(), tier


def made() -> str:
    """The content of the file, made anew."""
    ledger = load_ledger()
    runs = [judged(run, ledger) for run in baselines()]
    origins = tuple(_origin(run.run) for run in runs)
    return to_json(known_of(runs, origins, read_matrix(), inputs()))


def baselines() -> tuple[Path, ...]:
    """The committed baselines without the deep tier: a gate runs no other."""
    found = sorted(path for path in places().baselines.iterdir() if (path / PROVENANCE).exists())
    return tuple(path for path in found if read_object(path / PROVENANCE).get("tier") == Tier.FULL)


def inputs() -> str:
    """The digest of everything that the results follow from."""
    files = [path / "observations.jsonl.gz" for path in baselines()]
    parts = [*(path.read_bytes() for path in (*files, places().ledger)), json.dumps(check_digests()).encode()]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _origin(run: Path) -> Origin:
    provenance = read_object(run / PROVENANCE)
    device = str(provenance["devices"][0]).removeprefix("cpu ").split(" avx", 1)[0].removesuffix(" without_triton")
    return Origin(run.name, str(provenance["last_cell"])[:10], device)


@dataclass(frozen=True, slots=True)
class _Seen:
    verdict: Verdict
    seen: Observation
    origin: int


def known_of(runs: Sequence[Results], origins: Sequence[Origin], matrix: Matrix, digest: str) -> Known:
    """The results of judged baselines, with the stacks in the order of the matrix."""
    by_name: dict[str, dict[str, _Seen]] = {}
    locks: dict[str, HeldStack] = {}
    for origin, run in enumerate(runs):
        for verdict in run.verdicts:
            seen = run.observations.get(verdict.cell)
            cell = parse_cell(verdict.cell)
            if seen is None or verdict.outcome is Outcome.INFRASTRUCTURE:
                continue
            by_name.setdefault(cell.name, {})[cell.stack] = _Seen(verdict, seen, origin)
            versions = {name: seen.stack.resolved[name] for name in REPORTED if name in seen.stack.resolved}
            locks[cell.stack] = HeldStack(cell.stack, seen.stack.lock_sha256, versions)
    rows = [stack.on(python) for stack in matrix.stacks for python in stack.pythons]
    stacks = [locks[name] for name in rows if name in locks]
    tables = _Tables()
    cells = tuple(_cell(name, found, stacks, tables) for name, found in sorted(by_name.items()))
    return Known(
        inputs=digest,
        origins=tuple(origins),
        stacks=tuple(stacks),
        chains=tuple(tables.chains),
        changes=tuple(tables.changes),
        results=tuple(tables.results),
        cells=cells,
    )


@dataclass(frozen=True, slots=True)
class _Tables:
    """Values that many cells share, each with its place."""

    chains: dict[tuple[Frame, ...], int] = field(default_factory=dict)
    changes: dict[tuple[drift.Change, ...], int] = field(default_factory=dict)
    results: dict[Held, int] = field(default_factory=dict)

    def chain(self, frames: tuple[Frame, ...]) -> int:
        """The place of a call chain."""
        return self.chains.setdefault(frames, len(self.chains))

    def change(self, found: Iterable[drift.Change]) -> int:
        """The place of changes, without their sizes: the details hold them."""
        return self.changes.setdefault(tuple(replace(change, size=None) for change in found), len(self.changes))

    def result(self, item: _Seen) -> int:
        """The place of a result, without what differs between cells with the same one."""
        verdict, line = item.verdict, line_of(item.verdict, item.seen)
        failing = tuple(opinion for opinion in verdict.opinions if opinion.result is Result.FAIL)[:MOST_FAILING]
        reason = verdict.reason if failing else ""
        kept = replace(verdict, cell="", opinions=failing, reason=reason, signs=verdict.signs if failing else ())
        held = Held(kept, (), None, NONE, emulates=False)
        if failing:
            freezes = tuple(self.chain(frames) for frames in line.freezes)
            frames = line.error.frames[-1:] if line.error else ()
            error = replace(line.error, frames=()) if line.error else None
            held = Held(kept, freezes, error, self.chain(frames) if frames else NONE, line.emulates)
        return self.results.setdefault(held, len(self.results))


def _cell(name: str, found: Mapping[str, _Seen], stacks: Sequence[HeldStack], tables: _Tables) -> HeldCell:
    ordered = [found.get(stack.name) for stack in stacks]
    starts, kinds = _starts([item.seen if item else None for item in ordered])
    pairs = ((one, other) for one in range(len(kinds)) for other in range(len(kinds)) if one != other)
    changes = ((one, other, drift.changes(kinds[one], kinds[other])) for one, other in pairs)
    return HeldCell(
        name=name,
        origin=next(item.origin for item in found.values()),
        seconds=round(statistics.median(item.seen.duration_s for item in found.values()), 2),
        results=tuple(tables.result(item) if item else NONE for item in ordered),
        starts=starts,
        drifts=tuple(HeldDrift(one, other, tables.change(between)) for one, other, between in changes if between),
    )


def _starts(seen: Sequence[Observation | None]) -> tuple[tuple[int, ...], list[Observation]]:
    """A number for each stack, equal where nothing differs before the first update, and an observation per number."""
    kinds: list[Observation] = []
    numbers = []
    for one in seen:
        if one is None or one.training is None or one.weights_sha256 is None:
            numbers.append(NONE)
            continue
        same = next((at for at, kind in enumerate(kinds) if not drift.changes(kind, one)), None)
        if same is None:
            same = len(kinds)
            kinds.append(one)
        numbers.append(same)
    return tuple(numbers), kinds
