"""Text of any origin is decoded, has its lines, and is parsed in bounded time."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from finetune_compat.stacks.project_files.text import (
    LARGEST,
    MOST_LINES,
    SHOWN,
    Node,
    Text,
    broken,
    other_version,
    quoted,
    read_json,
    read_text,
    read_toml,
    read_yaml,
)
from finetune_compat.stacks.project_files.value import Kind
from project_builders import AT, refused, text


class TestLines:
    def test_only_cr_and_lf_end_a_line(self) -> None:
        """Unicode has further signs that Python's splitlines takes for line ends, and editors do not."""
        assert text("a\nb\r\nc\rd\x0be\x85f\u2028g").lines == ["a", "b", "c", "d\x0be\x85f\u2028g"]

    def test_a_part_of_a_file_has_the_lines_of_the_file(self) -> None:
        """As the block of a script."""
        part = Text(Path("train.py"), "a\nb", first_line=10)
        assert [str(part.place(1)), str(part.place(2)), str(part.place())] == ["train.py:10", "train.py:11", "train.py"]

    def test_headers_have_lines_if_all_are_found(self) -> None:
        """One that stands in a string would move the others."""
        found = text('[[package]]\na = """\n[[package]]\n"""\n[[package]]  \n')
        assert found.headers("[[package]]", 3) == [1, 3, 5]
        assert found.headers("[[package]]", 2) == [0, 0]

    def test_the_first_line_with_a_word(self) -> None:
        """After a line; 0 if there is none."""
        found = text("a b\nb\nc a\n")
        assert [found.find("a"), found.find("a", after=1), found.find("x", "c"), found.find("x")] == [1, 3, 3, 0]

    @pytest.mark.parametrize(
        "line",
        ["trl = 1", "  trl=1", '"trl" = 1', "'trl' = 1", "[tool.trl]", "[[trl]]", "trl.version = 1", "[x.trl.y]"],
    )
    def test_a_key_is_found_as_toml_writes_it(self, line: str) -> None:
        """Bare, quoted, dotted, or as a table."""
        assert text(f"# trl\nother = 1\n{line}\n").key("trl") == 3

    @pytest.mark.parametrize("line", ["trl-x = 1", "xtrl = 1", 'a = "trl = 1"', "# trl = 1"])
    def test_what_only_looks_like_a_key_is_not_found(self, line: str) -> None:
        """A longer name, a value or a comment."""
        assert text(f"{line}\n").key("trl") == 0


class TestFiles:
    @pytest.mark.parametrize(
        ("mark", "encoding"),
        [
            (b"", "utf-8"),
            (codecs.BOM_UTF8, "utf-8"),
            (codecs.BOM_UTF16_LE, "utf-16-le"),
            (codecs.BOM_UTF16_BE, "utf-16-be"),
            (codecs.BOM_UTF32_LE, "utf-32-le"),
            (codecs.BOM_UTF32_BE, "utf-32-be"),
        ],
    )
    def test_a_byte_order_mark_tells_the_encoding(self, tmp_path: Path, mark: bytes, encoding: str) -> None:
        """PowerShell writes UTF-16 for `pip freeze > requirements.txt`."""
        path = tmp_path / "requirements.txt"
        path.write_bytes(mark + "trl # ä\n".encode(encoding))
        assert read_text(path).content == "trl # ä\n"

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"a\nb\xff\n", "{}:2: this is not UTF-8 text: invalid start byte at byte 3"),
            (b"a\nb\0\n", "{}:2: it contains a NUL character"),
            (b"\n" * (MOST_LINES + 1), "{}: it has more than 200,000 lines"),
            (b"x" * (LARGEST + 1), "{}: it has more than 8 MB"),
        ],
    )
    def test_what_is_no_text_is_refused(self, tmp_path: Path, content: bytes, problem: str) -> None:
        """With the line of the first such byte."""
        path = tmp_path / "uv.lock"
        path.write_bytes(content)
        assert refused(lambda: read_text(path)) == problem.format(path)

    def test_the_largest_files_are_read(self, tmp_path: Path) -> None:
        """The limits themselves are allowed."""
        path = tmp_path / "uv.lock"
        path.write_bytes(b"\n" * MOST_LINES)
        assert len(read_text(path).lines) == MOST_LINES + 1
        path.write_bytes(b"x" * LARGEST)
        assert len(read_text(path).content) == LARGEST

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        """The reason of the operating system."""
        path = tmp_path / "gone"
        assert refused(lambda: read_text(path)) == f"{path}: it cannot be read: No such file or directory"


class TestMessages:
    @pytest.mark.parametrize("kind", Kind)
    def test_every_kind_has_a_meaning_and_an_advice(self, kind: Kind) -> None:
        """At the place of the fault."""
        error = broken(kind, AT, "it is odd")
        assert (error.where, error.what) == ("file:3", "it is odd")
        assert error.meaning.endswith(".") and error.todo.endswith(".")

    def test_another_version_names_both(self) -> None:
        """That of the file, and that which is read."""
        error = other_version(Kind.UV_LOCK, AT, 9, "version 1")
        assert error.what == "its format has version 9, and version 1 is read"
        assert "wrote this uv.lock" in error.meaning

    def test_a_long_value_is_cut(self) -> None:
        """A message fits on a screen."""
        assert quoted("a'b") == '"a\'b"'
        assert quoted("x" * 1000) == f"'{'x' * (SHOWN - 1)}..."


class TestTomlAndJson:
    def test_toml(self) -> None:
        """An error has its line."""
        assert read_toml(text("a = 1\n[b]\nc = [2]\n"), Kind.PYPROJECT) == {"a": 1, "b": {"c": [2]}}
        assert refused(lambda: read_toml(text("a = 1\nb = \n"), Kind.PYPROJECT)).startswith("file:2: it is not TOML: ")
        assert refused(lambda: read_toml(text("a = 1\na = 2\n"), Kind.PYPROJECT)).startswith("file:2: it is not TOML: ")

    def test_json(self) -> None:
        """An error has its line."""
        assert read_json(text('[{"a": null}]'), Kind.PIP_LIST) == [{"a": None}]
        assert refused(lambda: read_json(text("[\n1,\n]"), Kind.PIP_LIST)).startswith("file:3: it is not JSON: ")
        deep = "[" * 100_000
        assert refused(lambda: read_json(text(deep), Kind.PIP_LIST)).startswith("file: it is not JSON: it is nested")


class TestYaml:
    def test_scalars_stay_text(self) -> None:
        """YAML 1.1 reads `3.10` as 3.1, and `on` as true."""
        found = read_yaml(text("python: 3.10\npip: on\nnone: ~\nlist: [1, 0x10]\n"), Kind.CONDA_LOCK)
        assert [found.get(key) for key in ("python", "pip", "none", "gone", "list")] == ["3.10", "on", "~", "", ""]
        assert [item.text for item in found.table["list"].items] == ["1", "0x10"]

    def test_values_have_their_lines(self) -> None:
        """Also inside lists and tables."""
        found = read_yaml(text("dependencies:\n  - a\n  - pip:\n    - b\n"), Kind.CONDA_ENVIRONMENT)
        first, second = found.table["dependencies"].items
        assert (first.text, first.line, second.table["pip"].items[0].line) == ("a", 2, 4)

    def test_a_value_of_one_form_is_empty_in_the_others(self) -> None:
        """Readers ask for the form that they expect."""
        for node in (Node(1, "a"), Node(1, [Node(1, "a")]), Node(1, {"a": Node(1, "a")})):
            assert sum(map(bool, (node.text, node.items, node.table))) == 1

    def test_an_empty_file_has_no_value(self) -> None:
        """A comment is no value either."""
        assert read_yaml(text("# nothing\n"), Kind.CONDA_ENVIRONMENT) == Node(1, "")

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("a: b\nc: [\n", "file:3: it is not YAML: "),
            ("a: &a [*a]\n", "file: its aliases repeat values without end"),
            ("a: b\n...\n---\nc: d\n", "file:3: it is not YAML: "),
        ],
    )
    def test_what_is_no_yaml_is_refused(self, content: str, problem: str) -> None:
        """An open bracket, a value that contains itself, and two documents."""
        assert refused(lambda: read_yaml(text(content), Kind.CONDA_ENVIRONMENT)).startswith(problem)

    def test_no_object_is_made(self) -> None:
        """Tags of Python could run code."""
        found = read_yaml(text("a: !!python/object/apply:os.getcwd []\n"), Kind.CONDA_ENVIRONMENT)
        assert (found.table["a"].text, list(found.table["a"].items)) == ("", [])
