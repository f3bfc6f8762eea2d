"""A request: the selected cells, their addresses, and their cached observations."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import DeviceKind
from finetune_compat.results.run_files import RowState, StackRow
from finetune_compat.run import request as requested
from finetune_compat.run.command import run
from finetune_compat.run.selection import AskedCells, stacks_of
from finetune_compat.stacks.locks import Unsolvable
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store.predicted import Predicted
from finetune_compat.store.store import Store
from run_builders import IDS, STACK, Nox, request, stored_cells


def test_a_checkout_without_environments_finds_cached_cells(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The environment's packages are predicted if possible; a prediction that differs finds nothing."""
    stored_cells(monkeypatch, *IDS)
    monkeypatch.setattr(requested, "env_python", lambda _: Path("/nowhere/bin/python"))
    told: list[Predicted | None] = [Predicted("3.11.7", {"torch": "2.13.0+cpu"})]
    monkeypatch.setattr(requested, "predict", lambda *_: told[0])
    assert run(request()) == 0
    assert nox.sessions == []
    assert "all cached, nothing to run" in capsys.readouterr().out
    for told[0] in (None, Predicted("3.11.8", {"torch": "2.13.0+cpu"}), Predicted("3.11.7", {"torch": "2.13.0+cu130"})):
        assert run(request()) == 0
        assert nox.asked.pop() == IDS


def test_with_an_empty_store_uv_is_not_called(nox: Nox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a first run nor --fresh pays for a prediction that cannot help."""
    monkeypatch.setattr(requested, "env_python", lambda _: Path("/nowhere/bin/python"))
    monkeypatch.setattr(requested, "predict", lambda *_: pytest.fail("it was asked"))
    assert run(request()) == 0
    (Store.configured().root / "objects" / "00").mkdir(parents=True)
    assert run(request(fresh=True)) == 0


def test_cells_are_grouped_by_stack_in_their_order() -> None:
    """A stack without cells has no group."""
    selection = requested.select(request(), ())
    assert selection.rows == {STACK: IDS}
    assert selection.device is DeviceKind.CPU
    assert set(selection.variants) == set(IDS)
    assert dataclasses.replace(selection, cells=()).rows == {}


def test_the_default_tier_says_how_many_cells_it_leaves_out() -> None:
    """Nothing is left out of a full run, and nothing that was named."""
    whole = requested.select(dataclasses.replace(request(), asked=AskedCells(stacks=("trl0.22",))), ())
    options = dataclasses.replace(request().options, tier=Tier.DEFAULT)
    asked = dataclasses.replace(request(), asked=AskedCells(stacks=("trl0.22",)), options=options)
    default = requested.select(asked, ())
    assert set(default.cells) < set(whole.cells)
    assert (default.left_out, whole.left_out) == (len(whole.cells) - len(default.cells), 0)
    assert {parse_cell(cell).flow for cell in default.cells} == {parse_cell(cell).flow for cell in whole.cells}


def test_a_selection_without_cells_is_refused() -> None:
    """The message says which filters there are."""
    nothing = dataclasses.replace(request(), asked=AskedCells(stacks=("trl0.22",), words="nope"))
    with pytest.raises(CompatError) as raised:
        requested.select(nothing, ())
    assert str(raised.value).startswith("-k 'nope': no cell matches\nA cell's name looks like ")


def test_a_stack_that_cannot_be_solved_is_a_row_and_has_no_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver found no versions for it."""
    monkeypatch.setattr(requested, "locked", lambda _: Unsolvable(Path("trl0.22-py311.unsolvable"), "no peft", {}))
    selection = requested.select(request(), ())
    assert selection.cells == ()
    assert selection.absent == (StackRow(STACK, RowState.UNINSTALLABLE, "no peft", ()),)


def test_the_environment_of_a_session_has_the_name_that_nox_gives_it() -> None:
    """As nox normalizes names: runs of other characters become one hyphen."""
    [on] = stacks_of(read_matrix(), AskedCells(stacks=("trl0.22",)), "3.11")
    assert requested.env_python(on, Path("/nox")) == Path("/nox/compat-3-11-trl-0-22/bin/python")


def test_only_cached_cells_have_files_and_lines(nox: Nox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file has a name and no line."""
    files = stored_cells(monkeypatch, *IDS[:2])
    files[IDS[0]].write_bytes(b"cut off")
    selection, store = requested.select(request(), ()), Store.configured()
    assert requested.stored_files(store, selection).keys() == set(IDS[:2])
    assert requested.stored_lines(store, selection, IDS[:2]).keys() == {IDS[1]}
