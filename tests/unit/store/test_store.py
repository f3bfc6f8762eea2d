"""The store: which observation it returns, merging, history, and the shared store behind it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError, ExitCode, UnknownName
from finetune_compat.machine.places import places
from finetune_compat.store import stored_files
from finetune_compat.store.store import Past, Store, latest
from hypothesis import given
from hypothesis import strategies as st
from store_builders import recipe_of, seen, stored_object

EARLY, LATE = "2026-01-01T00:00:00.000000+00:00", "2026-01-02T00:00:00.000000+00:00"


def test_a_stored_observation_is_returned(tmp_path: Path) -> None:
    """It is returned as an observation."""
    store, recipe = Store(tmp_path), recipe_of(seen())
    stored_files.write(tmp_path, stored_object())
    assert store.has([recipe.address, "f" * 64]) == {recipe.address}
    assert store.get(recipe.address) == seen()


def test_a_missing_address_is_reported(tmp_path: Path) -> None:
    """The message has the searched paths."""
    with pytest.raises(UnknownName) as raised:
        Store(tmp_path).get("f" * 64)
    assert str(raised.value) == (
        f"{tmp_path}: there is no observation at {'f' * 64}\n"
        "Its cell never ran here, or its files were pruned.\n"
        "`compat store ls` lists the cached results."
    )


def test_the_latest_observation_is_the_answer(tmp_path: Path) -> None:
    """This includes one of `--fresh`; a later damaged file is ignored."""
    old, new = stored_object(seen(duration_s=1.0), EARLY), stored_object(seen(duration_s=2.0), LATE)
    for each in (new, old):
        stored_files.write(tmp_path, each)
    address = old.recipe.address
    assert Store(tmp_path).read([address]) == {address: new}
    stored_files.path_of(tmp_path, stored_files.name_of(new)).write_text("cut off")
    assert Store(tmp_path).read([address]) == {address: old}


@given(st.permutations([stored_object(seen(duration_s=float(n)), EARLY if n < 3 else LATE) for n in range(5)]))
def test_the_answer_does_not_depend_on_the_order(found: list[stored_files.Stored]) -> None:
    """This holds for equal times too: two machines that merged give the same observation."""
    named = [(stored_files.name_of(each), each) for each in found]
    assert latest(dict(named)) == latest(dict(reversed(named)))


def test_stores_of_two_machines_merge_by_copying_files(tmp_path: Path) -> None:
    """Both directions give the same results."""
    one, other = tmp_path / "one", tmp_path / "other"
    for root, seeds in ((one, (1, 2)), (other, (2, 3))):
        for seed in seeds:
            stored_files.write(root, stored_object(at=EARLY if root == one else LATE, seed=seed))
    for source, target in ((one, other), (other, one)):
        shutil.copytree(source, target, dirs_exist_ok=True)
    assert stored_files.names(one).keys() == stored_files.names(other).keys()
    addresses = [stored_object(seed=seed).recipe.address for seed in (1, 2, 3)]
    assert Store(one).read(addresses) == Store(other).read(addresses)
    assert Store(one).read(addresses)[addresses[1]].recorded_at == LATE


# ------------------------------------------------------------------------------------------------------------- history


def test_history_is_the_latest_of_each_cell_at_any_address(tmp_path: Path) -> None:
    """A cell with changed sources has a history."""
    stored_files.write(tmp_path, stored_object(seen(duration_s=1.0), EARLY))
    newer = stored_object(seen(duration_s=2.0), LATE, sources="c" * 64)
    stored_files.write(tmp_path, newer)
    assert Store(tmp_path).history() == {seen().cell: Past(newer.recipe.address, 2.0, "pass", LATE)}


def test_history_has_the_cpu_seconds_that_were_stored(tmp_path: Path) -> None:
    """They are beside the observation, at the same address. Of an older file they are not known."""
    stored_files.write(tmp_path, stored_object())
    assert Store(tmp_path).history()[seen().cell].cpu_s is None
    Store(tmp_path).put(stored_object().recipe, seen(), 0.75)
    assert Store(tmp_path).history()[seen().cell].cpu_s == 0.75
    assert Store(tmp_path).get(stored_object().recipe.address) == seen()


def test_what_is_stored_of_an_observation_is_found_by_its_line(tmp_path: Path) -> None:
    """By the line, at any address; another line of the same cell has none."""
    one, other = stored_object(seen(duration_s=1.0), EARLY), stored_object(seen(duration_s=2.0), LATE, sources="c" * 64)
    for each in (one, other):
        stored_files.write(tmp_path, each)
    for each in (one, other):
        assert Store(tmp_path).holding({seen().cell: each.line}) == {seen().cell: each}
    assert Store(tmp_path).holding({seen().cell: stored_object(seen(duration_s=3.0)).line, "none": one.line}) == {}


@pytest.mark.parametrize("remembered", [None, "", "{}", '{"format": 99, "objects": {"x": []}}', "[1"])
def test_the_history_file_can_be_lost(tmp_path: Path, remembered: str | None) -> None:
    """A lost, damaged or outdated file is made again."""
    stored_files.write(tmp_path, stored_object())
    before = Store(tmp_path).history()
    if remembered is None:
        (tmp_path / "history.json").unlink()
    else:
        (tmp_path / "history.json").write_text(remembered)
    assert Store(tmp_path).history() == before


def test_history_does_not_list_removed_files(tmp_path: Path) -> None:
    """No file is opened twice."""
    name = stored_files.write(tmp_path, stored_object())
    assert Store(tmp_path).history()
    stored_files.path_of(tmp_path, name).unlink()
    assert Store(tmp_path).history() == {}


def test_a_lost_cell_is_remembered_until_it_is_observed(tmp_path: Path) -> None:
    """It is remembered by cell; the file may be lost, damaged or unwritable."""
    store = Store(tmp_path)
    store.remember(lost=["a", "b"], observed=["c"])
    store.remember(lost=["d"], observed=["a", "e"])
    assert store.lost().keys() == {"b", "d"}
    (tmp_path / "lost.json").write_text("[1")
    assert store.lost() == {}
    unwritable = Store(tmp_path / "lost.json" / "store")
    unwritable.remember(lost=["a"], observed=[])
    assert unwritable.lost() == {}


# -------------------------------------------------------------------------------------------------------- where it is


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable sets it; the default is the user's cache directory."""
    monkeypatch.setenv("COMPAT_STORE", str(tmp_path / "s"))
    assert places().store == tmp_path / "s"
    monkeypatch.delenv("COMPAT_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert places().store == Path("/c/finetune-compat/store")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert places().store == Path.home() / ".cache/finetune-compat/store"


def test_an_unknown_kind_of_url_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the package that is usually missing."""
    monkeypatch.setenv("COMPAT_STORE_REMOTE", "s4://bucket")
    with pytest.raises(CompatError) as raised:
        Store.configured()
    assert str(raised.value) == (
        "COMPAT_STORE_REMOTE: 's4://bucket' is not a valid URL of a shared store: Protocol not known: s4\n"
        "The protocol is misspelt, or needs another package: s3fs, gcsfs or huggingface_hub.\n"
        "Name a URL such as s3://bucket/compat or hf://datasets/org/name, and install its package in this environment."
    )
    assert raised.value.exit_code is ExitCode.BAD_INPUT


# ------------------------------------------------------------------------------------------------------ a shared store


def test_ten_thousand_names_need_one_listing_of_each_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are not looked up one by one."""
    import os

    store = Store(tmp_path)
    addresses = [replace(recipe_of(seen()), seed=seed).address for seed in range(1000)]
    looks: list[object] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: looks.append(path) or listdir(path))
    assert store.has(addresses) == set()
    assert len(looks) <= 256
