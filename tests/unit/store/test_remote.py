"""A shared store at a URL."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from finetune_compat.contract.errors import ExitCode
from finetune_compat.store import stored_files
from finetune_compat.store.remote import Remote, StoreUnreachable
from finetune_compat.store.store import Store
from store_builders import stored_object


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


def break_down(monkeypatch: pytest.MonkeyPatch, shared: Remote) -> None:
    """Disconnect the network."""

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("no route")

    monkeypatch.setattr(shared._fs, "find", fail)
