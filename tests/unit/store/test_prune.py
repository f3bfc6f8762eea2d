"""`compat store prune`: what it removes, and what it leaves."""

from __future__ import annotations

import os
import time

import pytest
from finetune_compat.store import stored_files
from finetune_compat.store.sources import Sources
from store_builders import NEW, OLD, compat, seen, store, stored_object


def test_prune_by_age(capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run prints the same and removes nothing."""
    old, new = (stored_files.write(store().root, stored_object(at=at, seed=17)) for at in (OLD, NEW))
    size = stored_files.path_of(store().root, old).stat().st_size / 1e6
    assert compat("prune", "--older-than", "90d", "--dry-run") == 0
    assert capsys.readouterr().out == f"1 of 2 observations would be removed, {size:.1f} MB, from {store().root}\n"
    assert compat("prune", "--older-than", "90d") == 0
    assert capsys.readouterr().out == f"1 of 2 observations removed, {size:.1f} MB, from {store().root}\n"
    assert list(stored_files.names(store().root).values()) == [[new]]


def test_prune_by_size_keeps_the_latest() -> None:
    """As many files stay as fit."""
    names = [
        stored_files.write(store().root, stored_object(at=f"20{year}-01-01T00:00:00.000000+00:00"))
        for year in (25, 24, 26)
    ]
    size = stored_files.path_of(store().root, names[0]).stat().st_size
    assert compat("prune", "--max-size", str(2 * size)) == 0
    assert {name for found in stored_files.names(store().root).values() for name in found} == {names[0], names[2]}


def test_prune_by_size_removes_the_oldest_first() -> None:
    """A file that does not fit removes all older ones, however small."""
    sizes = {2024: 1, 2025: 5_000, 2026: 1}
    names = {
        year: stored_files.write(
            store().root, stored_object(seen(harness_version="x" * size), at=f"{year}-01-01T00:00:00.000000+00:00")
        )
        for year, size in sizes.items()
    }
    room = sum(stored_files.path_of(store().root, names[year]).stat().st_size for year in (2024, 2026))
    assert compat("prune", "--max-size", str(room)) == 0
    assert [name for found in stored_files.names(store().root).values() for name in found] == [names[2026]]


def test_prune_of_unreachable_observations() -> None:
    """Their sources or their lock are not in this checkout; damaged files are removed too."""
    from finetune_compat.contract.catalog import CATALOG
    from finetune_compat.machine.places import places
    from finetune_compat.stacks.locks import read_lock

    lock = read_lock(places().locks / "trl0.22-py311.txt").sha256
    sources = Sources().digest(CATALOG[0], real=False)
    stays = stored_files.write(store().root, stored_object(lock_sha256=lock, sources=sources))
    stored_files.write(store().root, stored_object(lock_sha256="0" * 64, sources=sources))
    stored_files.write(store().root, stored_object(lock_sha256=lock, sources="0" * 64))
    damaged = stored_files.write(store().root, stored_object(lock_sha256=lock, sources=sources, seed=1))
    stored_files.path_of(store().root, damaged).write_text("")
    assert compat("prune", "--unreachable") == 0
    assert [name for found in stored_files.names(store().root).values() for name in found] == [stays]


def test_prune_removes_what_killed_processes_were_writing() -> None:
    """Files that are being written stay."""
    name = stored_files.write(store().root, stored_object())
    folder = stored_files.path_of(store().root, name).parent
    for part, age in ((".part-old", 7200), (".part-new", 0)):
        (folder / part).write_text("half")
        os.utime(folder / part, (time.time() - age,) * 2)
    assert compat("prune", "--older-than", "1d") == 0
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == [".part-new"]
