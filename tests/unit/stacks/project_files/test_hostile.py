"""Hostile and damaged input ends in one clear error, in bounded time. Written with hypothesis for each format."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from finetune_compat.contract.errors import ExitCode, ProjectFileError
from finetune_compat.stacks.project_files.reading import read_project
from finetune_compat.stacks.project_files.text import LARGEST
from finetune_compat.stacks.project_files.value import Project
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

LIMIT_S = 5
NAMES = (
    "requirements.txt",
    "pyproject.toml",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "pylock.toml",
    "environment.yml",
    "packages.json",
    "train.py",
)
DEEP = 200_000
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""A billion values in nine lines."""

CONTENTS = {
    "brackets": b"[" * DEEP,
    "nested tables": b"a = " + b"{a=" * DEEP,
    "nested arrays": b"a = " + b"[" * DEEP,
    "a key of many parts": b"a" + b".a" * DEEP + b" = 1\n",
    "a header of many parts": b"[a" + b".a" * DEEP + b"]\n",
    "nested JSON": b'{"_meta": ' + b"[" * DEEP,
    "nested YAML": b"dependencies: " + b"[" * DEEP,
    "YAML aliases": BOMB.encode() + b"dependencies: *i\n",
    "YAML that contains itself": b"dependencies: &a [*a]\n",
    "parentheses": b"trl; " + b"(" * DEEP,
    "a long version": b"trl==" + b"1" * DEEP,
    "a long specifier": b"trl" + b",".join([b">1"] * DEEP),
    "extras": b"trl[" + b"a," * DEEP + b"]",
    "backslashes": b"trl \\\n" * DEEP,
    "NUL": b"trl==0.22.2\n\0",
    "no UTF-8": b"trl==0.22.2\n\xff\xfe\xfd",
    "half of UTF-16": b"\xff\xfet\0r",
    "10 MB": b"x" * 10_000_000,
    "8 MB of lines": b"a\n" * (LARGEST // 2),
    "8 MB of words": b"a" * LARGEST,
    "8 MB of pairs": b"a: b\n" * (LARGEST // 5),
    "8 MB of pairs in one line": b"{" + b"a: b," * (LARGEST // 5 - 1) + b"}",
    "8 MB of comments": b"#" * (LARGEST // 2),
    "many requirements": b"a\n" * 190_000,
    "many pairs": b"a: b\n" * 190_000,
    "many comments": b"# a\n" * 190_000,
    "a surrogate": b'["\\ud800"]',
    "a long number": b"[" + b"9" * DEEP + b"]",
    "nothing": b"",
}


def read(path: Path) -> Project | ProjectFileError:
    """The project, or the one error that is allowed."""
    try:
        return read_project(path)
    except ProjectFileError as error:
        found = error
    assert found.exit_code is ExitCode.BAD_INPUT
    assert found.what and found.where and found.meaning and found.todo
    return found


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", NAMES)
def test_hostile_content_ends_in_time(tmp_path: Path, name: str, content: str) -> None:
    """With a project or with one short error, whatever the file's name says."""
    path = tmp_path / name
    path.write_bytes(CONTENTS[content])
    begun = time.process_time()
    found = read(path)
    assert time.process_time() - begun < LIMIT_S
    assert isinstance(found, Project) or len(str(found)) < 100_000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", ["brackets", "NUL", "no UTF-8", "10 MB"])
def test_what_can_be_nothing_is_refused(tmp_path: Path, name: str, content: str) -> None:
    """The same for every kind of file."""
    path = tmp_path / name
    path.write_bytes(CONTENTS[content])
    assert isinstance(read(path), ProjectFileError)


def test_includes_do_not_multiply(tmp_path: Path) -> None:
    """Each file includes the next one twice: 2 ** 40 lines if each were read each time."""
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"-r {number + 1}.txt\n" * 2)
    (tmp_path / "40.txt").write_text("trl==0.22.2\n")
    found = read_project(tmp_path / "0.txt")
    assert list(map(str, found.packages)) == ["trl==0.22.2"]


def test_a_long_chain_of_includes_is_one_error(tmp_path: Path) -> None:
    """Deeper than Python's stack."""
    for number in range(2000):
        (tmp_path / f"{number}.txt").write_text(f"-r {number + 1}.txt\n")
    (tmp_path / "2000.txt").write_text("trl==0.22.2\n")
    found = read(tmp_path / "0.txt")
    assert isinstance(found, ProjectFileError)
    assert found.what == "it is nested too deeply"


def test_devices_and_pipes_are_not_opened(tmp_path: Path) -> None:
    """/dev/zero has no end, and a pipe without a writer never begins."""
    pipe = tmp_path / "requirements.txt"
    os.mkfifo(pipe)
    for path in (Path("/dev/zero"), pipe):
        found = read(path)
        assert isinstance(found, ProjectFileError)
        assert found.what == "this is neither a file nor a folder"


def test_a_file_without_permission(tmp_path: Path) -> None:
    """The reason of the operating system; root may read everything."""
    path = tmp_path / "requirements.txt"
    path.write_text("trl\n")
    path.chmod(0)
    found = read(path)
    if os.geteuid():
        assert isinstance(found, ProjectFileError)
        assert found.what == "it cannot be read: Permission denied"


# ------------------------------------------------------------------------------------------------- shapes of formats

SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8) | st.sampled_from(["trl", "==1", "1.0"])
KEYS = st.sampled_from(
    (
        *(
            "_meta",
            "category",
            "default",
            "dependencies",
            "dependency-groups",
            "dev-dependencies",
            "develop",
            "dynamic",
        ),
        *("extra", "extras", "files", "git", "group", "groups", "lock-version", "lock_version", "manager", "marker"),
        *("markers", "metadata", "name", "optional", "optional-dependencies", "package", "packages", "path", "pdm"),
        *("pip", "pipfile-spec", "platform", "poetry", "project", "python", "python-versions", "registry", "requires"),
        *("requires-python", "requires_python", "resolution-markers", "source", "sources", "targets", "tool", "type"),
        *("url", "uv", "version", "created-by", "editable", "index", "trl"),
    )
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=6)


def as_toml(value: object) -> str:
    """A value as inline TOML, without nulls."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return '""' if value is None else json.dumps(value)


HEADS = {
    "pyproject.toml": {},
    "uv.lock": {"version": 1},
    "poetry.lock": {"metadata": {"lock-version": "2.1"}},
    "pdm.lock": {"metadata": {"lock_version": "4.5"}},
    "pylock.toml": {"lock-version": "1.0", "created-by": "x", "packages": []},
}
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", HEADS)
@SETTINGS
@given(table=TABLES, entries=st.lists(TABLES, max_size=3))
def test_toml_of_any_shape(tmp_path: Path, name: str, table: dict[str, object], entries: list[object]) -> None:
    """A project or one error, never another exception."""
    key = "packages" if name == "pylock.toml" else "package"
    whole = {**table, **({key: entries} if name != "pyproject.toml" else {}), **HEADS[name]}
    path = tmp_path / name
    path.write_text("\n".join(f"{json.dumps(key)} = {as_toml(value)}" for key, value in whole.items()), "utf-8")
    read(path)


@pytest.mark.parametrize("name", ["Pipfile.lock", "packages.json", "environment.yml", "conda-lock.yml"])
@SETTINGS
@given(table=TABLES, entries=st.lists(TABLES, max_size=3))
def test_json_and_yaml_of_any_shape(tmp_path: Path, name: str, table: dict[str, object], entries: list[object]) -> None:
    """JSON is YAML too."""
    heads: dict[str, object] = {
        "Pipfile.lock": {"_meta": {"pipfile-spec": 6}, "default": {f"p{n}": item for n, item in enumerate(entries)}},
        "packages.json": entries,
        "environment.yml": {**table, "dependencies": [*entries, {"pip": list(table)}]},
        "conda-lock.yml": {**table, "package": entries},
    }
    path = tmp_path / name
    path.write_text(json.dumps(heads[name]), "utf-8")
    read(path)


LINES = st.lists(
    st.text(max_size=30) | st.sampled_from(["trl==0.22.2", "-r", "-e .", "--hash=", "trl @ ", "\\", "-c x", "git+x"]),
    max_size=6,
)


@pytest.mark.parametrize("name", ["requirements.txt", "train.py"])
@SETTINGS
@given(lines=LINES)
@example(lines=["# /// script", "# dependencies = [1]", "# ///"])
@example(lines=["-"])
@example(lines=["trl @"])
def test_lines_of_any_text(tmp_path: Path, name: str, lines: list[str]) -> None:
    """Requirements files, and scripts with the same lines in their block."""
    path = tmp_path / name
    block = ["# /// script", *(f"# {line}" for line in lines), "# ///"] if name == "train.py" else lines
    path.write_text("\n".join(block), "utf-8", errors="surrogatepass")
    read(path)


@SETTINGS
@given(content=st.binary(max_size=60))
def test_bytes(tmp_path: Path, content: bytes) -> None:
    """Under every name."""
    for name in NAMES:
        (tmp_path / name).write_bytes(content)
        read(tmp_path / name)
