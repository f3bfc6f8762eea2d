"""The store: which observation it returns, merging, history, and the shared store behind it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import fsspec
import pytest
from finetune_compat.contract.errors import CompatError, ExitCode, UnknownName
from finetune_compat.machine.places import places
from finetune_compat.store import hub, remote, stored_files
from finetune_compat.store.remote import Remote, StoreUnreachable
from finetune_compat.store.store import Past, Store, latest
from hypothesis import given
from hypothesis import strategies as st
from store_builders import recipe_of, seen, stored_object

EARLY, LATE = "2026-01-01T00:00:00.000000+00:00", "2026-01-02T00:00:00.000000+00:00"


@pytest.fixture
def shared() -> Iterator[Remote]:
    """An empty shared store in this process's memory."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield Remote("memory://team/compat")
    fs.store.clear()


def test_a_stored_observation_is_returned(tmp_path: Path) -> None:
    """It is returned as an observation."""
    store, recipe = Store(tmp_path), recipe_of(seen())
    store.put(recipe, seen())
    assert store.has([recipe.address, "f" * 64]) == {recipe.address}
    assert store.get(recipe.address) == seen()


def test_an_observation_of_another_recipe_is_refused(tmp_path: Path) -> None:
    """Everything that is stored agrees with its address."""
    with pytest.raises(CompatError) as raised:
        Store(tmp_path).put(recipe_of(seen(), torch="2.14.0"), seen())
    assert str(raised.value) == (
        f"{seen().cell}: the observation is not of its recipe: "
        f"torch {seen().stack.resolved['torch']}, expected 2.14.0\n"
        "The environment differs from what the host expected.\n"
        "Delete the environment and run the stack again."
    )
    assert stored_files.names(tmp_path) == {}


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


def test_the_recipe_of_an_observation_is_that_of_its_file(tmp_path: Path) -> None:
    """By the line, at any address; another line of the same cell has none."""
    one, other = stored_object(seen(duration_s=1.0), EARLY), stored_object(seen(duration_s=2.0), LATE, sources="c" * 64)
    for each in (one, other):
        stored_files.write(tmp_path, each)
    for each in (one, other):
        assert Store(tmp_path).recipes({seen().cell: each.line}) == {seen().cell: each.recipe}
    assert Store(tmp_path).recipes({seen().cell: stored_object(seen(duration_s=3.0)).line, "none": one.line}) == {}


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


def test_machines_share_their_results(tmp_path: Path, shared: Remote) -> None:
    """They travel through the shared store; fetched files are stored locally."""
    one, other = Store(tmp_path / "one", shared), Store(tmp_path / "other", shared)
    stored_files.write(one.root, stored_object())
    address = stored_object().recipe.address
    assert (one.push(), one.push()) == (1, 0)
    assert other.has([address]) == {address}
    assert stored_files.names(other.root) == {}
    assert other.read([address]) == {address: stored_object()}
    assert Store(other.root).has([address]) == {address}


def test_local_results_are_not_requested(tmp_path: Path, shared: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing network does not matter if all results are local."""
    stored_files.write(tmp_path, stored_object())
    break_down(monkeypatch, shared)
    address = stored_object().recipe.address
    store = Store(tmp_path, shared)
    assert store.read([address]) == {address: stored_object()}
    assert store.has([address]) == {address}


def test_an_unreachable_shared_store_is_an_error(
    tmp_path: Path, shared: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells do not run again silently."""
    break_down(monkeypatch, shared)
    for ask in (Store(tmp_path, shared).read, Store(tmp_path, shared).has):
        with pytest.raises(StoreUnreachable) as raised:
            ask(["f" * 64])
        assert str(raised.value) == (
            "memory://team/compat: the shared store cannot be listed: TimeoutError: no route\n"
            "The network fails, or the credentials are missing. Results are cached on this machine.\n"
            "Try again, or unset COMPAT_STORE_REMOTE to use only this machine's store. "
            "`compat store push` uploads the missing results later."
        )
        assert raised.value.exit_code is ExitCode.COULD_NOT_TELL


def test_a_damaged_remote_file_is_not_copied(
    tmp_path: Path, shared: Remote, capsys: pytest.CaptureFixture[str]
) -> None:
    """The damaged file is named, and a machine with an intact copy replaces it."""
    one = Store(tmp_path / "one", shared)
    name = stored_files.write(one.root, stored_object())
    path = f"team/compat/objects/{name[:2]}/{name}"
    fs = fsspec.filesystem("memory")
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    fs.pipe(path, b"cut off")
    address = stored_object().recipe.address
    other = Store(tmp_path / "other", shared)
    assert other.read([address]) == {}
    said = capsys.readouterr().err
    problem = "its content does not match the digest in its name; the file is ignored"
    assert f"{name}: {problem} (`compat store verify --remote`)" in said
    assert stored_files.names(other.root) == {}
    assert one.push() == 1
    assert other.read([address]) == {address: stored_object()}


class Hub:
    """A stand-in for the hub's library and its filesystem: it takes commits, and writes no single file."""

    protocol, endpoint, token = "hf", "https://hub", None

    def __init__(self) -> None:
        self.commits: list[dict[str, Any]] = []

    def create_commit(self, **given: Any) -> None:
        self.commits.append(given)

    def resolve_path(self, path: str) -> SimpleNamespace:
        assert path == "datasets/team/results/compat"
        return SimpleNamespace(repo_id="team/results", repo_type="dataset", revision="main", path_in_repo="compat")

    def invalidate_cache(self) -> None:
        pass

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, int]]:
        files = dict(file for each in self.commits for file in each["operations"])
        return {name: {"size": len(content)} for name, content in files.items()}


def test_a_repository_of_the_hub_is_written_by_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One commit has many files: a commit for each file of a matrix would take days."""
    stand_in = Hub()
    library = ModuleType("huggingface_hub")
    library.HfApi = lambda **_: stand_in  # type: ignore[attr-defined]
    library.CommitOperationAdd = lambda **given: (given["path_in_repo"], given["path_or_fileobj"])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setattr(remote, "_filesystem", lambda _: (stand_in, "datasets/team/results/compat"))
    monkeypatch.setattr(hub, "AT_ONCE", 3)
    store = Store(tmp_path, Remote("hf://datasets/team/results/compat"))
    names = [stored_files.write(tmp_path, stored_object(seed=seed)) for seed in range(5)]
    assert (store.push(), store.push()) == (5, 0)
    assert [(each["repo_id"], each["repo_type"], len(each["operations"])) for each in stand_in.commits] == [
        ("team/results", "dataset", 3),
        ("team/results", "dataset", 2),
    ]
    written = {path: content for each in stand_in.commits for path, content in each["operations"]}
    assert written == {
        f"compat/objects/{name[:2]}/{name}": stored_files.path_of(tmp_path, name).read_bytes() for name in names
    }


def break_down(monkeypatch: pytest.MonkeyPatch, shared: Remote) -> None:
    """Disconnect the network."""

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("no route")

    monkeypatch.setattr(shared._fs, "find", fail)


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
