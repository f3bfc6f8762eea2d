"""Files from elsewhere cannot hang or exhaust a command."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_compat.machine import foreign
from finetune_compat.machine.foreign import DEEPEST, parsed


def packed(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A tar.gz of these members."""
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def plain(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """A file of an archive."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def anything(_name: str) -> bool:
    """Allow every name."""
    return True


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """While open, less than 100 MB are allocated."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_an_archive_may_not_expand_without_end(tmp_path: Path) -> None:
    """One megabyte of gzip becomes one gigabyte. The archive is refused before the limit is exceeded."""
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(300_000_000)
    with tarfile.open(tmp_path / "x", "w:gz", compresslevel=1) as archive:
        archive.add(tmp_path / "zeros", "x")
    assert foreign.most_of((tmp_path / "x").stat().st_size) < 70_000_000
    with bounded(), pytest.raises(ValueError, match="expands to more than 30 times its size"):
        foreign.members(tmp_path / "x", anything, "it")


def test_a_gzip_file_may_not_expand_without_end(tmp_path: Path) -> None:
    """The same holds for packed observations; what real ones expand to is allowed."""
    (tmp_path / "x").write_bytes(gzip.compress(bytes(50_000_000), 1))
    with bounded(), pytest.raises(ValueError, match="expands to more than 30 times its size"):
        foreign.expanded(tmp_path / "x")
    (tmp_path / "x").write_bytes(gzip.compress(bytes(foreign.FREE)))
    assert foreign.expanded(tmp_path / "x") == bytes(foreign.FREE)


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    """Its header alone says how many zeros it has."""
    member = tarfile.TarInfo("x")
    member.pax_headers = {"GNU.sparse.size": "999999999999", "GNU.sparse.numblocks": "0", "GNU.sparse.map": "0,0"}
    with bounded(), pytest.raises(foreign.Refused, match="it has an entry that is not a regular file: 'x'"):
        foreign.members(packed(tmp_path / "x.tar.gz", (member, b"")), anything, "it")


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    """tarfile reads the extension of a header as a whole."""
    member = tarfile.TarInfo("x")
    member.pax_headers = {"comment": "x" * 70_000}
    with pytest.raises(foreign.Refused, match=r"it has a header of 70,0\d\d bytes"):
        foreign.members(packed(tmp_path / "x.tar.gz", (member, b"")), anything, "it")


def test_an_archive_has_no_endless_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header of an empty file has 512 bytes, and almost none compressed."""
    monkeypatch.setattr(foreign, "MOST_MEMBERS", 2)
    files = [plain(str(number), b"") for number in range(3)]
    assert set(foreign.members(packed(tmp_path / "2", *files[:2]), anything, "it")) == {"0", "1"}
    with pytest.raises(foreign.Refused, match="it has more than 2 files"):
        foreign.members(packed(tmp_path / "3", *files), anything, "it")


def test_a_name_is_asked_for_before_its_content_is_read(tmp_path: Path) -> None:
    """The first name that does not belong there ends the reading."""
    path = packed(tmp_path / "x.tar.gz", plain("a", b"1"), plain("b", b"2"))
    asked: list[str] = []
    with pytest.raises(foreign.Refused, match="it has a file that `export` does not write: 'a'"):
        foreign.members(path, lambda name: bool(asked.append(name)), "`export`")
    assert asked == ["a"]
    assert foreign.members(path, anything, "it") == {"a": b"1", "b": b"2"}


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """Its size is known before."""
    with (tmp_path / "x").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ValueError, match="has 1,000,000,000,000 bytes, and at most 67,108,864 are read"):
        foreign.read_whole(tmp_path / "x")
    for read in (foreign.expanded, lambda path: foreign.members(path, anything, "it")):
        with pytest.raises(ValueError, match="and at most 67,108,864 are read"):
            read(tmp_path / "x")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """No one may write into it. A folder stays the error of the operating system."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is not a regular file"):
        foreign.read_whole(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is not a regular file"):
        foreign.read_whole(Path("/dev/zero"))
    with pytest.raises(IsADirectoryError):
        foreign.read_whole(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[" * 200_000 + b"]" * 200_000, "is nested more than 100 levels deep"),
        (b'{"a":' * 101 + b"{}" + b"}" * 101, "is nested more than 100 levels deep"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "is not JSON: a number of 5,000 digits"),
        (b"\xff\xfe", "is not JSON: 'utf-8' codec"),
        (b"", "is not JSON: "),
        (b"{", "is not JSON: "),
        (b"NaN]", "is not JSON: "),
    ],
)
def test_what_is_no_json_is_one_error(content: bytes, problem: str) -> None:
    """No depth and no number of digits ends in another exception. The message can follow the name of the file."""
    with pytest.raises(ValueError, match=f"^{problem}"):
        foreign.parsed(content)


def nested(levels: int, opening: str, closing: str) -> bytes:
    return (opening * levels + "1" + closing * levels).encode()


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
def test_what_is_nested_deeper_than_any_real_file_is_refused(opening: str, closing: str) -> None:
    """The limit itself is allowed. Far beyond it, the parser of the standard library would raise RecursionError."""
    text = nested(DEEPEST, opening, closing)
    assert parsed(text) == json.loads(text)
    for levels in (DEEPEST + 1, 200_000):
        with pytest.raises(ValueError, match=f"^is nested more than {DEEPEST} levels deep$"):
            parsed(nested(levels, opening, closing))


def test_many_items_beside_each_other_are_not_deep() -> None:
    """A vocabulary has a hundred thousand."""
    assert len(parsed(b"[" + b"[1]," * 100_000 + b"[1]]")) == 100_001


def test_options_are_those_of_the_standard_library() -> None:
    """A reader may refuse duplicate keys."""
    assert parsed(b'{"a": 1, "a": 2}', object_pairs_hook=list) == [("a", 1), ("a", 2)]
