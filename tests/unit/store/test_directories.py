"""The digest of a directory of weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_compat.store import directories


def weights(folder: Path) -> Path:
    """A directory with one file of weights."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"1")
    return folder


def test_weights_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gigabytes take a minute: an unchanged file keeps its digest."""
    model = weights(tmp_path / "weights")
    first = directories.digest(model, tmp_path)
    monkeypatch.setattr(directories, "sha256_of", lambda path: pytest.fail(f"{path} was read again"))
    assert directories.digest(model, tmp_path) == first
    monkeypatch.undo()
    (tmp_path / directories.MEMORY).write_text("[")
    assert directories.digest(model, tmp_path) == first


@pytest.mark.parametrize(
    "change",
    [
        lambda model: (model / "model.safetensors").write_bytes(b"2"),
        lambda model: (model / "model.safetensors").rename(model / "other.safetensors"),
        lambda model: (model / "config.json").write_text("{}"),
    ],
)
def test_another_content_name_or_file_is_another_digest(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """Also where the size stays the same."""
    model = weights(tmp_path / "weights")
    first = directories.digest(model, tmp_path)
    change(model)
    assert directories.digest(model, tmp_path) != first


def test_a_file_that_is_replaced_under_its_old_time_is_read_again(tmp_path: Path) -> None:
    """A copy that keeps times has another inode."""
    model = weights(tmp_path / "weights")
    first, file = directories.digest(model, tmp_path), model / "model.safetensors"
    time = file.stat().st_mtime_ns
    (tmp_path / "new").write_bytes(b"2")
    os.utime(tmp_path / "new", ns=(time, time))
    (tmp_path / "new").replace(file)
    assert directories.digest(model, tmp_path) != first


def test_where_weights_lie_does_not_matter(tmp_path: Path) -> None:
    """The hub's cache links to them. Its hidden files are no weights."""
    first = directories.digest(weights(tmp_path / "one"), tmp_path)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "model.safetensors").symlink_to(tmp_path / "one" / "model.safetensors")
    (linked / ".gitattributes").write_text("x")
    assert directories.digest(linked, tmp_path) == first
