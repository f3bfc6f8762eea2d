"""Scripts and notebooks are parsed; what cannot be parsed is named, and ends nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from finetune_compat.audit.sources import LARGEST, Source, Unread, find_sources, read_source


def notebook(*cells: str) -> str:
    """A notebook with a text cell first."""
    code = [{"cell_type": "code", "source": text.splitlines(keepends=True)} for text in cells]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": ["# T"]}, *code]})


def read(tmp_path: Path, name: str, text: str | bytes) -> Source | Unread:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_source(path, tmp_path)


def test_cells_of_a_notebook_keep_their_numbers_and_lines(tmp_path: Path) -> None:
    """Magics become comments, so that lines stay where they are."""
    source = read(
        tmp_path, "a.ipynb", notebook("%pip install trl\nx = 1", "%%bash\nls | wc", "files = !ls\n?x\ny = x\n")
    )
    assert isinstance(source, Source)
    names = {node.id: node.lineno for node in __import__("ast").walk(source.tree) if hasattr(node, "id")}
    assert source.where(names["y"]) == "a.ipynb, cell 4, line 3"
    assert source.where(2) == "a.ipynb, cell 2, line 2"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.py", "print 'x'\n", "not Python 3"),
        ("a.py", "x = (\n", "not Python 3"),
        ("a.py", b"\xff\xfe\x00", "codec"),
        ("a.py", "x = 1\0", "not Python 3"),
        ("a.py", "(" * 200_000, "not Python 3"),
        ("a.py", "x = 1\n" * (LARGEST // 5), "at most 2,000,000 are read"),
        ("a.ipynb", "{}", "not a notebook"),
        ("a.ipynb", "[" * 100_000, ""),
        ("a.ipynb", "nothing", "Expecting value"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str | bytes, problem: str) -> None:
    """With its line, and in one sentence."""
    found = read(tmp_path, name, text)
    assert isinstance(found, Unread)
    assert problem in found.problem
    assert "\n" not in found.problem


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe has no end, and a device may give bytes without end."""
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "zero.py").symlink_to("/dev/zero")
    (tmp_path / "deep.ipynb").write_text("[" * 200_000)
    sources, unread = find_sources(tmp_path)
    assert sources == []
    assert {one.shown: one.problem for one in unread} == {
        "deep.ipynb": "is nested more than 100 levels deep",
        "pipe.py": "is not a regular file",
        "zero.py": "is not a regular file",
    }


def test_environments_and_hidden_folders_are_left_out(tmp_path: Path) -> None:
    """They are not the project's code."""
    for folder in (".git", "venv-of-mine", "node_modules", "pkg"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("x = 1\n")
    (tmp_path / "venv-of-mine" / "pyvenv.cfg").write_text("")
    sources, unread = find_sources(tmp_path)
    assert [source.shown for source in sources] == ["pkg/a.py"]
    assert unread == []


def test_a_name_cannot_steer_a_terminal(tmp_path: Path) -> None:
    """Control characters of a file's name are replaced."""
    found = read(tmp_path, "a\x1b[2J.py", "x = 1\n")
    assert isinstance(found, Source) and found.shown == "a?[2J.py"
