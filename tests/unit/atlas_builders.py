"""Small committed baselines, for the atlas: two releases with trl#3926, one without, and a stack on no axis."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import builders as b
from finetune_compat.atlas.answers import best
from finetune_compat.atlas.issues import Line, lines
from finetune_compat.atlas.record import Record, next_record
from finetune_compat.atlas.survey import Survey, survey
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.records import Observation
from finetune_compat.results.run_files import Origin, Results, StackRow

DAY = "2026-11-20"
ORIGIN = Origin(f"{DAY}T12:00:00+00:00", f"{DAY}T13:00:00+00:00", "0.1.0", "5f" * 20)


def on(trl: str, stack: str = "", flow: str = "sft-peft-model", variant: b.Variant = b.NF4) -> Observation:
    """A healthy cell on a release of TRL, by default on the stack of its minor version."""
    stack = stack or f"trl{trl.rpartition('.')[0]}-py311"
    seen = b.healthy(flow, variant, stack=stack, versions=b.on_trl(trl))
    return dataclasses.replace(seen, started_at=f"{DAY}T12:30:00+00:00")


def kept(*seen: Observation, ledger: Ledger = b.LISTED, others: tuple[StackRow, ...] = ()) -> Results:
    """The results of a baseline with these cells, and with these stacks without cells."""
    by_stack: dict[str, list[Observation]] = {}
    for one in seen:
        by_stack.setdefault(one.stack.name, []).append(one)
    rows = [*(b.ran(*cells) for cells in by_stack.values()), *others]
    return dataclasses.replace(b.results_of(rows, *seen, ledger=ledger), origin=ORIGIN)


FIELD = {
    "cpu": kept(
        on("0.19.1"),
        b.frozen(on("0.20.0")),
        b.frozen(on("0.22.2")),
        b.frozen_loud(on("0.22.2", variant=b.NF4_NOGC)),
        on("0.24.0"),
        on("0.19.1", flow="sft-peft-config"),
        on("0.24.0", flow="sft-peft-config"),
        on("0.24.0", stack="latest-py311"),
    )
}
"""TRL 0.20 and 0.22 freeze; a flow of documented usage trains on 0.19 and 0.24; `latest` is on no axis."""


def drawn(results: Mapping[str, Results] = FIELD, ledger: Ledger = b.LISTED) -> tuple[Survey, tuple[Line, ...], Record]:
    """What the page and the table are drawn from."""
    found = survey(results)
    issues = lines(found, ledger)
    return found, issues, next_record(found, issues, best(found), None)


def committed(folder: Path, *seen: Observation) -> Path:
    """Write a baseline as it is committed."""
    by_stack: dict[str, list[Observation]] = {}
    for one in seen:
        by_stack.setdefault(one.stack.name, []).append(one)
    b.stored(folder, [b.ran(*cells) for cells in by_stack.values()], *seen)
    (folder / "provenance.json").write_text(json.dumps(dataclasses.asdict(ORIGIN)), encoding="utf-8")
    return folder
