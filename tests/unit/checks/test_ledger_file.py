"""The ledger is read once, into values or into one message."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from builders import NF4
from finetune_compat.checks import ledger_file
from finetune_compat.checks.harm import Harm
from finetune_compat.checks.ledger_file import load_ledger, shipped_ledger
from finetune_compat.contract.errors import MatrixError
from finetune_compat.contract.records import DeviceKind, Precision
from finetune_compat.machine.places import places
from ledger_builders import ENTRY, SCRIPTED, TODO, fault_of, written


def test_an_entry_becomes_values(tmp_path: Path) -> None:
    """Enums are enums, lists are tuples, missing values are None."""
    [entry] = load_ledger(written(tmp_path, ENTRY)).issues
    [shown] = entry.shows
    assert (entry.id, entry.kind.value, entry.fixed_by) == ("trl#3926", "upstream", None)
    assert shown.precisions == (Precision.NF4, Precision.INT8)
    assert (shown.device, shown.gradient_checkpointing, shown.raised) == (DeviceKind.CPU, True, None)


def test_an_issue_may_be_shown_by_a_script_alone(tmp_path: Path) -> None:
    """It is listed for no cell, and its ways are those of cells and then those of scripts."""
    cells, _, _ = ENTRY.partition("[[issue.shows]]")
    ledger = load_ledger(written(tmp_path, cells + SCRIPTED))
    [entry] = ledger.issues
    [shown] = entry.scripts
    assert (shown.script, shown.harm, entry.library) == ("one_bug", Harm.LEARNS_NOTHING, "trl")
    assert (entry.shows, entry.ways, ledger.entries) == ((), (shown,), ())
    [both] = load_ledger(written(tmp_path, ENTRY + SCRIPTED)).issues
    assert both.ways == (*both.shows, shown)


def test_the_committed_ledger_is_sound() -> None:
    """It parses, and its first entry is trl#3926."""
    assert load_ledger().issues[0].id == "trl#3926"


def test_a_ledger_that_is_no_toml_is_one_message(tmp_path: Path) -> None:
    """No traceback is printed."""
    said = "Expected ']]' at the end of an array declaration (at line 1, column 8)"
    assert fault_of(tmp_path, "[[issue]") == f"1 fault\n  not TOML: {said}"


def test_a_missing_ledger_is_one_message(tmp_path: Path) -> None:
    """The message contains the operating system's."""
    path = tmp_path / "nowhere.toml"
    with pytest.raises(MatrixError) as raised:
        load_ledger(path)
    assert str(raised.value) == f"{path}: 1 fault\n  cannot be read: No such file or directory\n{TODO}"


def test_a_ledger_that_is_no_text_is_one_message(tmp_path: Path) -> None:
    """The message names the encoding error."""
    path = tmp_path / "known-issues.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MatrixError) as raised:
        load_ledger(path)
    said = "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    assert str(raised.value) == f"{path}: 1 fault\n  not UTF-8: {said}\n{TODO}"


def test_an_empty_ledger_lists_nothing(tmp_path: Path) -> None:
    """A file of comments is a valid ledger."""
    assert load_ledger(written(tmp_path, "# nothing yet\n")).issues == ()


def test_measured_releases_are_read_from_the_file_beside_the_ledger(tmp_path: Path) -> None:
    """Without the file every release counts as measured."""
    path = written(tmp_path, ENTRY)
    versions = {"trl": "0.22.2", "peft": "0.17.1"}
    assert [
        found.unmeasured for found in load_ledger(path).listed("sft-peft-model", NF4, DeviceKind.CPU, versions)
    ] == [""]
    measured = {"quick": {"sft-peft-model": {"trl": "0.22.0", "peft": "0.17.1"}}, "deep": {}}
    path.with_name("measured.json").write_text(json.dumps(measured), encoding="utf-8")
    [deviation] = load_ledger(path).listed("sft-peft-model", NF4, DeviceKind.CPU, versions)
    assert deviation.unmeasured == "trl 0.22.2, measured until 0.22.0"


def test_measured_releases_that_cannot_be_read_are_one_message(tmp_path: Path) -> None:
    """With the path of that file."""
    path = written(tmp_path, ENTRY)
    path.with_name("measured.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MatrixError, match=r"measured\.json: 2 faults"):
        load_ledger(path)


class TestShipped:
    def test_the_fast_reader_gives_what_the_validating_one_gives(self) -> None:
        """Every field of every entry, with its type."""
        assert repr(shipped_ledger()) == repr(load_ledger())

    def test_an_invalid_ledger_is_reported_in_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The message is that of the validating reader."""
        path = written(tmp_path, ENTRY.replace('kind = "upstream"', 'kind = "odd"'))
        there = dataclasses.replace(places(), matrices=tmp_path)
        monkeypatch.setattr(ledger_file, "places", lambda: there)
        assert path == there.ledger
        with pytest.raises(MatrixError, match=r"issue\[0\].kind"):
            shipped_ledger()
