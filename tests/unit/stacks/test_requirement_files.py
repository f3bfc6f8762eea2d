"""Files that name versions, as text and as hashed pins. `gate/test_inputs` tests how gates use them."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from finetune_compat.stacks.requirement_files import Malformed, Pin, open_file, pins_of

TEXT = "trl==0.23.1\r\npeft==0.17.1\r\n"
HASHED = ["trl==0.23.1 \\", f"    --hash=sha256:{'a' * 64} \\", f"    --hash=sha256:{'b' * 64}"]


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
    ],
)
def test_a_byte_order_mark_names_the_encoding(tmp_path: Path, content: bytes) -> None:
    """pip and uv do so too, also in an included file; editors on Windows write such files."""
    (tmp_path / "inner.txt").write_bytes(content)
    (tmp_path / "outer.txt").write_text("-r inner.txt")
    for name in ("inner.txt", "outer.txt"):
        read = open_file(tmp_path / name).versions("3.11")
        assert (list(map(str, read.requirements)), read.not_followed) == (["trl==0.23.1", "peft==0.17.1"], ())


def test_what_is_in_no_known_encoding_is_refused(tmp_path: Path) -> None:
    """The message has the reason."""
    (tmp_path / "x.txt").write_bytes(b"\xe4")
    with pytest.raises(Malformed, match=r"^it cannot be read: 'utf-8' codec can't decode"):
        open_file(tmp_path / "x.txt")


def test_hashed_pins_are_read_whole() -> None:
    """Markers are allowed only in their place."""
    assert pins_of(HASHED) == (Pin("trl", "0.23.1", frozenset({"a" * 64, "b" * 64})),)
    marked = ["trl==0.23.1 ; sys_platform == 'linux' \\", HASHED[2]]
    assert pins_of(marked, markers=True) == (Pin("trl", "0.23.1", frozenset({"b" * 64})),)
    with pytest.raises(Malformed, match=r"^line 7 is neither"):
        pins_of(marked, first_line=7)


@pytest.mark.parametrize(
    "lines",
    [[], HASHED[:1], HASHED[:2], HASHED[1:], [*HASHED, *HASHED], [HASHED[0], *HASHED], [*HASHED, "# more"]],
)
def test_truncated_or_changed_hashed_pins_are_refused(lines: list[str]) -> None:
    """Examples: an empty file, no hash, a file cut inside hashes, no package, a duplicate, one without a hash, another
    line.
    """
    with pytest.raises(Malformed):
        pins_of(lines)
