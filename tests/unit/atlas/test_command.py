"""`compat atlas` writes three files from the committed baselines; the committed ones are what it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import builders as b
import pytest
from atlas_builders import committed, on
from finetune_compat.atlas.command import atlas_command, atlas_files
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.windows_measured import read_windows
from finetune_compat.contract.errors import CompatError, RecordsError
from finetune_compat.machine.places import Places, places

LARGEST = 3_000_000
"""Maximum size of the page in bytes: a phone must be able to load it."""


@pytest.fixture
def checkout(tmp_path: Path, in_places: Callable[..., Places]) -> Path:
    """A checkout with one baseline and the ledger of this project."""
    committed(tmp_path / "reports" / "baseline" / "cpu", on("0.24.0", flow="sft-peft-config"), b.frozen(on("0.22.2")))
    in_places(checkout=tmp_path)
    return tmp_path


def test_it_writes_page_table_and_record(checkout: Path) -> None:
    """A second time it writes the same."""
    folder = atlas_command()
    assert folder == checkout / "reports" / "atlas"
    first = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert set(first) == {"index.html", "atlas.md", "atlas.json"}
    assert "trl0.24-py311 is the newest stack" in first["atlas.md"]
    atlas_command()
    assert first == {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_a_damaged_record_leaves_everything_as_it_is(checkout: Path) -> None:
    """Nothing is half-written."""
    folder = checkout / "reports" / "atlas"
    folder.mkdir()
    (folder / "atlas.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RecordsError):
        atlas_command()
    assert [path.name for path in folder.iterdir()] == ["atlas.json"]


def test_without_baselines_there_is_no_atlas(tmp_path: Path) -> None:
    """An empty page would look as if nothing worked."""
    with pytest.raises(CompatError, match="there is no committed baseline") as caught:
        atlas_files(tmp_path / "baseline", tmp_path / "atlas", b.LISTED)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "atlas").exists()


def test_the_committed_atlas_is_up_to_date() -> None:
    """After a change of baselines, ledger, checks or wording: compat atlas"""
    written = atlas_files(places().baselines, places().atlas, load_ledger(), read_windows())
    for name, text in written.items():
        assert (places().atlas / name).read_text(encoding="utf-8") == text, f"{name}: run compat atlas"
    assert len(written["index.html"].encode()) < LARGEST
