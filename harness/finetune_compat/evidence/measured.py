"""The releases that the committed baselines measured, for the ledger: nothing is claimed about a newer release."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from packaging.version import Version

from finetune_compat.checks.ledger_file import MEASURED
from finetune_compat.contract.records import Observation
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import read_observations

PACKAGES = ("trl", "transformers", "peft", "bitsandbytes")
"""Packages whose releases are rows of the matrix."""

Newest = dict[str, dict[str, str]]
"""The newest release by flow, then by package."""


def write_measured() -> Path:
    """Write the measured releases of the committed baselines beside the ledger, and return the file."""
    path = places().the_checkout("matrices/measured.json") / "matrices" / MEASURED
    found = (
        seen
        for baseline in sorted(places().baselines.iterdir())
        for seen in read_observations(baseline / "observations.jsonl")[1].values()
    )
    write_atomically(path, json.dumps(measured_of(found), indent=1) + "\n")
    return path


def measured_of(observations: Iterable[Observation]) -> dict[str, Newest]:
    """The content of the file: the newest releases in all cells, and in cells of the deep tier."""
    quick: Newest = {}
    deep: Newest = {}
    for seen in observations:
        for newest in (quick, deep) if seen.deep else (quick,):
            _add(newest.setdefault(seen.flow, {}), seen)
    return {"quick": _sorted(quick), "deep": _sorted(deep)}


def _add(newest: dict[str, str], seen: Observation) -> None:
    for name in PACKAGES:
        version = seen.stack.resolved.get(name)
        if version and (name not in newest or Version(version) > Version(newest[name])):
            newest[name] = version


def _sorted(newest: Newest) -> Newest:
    return {flow: dict(sorted(newest[flow].items())) for flow in sorted(newest)}
