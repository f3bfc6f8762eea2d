"""Parts: none is larger than the limit, each file is in one part, and all unpack into one folder."""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from pathlib import Path

import pytest
from finetune_compat.bundle.parts import item, pack, refuse_other_contents, take_wheels
from finetune_compat.contract.errors import CompatError, ExitCode
from hypothesis import given, settings
from hypothesis import strategies as st

LIMIT = 60_000


def packed(folder: Path, sizes: list[int], limit: int | None) -> list[Path]:
    """Pack files of these sizes."""
    start = folder / "start.py"
    start.write_text("print()\n")
    items = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}"
        path.write_bytes(bytes([number]) * size)
        # A name as long as numpy's, which needs extra blocks in a tar.
        items.append(item(f"wheels/{number:03}{'-manylinux_2_28_x86_64' * (number % 6)}.whl", path))
    return pack(items, start, {"python": "3.12"}, folder / "parts", limit)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 30_000), max_size=20))
def test_no_part_is_larger_than_asked_and_together_they_are_all(sizes: list[int]) -> None:
    """This holds for all file sizes; sizes are read from the tars."""
    with tempfile.TemporaryDirectory() as name:
        parts = packed(Path(name), sizes, LIMIT)
        assert all(part.stat().st_size <= LIMIT for part in parts)
        held: dict[str, int] = {}
        for number, part in enumerate(parts, 1):
            with tarfile.open(part) as tar:
                for member in tar:
                    held[member.name] = member.size
                manifest = json.loads(tar.extractfile("compat-bundle/manifest.json").read())  # type: ignore[union-attr]
                for path, facts in manifest["files"].items():
                    assert (f"compat-bundle/{path}" in tar.getnames()) == (facts["part"] == number)
        assert sorted(held[f"compat-bundle/{path}"] for path in manifest["files"]) == sorted(sizes)
        assert manifest["parts"] == len(parts)
        assert [part.name for part in parts] == [
            f"compat-bundle-{manifest['id']}-{number}of{len(parts)}.tar" for number in range(1, len(parts) + 1)
        ]


def test_without_a_limit_there_is_one_part(tmp_path: Path) -> None:
    """The one part may have any size."""
    assert len(packed(tmp_path, [100_000, 200_000], None)) == 1


def test_a_file_larger_than_a_part_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    """No file is split: the message names the limit that is needed."""
    with pytest.raises(CompatError) as caught:
        packed(tmp_path, [1000, 5 * 1024 * 1024], 2 * 1024 * 1024)
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert str(caught.value) == (
        "--max-size: 001-manylinux_2_28_x86_64.whl is 5.0 MiB, and a part has room for 2.0 MiB\n"
        "Files are not split: each part contains whole files and the manifest.\n"
        "Allow parts of 7 MiB or more."
    )
    assert not (tmp_path / "parts").exists()


def test_a_folder_with_anything_else_in_it_is_not_replaced(tmp_path: Path) -> None:
    """A folder with foreign files is not removed; a bundle, an empty folder and a missing folder are fine."""
    bundle = tmp_path / "bundle"
    refuse_other_contents(bundle)
    bundle.mkdir()
    refuse_other_contents(bundle)
    (bundle / "compat-bundle-0123abcd-1of2.tar").touch()
    refuse_other_contents(bundle)
    (bundle / "thesis.tex").touch()
    with pytest.raises(CompatError) as caught:
        refuse_other_contents(bundle)
    assert str(caught.value) == (
        f"--out {bundle}: it contains files other than parts of a bundle, for example thesis.tex\n"
        "The new bundle replaces the whole folder.\n"
        "Name a folder that does not exist, is empty, or contains an earlier bundle."
    )


def test_wheels_of_an_earlier_bundle_are_taken_by_hash(tmp_path: Path) -> None:
    """Only wanted wheels are taken; a truncated part loses its content and is no error."""
    parts = packed(tmp_path, [30_000, 30_000, 30_000], LIMIT)
    wanted = {item("", tmp_path / "0").sha256, item("", tmp_path / "2").sha256}
    take_wheels(tmp_path / "parts", wanted, tmp_path / "taken")
    assert {path.read_bytes()[:1] for path in (tmp_path / "taken").iterdir()} == {b"\x00", b"\x02"}
    for part in parts:
        part.write_bytes(part.read_bytes()[:10_000])
    take_wheels(tmp_path / "parts", wanted, tmp_path / "nothing")
    assert list((tmp_path / "nothing").iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_only_files_are_taken_from_an_earlier_bundle(tmp_path: Path, kind: bytes) -> None:
    """A dangling link is ignored."""
    (tmp_path / "old").mkdir()
    with tarfile.open(tmp_path / "old" / "a.tar", "w") as tar:
        for name in ("compat-bundle/wheels/x.whl", "compat-bundle/wheels/../../y.whl", "compat-bundle/wheels//z.whl"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "nowhere"
            tar.addfile(member)
            tar.addfile(tarfile.TarInfo(name.replace("x.whl", "deeper/x.whl")))
    take_wheels(tmp_path / "old", {hashlib.sha256(b"").hexdigest()}, tmp_path / "deep" / "taken")
    assert list((tmp_path / "deep").rglob("*")) == [tmp_path / "deep" / "taken"]
