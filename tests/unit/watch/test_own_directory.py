"""The copy of the current directory in which a script runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from finetune_compat.watch import own_directory as module
from finetune_compat.watch.own_directory import own_directory


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project with a script, its modules and data, beside another directory."""
    for name in (
        "project/train.py",
        "project/lib/data.py",
        "project/.git/HEAD",
        "project/venv/pyvenv.cfg",
        "data/rows",
    ):
        file = tmp_path / "home" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (tmp_path / "home/project/latest").symlink_to("lib/data.py")
    (tmp_path / "home/project/lib/__pycache__").mkdir()
    (tmp_path / "root").mkdir()
    return tmp_path / "home"


def copied(home: Path, *directories: Path) -> Path:
    """The copy of `home` below the root."""
    root = home.parent / "root"
    own_directory(root, directories or (home / "project",), "compat-watch-")
    return Path(f"{root}{home}")


def test_files_are_copies_and_what_is_beside_them_is_a_link(home: Path) -> None:
    """A script changes its own copy, and finds `../data`. Repositories and environments are not copied."""
    own = copied(home)
    (own / "project/lib/data.py").write_text("changed")
    (own / "project/new").touch()
    assert (home / "project/lib/data.py").read_text() == "project/lib/data.py"
    assert not (home / "project/new").exists()
    assert (own / "project/../data/rows").read_text() == "data/rows"
    links = {path.name for path in own.rglob("*") if path.is_symlink()}
    assert links == {"data", ".git", "venv", "latest"}
    assert (own / "project/latest").readlink() == home / "project/lib/data.py"
    assert not (own / "project/lib/__pycache__").exists()


def test_each_directory_has_its_own_path(home: Path) -> None:
    """A script may be in another directory than the one it runs in. Their order does not matter."""
    for directories in ([home / "project/lib", home / "data"], [home / "project", home / "project/lib"]):
        own = copied(home, *directories)
        assert all(not (own / directory.relative_to(home)).is_symlink() for directory in directories)
        assert (own / "project/lib/data.py").read_text() == "project/lib/data.py"
        module.shutil.rmtree(home.parent / "root")
        (home.parent / "root").mkdir()


@pytest.mark.parametrize(("limit", "value"), [("LARGEST", 3), ("MOST_BYTES", 3), ("MOST_FILES", 0)])
def test_what_exceeds_a_limit_is_a_link(home: Path, limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data and weights are read, not changed."""
    monkeypatch.setattr(module, limit, value)
    own = copied(home)
    assert (own / "project/train.py").readlink() == home / "project/train.py"


def test_a_directory_of_a_watch_is_left_out(home: Path) -> None:
    """The copy itself is in the directory that is copied, where a script runs in the temporary directory."""
    root = home / "compat-watch-1" / "own"
    root.mkdir(parents=True)
    own_directory(root, [home], "compat-watch-")
    assert sorted(path.name for path in Path(f"{root}{home}").iterdir()) == ["data", "project"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_a_link(home: Path) -> None:
    """The script gets the same error as without a copy."""
    (home / "project/train.py").chmod(0)
    assert (copied(home) / "project/train.py").is_symlink()


def test_what_is_gone_when_it_is_copied_is_a_link(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may change the directory meanwhile. The script finds no file, as it would there."""

    def gone(source: str, _: Path) -> None:
        raise FileNotFoundError(source)

    monkeypatch.setattr(module.shutil, "copy2", gone)
    assert (copied(home) / "project/train.py").is_symlink()
