"""After a watch, files that existed before are as they were, whatever its script did to them."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from finetune_compat.contract.errors import CompatError, StackFailed
from finetune_compat.contract.script import ORIGINALS, Original
from finetune_compat.watch.host import Interpreter, run_pipeline
from finetune_compat.watch.put_back import put_back, read, sentences

HERE = Interpreter("own", Path(sys.executable))

CHANGES = {
    "open": 'open("file", "w").write("new"); assert open("file").read() == "new"',
    "Path.write_text": 'Path("file").write_text("new"); assert Path("file").read_text() == "new"',
    "os.open": 'f = os.open("file", os.O_WRONLY | os.O_TRUNC); os.write(f, b"new")',
    "append": 'open("file", "a").write(" new"); assert Path("file").read_text() == "old new"',
    "update": 'f = open("file", "r+"); f.write("new"); f.close(); assert Path("file").read_text() == "new"',
    "through a link": 'Path("link").write_text("new"); assert Path("file").read_text() == "new"',
    "replace": 'Path("part").write_text("new"); os.replace("part", "file"); assert Path("file").read_text() == "new"',
    "replace a link": 'Path("part").write_text("new"); os.replace("part", "link")',
    "rename": 'os.rename("file", "file.1"); Path("file.1").write_text("new"); assert not Path("file").exists()',
    "remove": 'os.remove("file"); assert not Path("file").exists(); Path("file").mkdir(); Path("file/f").touch()',
    "remove a link": 'os.unlink("link")',
    "rmtree": 'shutil.rmtree("full"); Path("full/deep").mkdir(parents=True); Path("full/deep/file").write_text("new")',
    "rmtree, then a file": 'shutil.rmtree("full"); Path("full").write_text("new")',
    "move": 'shutil.move("full", "away"); assert Path("away/deep/file").read_text() == "old" and not exists("full")',
    "copy": 'Path("part").write_text("new"); shutil.copy("part", "file")',
    "truncate": 'os.truncate("file", 1); assert Path("file").read_text() == "o"',
    "chmod": 'os.chmod("file", 0o600); Path("file").touch()',
    "fileinput": 'import fileinput\nfor line in fileinput.input("file", inplace=True): print("new")',
    "sqlite3": 'import sqlite3; c = sqlite3.connect("base"); c.execute("insert into t values (2)"); c.commit()\n'
    'assert c.execute("select count(*) from t").fetchone() == (2,)',
    "safetensors": 'from safetensors.numpy import save_file, load_file; save_file({"a": np.ones(3)}, "file")\n'
    'assert load_file("file")["a"].sum() == 3',
    "memmap": 'm = np.load("array.npy", mmap_mode="r+"); m[0] = 5; m.flush(); assert np.load("array.npy")[0] == 5',
    "savez": 'np.savez("file", a=np.ones(2)); os.replace("file.npz", "file")',
    "child": "import subprocess; subprocess.run([sys.executable, \"-c\", \"open('file', 'w')\"], check=True)",
    "fork": "p = os.fork()\nif not p: open('file', 'w').write('new'); os._exit(0)\nos.waitpid(p, 0)",
    "then killed": 'Path("file").write_text("new"); os.kill(os.getpid(), 9)',
    "then os._exit": 'Path("file").write_text("new"); os._exit(0)',
}


def snapshot() -> dict[str, object]:
    """Names, contents, numbers, modes and times of the user's files."""
    return {
        str(path): (state.st_ino, state.st_mode, state.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [*Path().glob("[!t]*"), *Path("full").rglob("*")]
        for state in (path.lstat(),)
        if not path.is_dir()
    } | {str(path): path.stat().st_mode for path in (Path("full"), Path("full/deep"))}


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full/deep").mkdir(parents=True)
    Path("full/deep").chmod(0o750)
    for place in ("file", "full/file", "full/deep/file"):
        Path(place).write_text("old")
    Path("link").symlink_to("file")
    np.save("array.npy", np.zeros(2))
    with sqlite3.connect("base") as base:
        base.execute("create table t (x)")
        base.execute("insert into t values (1)")


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_script_does_to_the_users_files_is_undone(change: str) -> None:
    """The script finds what it wrote, and its user finds what was there before, with the same inode and time."""
    Path("train.py").write_text(
        "import os, shutil, sys\nfrom os.path import exists\nfrom pathlib import Path\nimport numpy as np\n"
        f'{CHANGES[change]}\nPath("told").write_text("done")\n'
    )
    before = snapshot()
    with pytest.raises(StackFailed) as raised:  # no library of the stack was seen
        run_pipeline(["train.py"], HERE)
    assert Path("told").exists() or "then" in change, raised.value
    assert {name: found for name, found in snapshot().items() if name in before} == before
    assert not [path for path in Path().rglob("*") if ".originals" in path.name or "compat" in path.name]


def test_the_record_says_what_was_undone() -> None:
    found = [
        *(Original(f"{Path.cwd()}/{name}/f", aside="/x") for name in "abcdefg"),
        Original(f"{Path.cwd()}/a/g", aside="/x"),
        Original("/elsewhere/gone", mode=0o755),
        Original(f"{Path.cwd()}/new/file", made=True),
    ]
    told = "that existed before are as they were: what the script wrote to them was deleted"
    assert sentences(found[:1]) == (f"files in 'a' {told}",)
    assert sentences(found)[4:] == (f"files in 'e' {told}", "and files in 3 other directories")
    assert sentences([found[-2]]) == (f"files in '/elsewhere' {told}",)
    assert sentences([found[-1]]) == ()


def note(folder: Path, *records: Original) -> Path:
    """The folder of a watch whose script noted `records`."""
    folder.mkdir(exist_ok=True)
    (folder / ORIGINALS).write_bytes(b"".join(one.line() for one in records))
    return folder


def aside(text: str) -> Path:
    """A file that was set aside."""
    Path("originals").mkdir(exist_ok=True)
    Path("originals/1").write_text(text)
    return Path("originals/1").resolve()


class TestAfterAKill:
    """The next watch puts the files back."""

    def test_the_file_before_is_back(self) -> None:
        folder = note(Path("watch"), Original(str(Path("file").resolve()), str(aside("older"))))
        put_back(folder, ended_at=time.time())
        assert Path("file").read_text() == "older" and not Path("originals").exists()

    def test_what_the_user_has_written_since_stays(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("file.before-compat-watch").touch()
        folder = note(Path("watch"), Original(str(Path("file").resolve()), str(aside("older"))))
        put_back(folder, ended_at=time.time() - 60)
        assert Path("file").read_text() == "old"
        assert Path("file.before-compat-watch2").read_text() == "older"
        assert capsys.readouterr().err == (
            f"{Path('file').resolve()}: newer than the watch that was killed; the file before it is "
            f"{Path('file.before-compat-watch2').resolve()}\n"
        )

    def test_a_line_that_was_cut_off_names_nothing(self) -> None:
        folder = note(Path("watch"), Original(str(Path("file").resolve()), str(aside("older"))))
        with (folder / ORIGINALS).open("ab") as file:
            file.write(b'{"path": "/etc')
        assert len(read(folder)) == 1

    def test_what_was_noted_and_not_done(self) -> None:
        folder = note(Path("watch"), Original(str(Path("file").resolve()), str(Path("originals/1").resolve())))
        put_back(folder)
        assert Path("file").read_text() == "old"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may write where nobody may, and so make this place")
def test_a_file_that_cannot_be_put_back_is_named_with_its_place() -> None:
    """Nothing deletes it."""
    place = Path("/proc/file")
    folder = note(Path("watch"), Original(str(place), str(aside("older"))))
    with pytest.raises(CompatError) as raised:
        put_back(folder)
    assert str(raised.value).startswith("/proc/file: it could not be put back: ")
    assert str(raised.value).endswith(f"The original is {Path('originals/1').resolve()}. Move it back.")
    assert Path("originals/1").read_text() == "older"
