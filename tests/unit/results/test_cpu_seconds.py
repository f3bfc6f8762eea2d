"""The CPU seconds of a baseline's cells."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from finetune_compat.contract.errors import RecordsError
from finetune_compat.results.cpu_seconds import CPU_SECONDS, read_cpu_seconds, write_cpu_seconds


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """The same seconds give the same bytes: a baseline that is written again does not change."""
    seconds = {"b/f[x]@cpu": 0.25, "a/f[x]@cpu": 1.0}
    write_cpu_seconds(tmp_path, seconds)
    before = (tmp_path / CPU_SECONDS).read_bytes()
    write_cpu_seconds(tmp_path, dict(sorted(seconds.items())))
    assert read_cpu_seconds(tmp_path) == seconds
    assert (tmp_path / CPU_SECONDS).read_bytes() == before


def test_a_baseline_without_any_has_no_file(tmp_path: Path) -> None:
    """As those of an older harness."""
    write_cpu_seconds(tmp_path, {})
    assert read_cpu_seconds(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def packed(text: bytes) -> bytes:
    """`text` as the content of the file."""
    return gzip.compress(text, mtime=0)


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        packed(b"no JSON"),
        packed(b"[1]"),
        packed(b'{"a/f[x]@cpu": -1}'),
        packed(b'{"a/f[x]@cpu": NaN}'),
        packed(b'{"a/f[x]@cpu": 1}')[:-4],
    ],
    ids=["no gzip", "no JSON", "a list", "negative", "no number", "cut off"],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    """The message names it."""
    (tmp_path / CPU_SECONDS).write_bytes(content)
    with pytest.raises(RecordsError, match="not the CPU seconds of a baseline") as error:
        read_cpu_seconds(tmp_path)
    assert str(tmp_path / CPU_SECONDS) in str(error.value)
