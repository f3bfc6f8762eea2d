"""Files of installed packages, and what the RECORD of their wheels says (PEP 376, PEP 427)."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from finetune_compat.machine.wheel_records import Recorded, below, digest, recorded


def written(site: Path, name: str, record: str) -> None:
    """Write the RECORD of a package."""
    folder = site / f"{name}.dist-info"
    folder.mkdir(parents=True)
    (folder / "RECORD").write_text(record)


def test_each_file_has_its_package_hash_and_size(tmp_path: Path) -> None:
    """RECORD itself has neither hash nor size. Scripts are outside of site-packages."""
    written(
        tmp_path,
        "peft-0.21.2",
        "peft/__init__.py,sha256=AbC_-1,120\npeft-0.21.2.dist-info/RECORD,,\n../../../bin/peft,sha256=x,9\n/abs,sha256=x,9\n",
    )
    written(tmp_path, "trl-1.0", "trl.py,sha256=Def,7\n")
    assert recorded(tmp_path) == {
        "peft/__init__.py": Recorded("peft-0.21.2", "AbC_-1", 120),
        "peft-0.21.2.dist-info/RECORD": Recorded("peft-0.21.2", "", None),
        "trl.py": Recorded("trl-1.0", "Def", 7),
    }


def test_a_path_with_a_comma_is_quoted(tmp_path: Path) -> None:
    """RECORD is CSV; a line that has no three fields is no file."""
    written(tmp_path, "x-1", '"a,b.py",sha256=A,1\nc.py,sha256=B,2\n\n"d"\n')
    assert {path: (found.sha256, found.size) for path, found in recorded(tmp_path).items()} == {
        "a,b.py": ("A", 1),
        "c.py": ("B", 2),
    }


def test_a_path_with_a_comma_and_without_quotes(tmp_path: Path) -> None:
    """Some installers do not quote: hash and size are the last two fields."""
    written(tmp_path, "x-1", "a,b.py,sha256=A,1\n")
    assert list(recorded(tmp_path)) == ["a,b.py"]


def test_a_record_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Its size is no number."""
    written(tmp_path, "x-1", "a.py,sha256=A,one\n")
    with pytest.raises(ValueError, match="one"):
        recorded(tmp_path)


@pytest.mark.parametrize("content", [b"", b"import trl\n", bytes(range(256)) * 4096])
def test_a_hash_is_in_the_encoding_of_record(tmp_path: Path, content: bytes) -> None:
    """PEP 427: urlsafe base64 without its padding."""
    path = tmp_path / "a.py"
    path.write_bytes(content)
    expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    assert digest(path) == digest(str(path)) == expected


def test_everything_below_a_folder_except_bytecode(tmp_path: Path) -> None:
    """A link to a folder is one entry, and a link to nothing is one too."""
    (tmp_path / "a" / "__pycache__").mkdir(parents=True)
    for name in ("a/b.py", "a/__pycache__/b.cpython-311.pyc", "c.pyc", "d.so"):
        (tmp_path / name).write_text("x")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    found = below(tmp_path)
    assert set(found) == {"a/b.py", "d.so", "elsewhere", "broken"}
    assert found["a/b.py"].st_ino == (tmp_path / "a" / "b.py").stat().st_ino
