"""Files and directories that exist completely or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from finetune_compat.machine import files
from finetune_compat.machine.files import (
    link_atomically,
    locked_file,
    making,
    remaking,
    replacing,
    sha256_of,
    write_atomically,
)


@pytest.mark.parametrize("content", ["ä\n", b"\xff"])
def test_what_is_written_replaces_what_was_there(tmp_path: Path, content: str | bytes) -> None:
    """Text is UTF-8 and readable for everyone; no other file remains."""
    path = tmp_path / "new" / "file"
    write_atomically(path, "before")
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def _cut_off(path: Path, folder: Path) -> None:
    with replacing(path) as part, making(folder) as made:
        part.write_text("half")
        (made / "half").touch()
        raise KeyboardInterrupt


def test_an_interrupted_write_changes_nothing(tmp_path: Path) -> None:
    """This holds for files and for directories."""
    write_atomically(tmp_path / "file", "before")
    with pytest.raises(KeyboardInterrupt):
        _cut_off(tmp_path / "file", tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "before"


def test_a_directory_appears_with_all_its_files(tmp_path: Path) -> None:
    """It does not replace a directory that has files."""
    for _ in range(2):
        with making(tmp_path / "folder") as folder:
            assert not (tmp_path / "folder" / "file").exists()
            (folder / "file").touch()
        assert (tmp_path / "folder" / "file").exists()
        (tmp_path / "folder" / "file").unlink()
    (tmp_path / "folder" / "other").touch()
    with pytest.raises(OSError, match="not empty"), making(tmp_path / "folder"):
        pass


def filled(folder: Path, name: str, *, stopped: bool = False) -> None:
    """Remake a directory with one file."""
    with remaking(folder) as whole:
        (whole / name).touch()
        if stopped:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kernel", [True, False])
def test_a_directory_is_replaced_with_all_that_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kernel: bool
) -> None:
    """Also where the kernel cannot exchange two names; nothing of the old one is left."""
    if not kernel:
        monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: object())
    for name in ("one", "two"):
        filled(tmp_path / "folder", name)
        assert [path.name for path in (tmp_path / "folder").iterdir()] == [name]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_directory_that_is_not_finished_replaces_nothing(tmp_path: Path) -> None:
    """The old one is whole."""
    filled(tmp_path / "folder", "one")
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path / "folder", "two", stopped=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "one"]


def test_a_link_is_replaced(tmp_path: Path) -> None:
    """This also works without an earlier link."""
    for target in ("one", "two"):
        link_atomically(tmp_path / "latest", target)
        assert (tmp_path / "latest").readlink() == Path(target)
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    """A caller that does not wait is refused; afterwards the lock is free."""
    with (
        locked_file(tmp_path / "new" / "lock"),
        pytest.raises(BlockingIOError),
        locked_file(tmp_path / "new" / "lock", wait=False),
    ):
        pass
    with locked_file(tmp_path / "new" / "lock", wait=False):
        pass


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_the_digest_of_a_file_is_that_of_its_content(tmp_path: Path, size: int) -> None:
    """However it is read."""
    (tmp_path / "a").write_bytes(b"\5" * size)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"\5" * size).hexdigest()


def test_a_short_write_is_an_error_and_not_a_lost_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may write less than it was given; on a full disk it then says so."""
    import errno
    import os

    real, room = os.write, [3, 4, 10]

    def short(handle: int, content: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, content[: room.pop(0)])

    monkeypatch.setattr(files.os, "write", short)
    files.append(tmp_path / "x", b"0123456789\n")
    assert (tmp_path / "x").read_bytes() == b"0123456789\n"
    with pytest.raises(OSError, match="No space left on device"):
        files.append(tmp_path / "x", b"0123456789\n")


def test_a_durable_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power failure the name would otherwise be there, and the content empty."""
    done: list[str] = []
    real = files.sync
    monkeypatch.setattr(files, "sync", lambda path: (done.append(path.name[:5]), real(path)))
    write_atomically(tmp_path / "folder" / "x", "content", durable=True)
    assert done == [".part", "folde"]
    write_atomically(tmp_path / "folder" / "x", "content")
    assert len(done) == 2


def test_lines_are_appended_in_one_piece(tmp_path: Path) -> None:
    """Existing lines stay."""
    (tmp_path / "x").write_text("a\n")
    files.append(tmp_path / "x", b"b\nc\n")
    assert (tmp_path / "x").read_text() == "a\nb\nc\n"
