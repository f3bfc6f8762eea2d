"""A run of cached observations."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from finetune_compat.contract.records import to_json
from finetune_compat.results.run_files import RowState, StackRow, read_observations, read_rows, unfinished
from finetune_compat.run import request as requested
from finetune_compat.run.cached_run import write_rows, write_stored
from run_builders import IDS, STACK, Nox, observed, request

ABSENT = StackRow("trl0.4-py311", RowState.UNINSTALLABLE, "no solution", ())


def test_cached_observations_are_copied_with_their_addresses(nox: Nox, tmp_path: Path) -> None:
    """A report reads one complete run, and an export needs the addresses."""
    selection = requested.select(request(), (), always=True)
    selection = dataclasses.replace(selection, addresses={cell: f"address of {cell}" for cell in IDS})
    write_stored(tmp_path / "run", selection, {cell: to_json(observed(cell)) for cell in IDS[:2]})
    assert set(read_observations(tmp_path / "run" / "observations.jsonl")[1]) == set(IDS[:2])
    assert json.loads((tmp_path / "run" / "stored.json").read_text()) == {
        cell: f"address of {cell}" for cell in IDS[:2]
    }


def test_a_stack_with_cells_to_run_is_unfinished_and_the_others_are_done(nox: Nox, tmp_path: Path) -> None:
    """A stack that cannot be installed has its row too. Cells that are left out are in no row."""
    selection = dataclasses.replace(requested.select(request(), ()), absent=(ABSENT,))
    write_rows(tmp_path / "done", selection, (), ())
    assert set(read_rows(tmp_path / "done")) == {ABSENT, StackRow(STACK, RowState.RAN, "", IDS)}
    write_rows(tmp_path / "running", selection, IDS[:1], IDS[2:])
    assert set(read_rows(tmp_path / "running")) == {ABSENT, unfinished(STACK, IDS[:2])}
    assert (tmp_path / "running" / "left-out.txt").read_text().split() == list(IDS[2:])


def test_a_stack_of_which_all_is_left_out_has_no_row(nox: Nox, tmp_path: Path) -> None:
    """Its cells are no failure."""
    write_rows(tmp_path, requested.select(request(), ()), (), IDS)
    assert list(read_rows(tmp_path)) == []
