"""Copies a finished run to `reports/baseline/`, compressed and with its provenance, so that it can be judged later."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from finetune_compat.checks import Outcome
from finetune_compat.checks.digests import check_digests
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.catalog import CATALOG, DEEP_CELLS, Flow, Tier, cells_on, flow_named
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError, UnknownName
from finetune_compat.contract.names import is_plain
from finetune_compat.contract.records import Observation, Variant
from finetune_compat.contract.version import __version__
from finetune_compat.evidence.measured import write_measured
from finetune_compat.machine.files import remaking, write_atomically
from finetune_compat.machine.places import places
from finetune_compat.machine.provenance import commit
from finetune_compat.report import aged, markdown, summarize
from finetune_compat.results.cpu_seconds import write_cpu_seconds
from finetune_compat.results.digests import digests_of, write_digests
from finetune_compat.results.run_files import (
    PROVENANCE,
    Results,
    RowState,
    StackRow,
    find_run,
    judged,
    observation_lines,
)
from finetune_compat.run.stack_run import exists
from finetune_compat.store.store import Store


def save(run_name: str, name: str, flows: Sequence[str] = (), variants: Sequence[str] = ()) -> Path:
    """Copy the run called `run_name` to `reports/baseline/<name>`, replacing what was there, and return the directory.
    The releases of the run become measured releases of the ledger.

    The directory is replaced as a whole, by one that is complete, with its summary and with the digests of what the run
    was measured with.

    Args:
        run_name: name or directory of a finished run.
        name: name of the baseline.
        flows: flows whose cells must all be there; without any, all flows.
        variants: globs of variants whose cells must all be there; without any, all variants.

    Raises:
        UnknownName: there is no such run, no such flow, or no such variant.
        CompatError: the name is none, the run has cells of real weights, or it did not end: a stack is still running,
            was killed or lost its process.
        RecordsError: a file of the run cannot be read.
    """
    if not is_plain(name) or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise CompatError(
            f"{name!r} is not a valid name of a baseline",
            where="--name",
            meaning="The name becomes a directory below reports/baseline.",
            todo="Use lower-case letters, digits and dashes, for example cpu or h200.",
        )
    run, baselines = find_run(run_name), places().baselines
    if run.is_relative_to(baselines):
        raise CompatError(
            "this is a baseline already", where=str(run), todo="Name a run below reports/runs, or a copy of one."
        )
    ledger = load_ledger()
    results = judged(run, ledger)
    _refuse_real_weights(results)
    part = _Part(tuple(flow_named(flow).name for flow in flows), tuple(map(_variant_glob, variants)))
    _refuse_unfinished(results, part)
    provenance = _provenance(results, part)  # before the baseline itself makes the checkout differ from its commit
    stored = Store.configured().holding(observation_lines(run))
    recipes = {cell: kept.recipe for cell, kept in stored.items()}
    target = baselines / name
    with remaking(target) as whole:
        shutil.copytree(run / "rows", whole / "rows")
        packed = gzip.compress((run / "observations.jsonl").read_bytes(), mtime=0)
        write_atomically(whole / "observations.jsonl.gz", packed)
        write_atomically(whole / PROVENANCE, json.dumps(provenance, indent=1) + "\n")
        write_cpu_seconds(whole, {cell: kept.cpu_s for cell, kept in stored.items() if kept.cpu_s is not None})
        write_digests(whole, digests_of(results.observations, recipes, check_digests()))
        summary = aged(summarize(judged(whole, ledger), ledger))
        write_atomically(whole / "summary.md", markdown.render(summary))
    write_measured()
    return target


@dataclass(frozen=True, slots=True)
class _Part:
    """The part of the matrix that a run was asked for. Empty: no filter."""

    flows: tuple[str, ...]
    variants: tuple[str, ...]
    """Globs."""

    def has(self, flow: Flow, variant: Variant) -> bool:
        """Whether the cell belongs to this part."""
        return (not self.flows or flow.name in self.flows) and (
            not self.variants or any(fnmatchcase(str(variant), pattern) for pattern in self.variants)
        )

    @property
    def options(self) -> str:
        """As options of `compat run` and `compat keep`; empty for the whole matrix."""
        given = (("--flows", self.flows), ("--variants", self.variants))
        return " ".join(f"{option} {shlex.quote(','.join(names))}" for option, names in given if names)


def _variant_glob(pattern: str) -> str:
    """`pattern`, if it matches a variant of the catalog.

    Raises:
        UnknownName: it matches none.
    """
    known = dict.fromkeys(str(variant) for flow in CATALOG for variant in flow.variants)
    if not any(fnmatchcase(name, pattern) for name in known):
        raise UnknownName(
            f"there is no variant {pattern!r}", where="--variants", todo=f"The variants are: {', '.join(known)}."
        )
    return pattern


def _refuse_real_weights(results: Results) -> None:
    real = sorted({seen.variant.model for seen in results.observations.values() if seen.model is None})
    if real:
        raise CompatError(
            f"cells of this run trained real weights: {', '.join(real)}",
            where=str(results.run),
            meaning="A baseline must be reproducible by anyone; these weights are not part of the project.",
            todo="Use a run that was made without --model.",
        )


def _refuse_unfinished(results: Results, part: _Part) -> None:
    only_deep = tier_of(results.observations.values()) is Tier.DEEP_ONLY
    lost = {parse_cell(verdict.cell).stack for verdict in results.verdicts if verdict.outcome is Outcome.INFRASTRUCTURE}
    broken = [
        row.name for row in results.rows if row.name in lost or _lacks_cells(row, results, part, only_deep=only_deep)
    ]
    if broken or not results.observations:
        raise CompatError(
            f"the run is incomplete: {', '.join(broken) or 'no cell of it ran'}",
            where=str(results.run),
            meaning="In later comparisons, missing cells of a baseline would look like lost coverage.",
            todo="Run these stacks again, in the same run, or run all stacks again.",
        )


def _lacks_cells(row: StackRow, results: Results, part: _Part, *, only_deep: bool) -> bool:
    """Whether a stack ran a selection only of the cells that exist on its devices and versions: of those of `part`, or
    of those of the deep tier.
    """
    if row.state is not RowState.RAN:
        return False
    seen = next((results.observations[cell] for cell in row.selected if cell in results.observations), None)
    if seen is None:
        return True
    devices = {device for cell in row.selected if (device := parse_cell(cell).device)}
    every = [cell for device in devices for cell in cells_on(device) if exists(*cell, seen.stack.resolved)]
    every = [(flow, variant) for flow, variant in every if part.has(flow, variant)]
    if only_deep:
        every = [(flow, variant) for flow, variant in every if (flow.name, variant) in DEEP_CELLS]
    return len(row.selected) < len(every)


def tier_of(observations: Collection[Observation]) -> Tier:
    """The tier that the cells of a run were measured in."""
    deep = [seen.deep is not None and (seen.flow, seen.variant) in DEEP_CELLS for seen in observations]
    return Tier.DEEP_ONLY if all(deep) else Tier.DEEP if any(deep) else Tier.FULL


def _provenance(results: Results, part: _Part) -> dict[str, object]:
    seen = list(results.observations.values())
    tier = tier_of(seen)
    return {
        "run": results.run.name,
        "command": _command(part, tier),
        "tier": tier,
        "flows": list(part.flows),
        "variants": list(part.variants),
        "harness_version": __version__,
        "kept_at_commit": commit(),
        "stacks": len(results.rows),
        "cells": len(seen),
        "first_cell": min(observation.started_at for observation in seen),
        "last_cell": max(observation.started_at for observation in seen),
        "devices": sorted({_device(observation) for observation in seen}),
        "pythons": sorted({observation.stack.python for observation in seen}),
        "torch": sorted({observation.stack.resolved["torch"] for observation in seen}),
        "base_torch": any(observation.stack.base_torch for observation in seen),
    }


def _command(part: _Part, tier: Tier) -> str:
    """The command that measures all of it again."""
    if part.options:
        return f"compat run {part.options}; compat keep {part.options}"
    return f"nox -s compat-3.11 -j 2 -- --tier {tier}; compat keep"


def _device(seen: Observation) -> str:
    return " ".join((seen.device.kind, seen.device.name, *seen.device.features))
