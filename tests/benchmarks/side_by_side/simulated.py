"""Runs of any size, made from the committed baseline: its stacks, repeated under the names of further Pythons."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune_compat.machine.places import places
from finetune_compat.results.run_files import RowState, StackRow, write_row

BASELINES = places().baselines

BASELINE = BASELINES / "cpu"

STILL = 50
"""One in this many simulated cells does not learn, so that there are failures to group, explain and compare."""


def simulate(run: Path, cells: int, *, baseline: Path = BASELINE, broken: bool = True) -> None:
    """Write a finished run of `cells` cells into `run`.

    Args:

    run: directory of the run; created if it does not exist.

    cells: number of cells; the last stack is truncated at this number.

    baseline: a committed run.

    broken: whether one in `STILL` of them has a constant eval loss.
    """
    run.mkdir(parents=True, exist_ok=True)
    selected: dict[str, list[str]] = {}
    with (run / "observations.jsonl").open("w", encoding="utf-8") as lines:
        for number, seen in enumerate(itertools.islice(_endless(baseline), cells), 1):
            if broken and number % STILL == 0 and seen["training"] is not None:
                seen["training"]["eval_after"] = seen["training"]["eval_before"]
            selected.setdefault(seen["stack"]["name"], []).append(seen["cell"])
            started = {"cell": seen["cell"], "started": seen["started_at"], "schema": seen["schema"]}
            lines.write(f"{_line(started)}\n{_line(seen)}\n")
    for stack, names in selected.items():
        write_row(run, StackRow(stack, RowState.RAN, "", tuple(names)))


def _endless(baseline: Path) -> Iterator[dict[str, Any]]:
    """The baseline's observations, then the same for the stacks on the next Python, and so on."""
    packed = (baseline / "observations.jsonl.gz").read_bytes()
    kept = [line for line in gzip.decompress(packed).decode().splitlines() if '"started":' not in line]
    kept.sort(key=lambda line: json.loads(line)["stack"]["name"])  # stacks that ran in parallel are mixed in a run
    for later in itertools.count():
        yield from (_on_later_python(json.loads(line), later) for line in kept)


def _on_later_python(seen: dict[str, Any], later: int) -> dict[str, Any]:
    name, _, python = seen["stack"]["name"].rpartition("-py3")
    stack = f"{name}-py3{int(python) + later}"
    seen["cell"] = f"{stack}/{seen['cell'].partition('/')[2]}"
    seen["stack"]["name"] = stack
    return seen


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"))
