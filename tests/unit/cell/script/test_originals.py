"""What a watched script is about to change is set aside first."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_compat.cell.script.originals import Originals
from finetune_compat.watch.put_back import put_back, read

OVERWRITES = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
APPENDS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a watch."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = tmp_path / "watch"
    made.mkdir()
    return made


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file of the user."""
    file = tmp_path / "mine"
    file.write_text("weeks of training")
    return file


def opens(originals: Originals, place: Path, flags: int = OVERWRITES) -> None:
    """What Python reports before it opens a file."""
    originals.heard("open", (str(place), "w", flags))


class TestWhatIsSetAside:
    def test_what_is_overwritten_is_empty_before(self, folder: Path, mine: Path) -> None:
        inode = mine.stat().st_ino
        opens(Originals(folder), mine)
        (one,) = read(folder)
        assert (one.path, mine.read_text()) == (str(mine), "")
        aside = Path(one.aside)
        assert (aside.stat().st_ino, aside.read_text()) == (inode, "weeks of training")

    def test_what_is_added_to_is_a_copy(self, folder: Path, mine: Path) -> None:
        mine.chmod(0o640)
        opens(Originals(folder), mine, APPENDS)
        (one,) = read(folder)
        assert mine.read_text() == Path(one.aside).read_text() == "weeks of training"
        assert not mine.samefile(one.aside) and mine.stat().st_mode & 0o777 == 0o640

    def test_once(self, folder: Path, mine: Path) -> None:
        """What the script wrote is not set aside, whichever of its processes writes again."""
        first, second = Originals(folder), Originals(folder)
        opens(first, mine)
        mine.write_text("the script's")
        opens(first, mine)
        opens(second, mine, APPENDS)
        assert (len(read(folder)), mine.read_text()) == (1, "the script's")

    def test_where_a_link_leads(self, folder: Path, mine: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(mine)
        opens(Originals(folder), tmp_path / "link")
        assert [one.path for one in read(folder)] == [str(mine)]

    def test_a_file_system_without_hard_links(self, folder: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", fails)
        opens(Originals(folder), mine, APPENDS)
        mine.write_text("the script's")
        put_back(folder)
        assert mine.read_text() == "weeks of training"


class TestWhatIsNot:
    """Files of the script, of caches, and of the watch."""

    @pytest.mark.parametrize("name", ["new", "directory/below/new"])
    def test_what_the_script_made(self, folder: Path, tmp_path: Path, name: str) -> None:
        first, second = Originals(folder), Originals(folder)
        first.heard("os.mkdir", (str(tmp_path / "directory"), 0o777, -1))
        opens(first, tmp_path / "new")
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("the script's")
        for one in (first, second):
            opens(one, file)
        assert file.read_text() == "the script's" and not any(one.aside for one in read(folder))

    def test_caches(self, folder: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Other processes lock their files."""
        monkeypatch.setenv("HF_HUB_CACHE", str(mine.parent))
        opens(Originals(folder), mine)
        assert read(folder) == []

    def test_bytecode(self, folder: Path, tmp_path: Path) -> None:
        file = tmp_path / "__pycache__" / "train.pyc"
        file.parent.mkdir()
        file.touch()
        opens(Originals(folder), file)
        assert read(folder) == []

    def test_what_is_read_or_no_file(self, folder: Path, mine: Path) -> None:
        originals = Originals(folder)
        opens(originals, mine, os.O_RDONLY)
        opens(originals, Path(os.devnull))
        originals.heard("open", (1, "w", OVERWRITES))
        originals.heard("import", ("torch",))
        assert read(folder) == []

    def test_where_it_fails_anyway(self, folder: Path, tmp_path: Path) -> None:
        """Python's own error is what the script gets."""
        originals = Originals(folder)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine").touch()
        originals.heard("os.rmdir", (str(tmp_path / "full"), -1))
        originals.heard("os.remove", (str(tmp_path / "absent"), -1))
        opens(originals, tmp_path / "full" / "mine", OVERWRITES | os.O_EXCL)
        assert read(folder) == []


class TestARefusal:
    """What cannot be set aside is not changed. The script gets an error of one sentence."""

    def test_without_a_place_for_it(self, folder: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("shutil.copy2", full)
        originals = Originals(folder)
        for _ in range(2):
            with pytest.raises(PermissionError) as raised:
                opens(originals, mine, APPENDS)
        assert str(raised.value) == (
            "[Errno 1] compat watch lets nothing of yours be overwritten or removed, and it cannot be set aside "
            f"([Errno 28] No space left on device). Watch a copy of the directory: '{mine}'"
        )
        assert mine.read_text() == "weeks of training"
        put_back(folder)
        assert sorted(path.name for path in mine.parent.iterdir()) == ["mine", "watch"]

    def test_a_directory_is_not_moved(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "full").mkdir()
        with pytest.raises(PermissionError, match="be moved away, and it existed before the script"):
            Originals(folder).heard("os.rename", (str(tmp_path / "full"), str(tmp_path / "other"), -1, -1))

    def test_originals_are_not_removed(self, folder: Path, mine: Path) -> None:
        """A script may remove all that is around them."""
        originals = Originals(folder)
        opens(originals, mine)
        (one,) = read(folder)
        with pytest.raises(PermissionError, match="originals are there until the script ends"):
            originals.heard("os.remove", (one.aside, -1))

    def test_a_process_that_lives_longer_than_the_watch(self, folder: Path, mine: Path) -> None:
        originals = Originals(folder)
        folder.rmdir()
        with pytest.raises(PermissionError, match="the watch has ended, and this process has not"):
            opens(originals, mine)

    @pytest.mark.parametrize("fails_at", ["link", "replace"])
    def test_a_failure_half_way_leaves_the_original(
        self, folder: Path, mine: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
    ) -> None:
        """The next attempt is refused too: a failure is not remembered as done."""
        inode = mine.stat().st_ino

        def fails(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, fails_at, fails)
            originals = Originals(folder)
            for _ in range(2):
                with pytest.raises(PermissionError):
                    opens(originals, mine)
                assert mine.stat().st_ino == inode
        opens(Originals(folder), mine)
        put_back(folder)
        assert (mine.stat().st_ino, mine.read_text()) == (inode, "weeks of training")


@pytest.mark.parametrize("processes", [4])
def test_processes_that_append_to_one_file_add_to_one_copy(folder: Path, mine: Path, processes: int) -> None:
    """Each could otherwise set aside what another wrote, and lose it."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from finetune_compat.cell.script.originals import Originals\n"
        "Originals(Path(sys.argv[2])).watch()\n"
        "for number in range(50):\n"
        "    with open(sys.argv[3], 'a') as file: file.write('.')\n"
    )
    here = str(Path(__file__).parents[4] / "harness")
    words = [sys.executable, "-c", code, here, str(folder), str(mine)]
    started = [subprocess.Popen(words) for _ in range(processes)]
    assert [process.wait() for process in started] == [0] * processes
    assert mine.read_text() == "weeks of training" + "." * 50 * processes
    put_back(folder)
    assert mine.read_text() == "weeks of training"


def test_a_function_that_writes_without_python_is_wrapped_by_name(folder: Path, mine: Path) -> None:
    written: list[tuple[object, ...]] = []
    write: Callable[..., None] = Originals(folder).writing(lambda *args, **kwargs: written.append(args), 1, "path")
    write({}, mine)
    write({}, path=str(mine))
    write({}, sys.stdout)
    assert len(written) == 3
    assert [one.path for one in read(folder)] == [str(mine)]
