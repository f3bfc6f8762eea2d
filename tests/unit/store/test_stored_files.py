"""The store's files: names, contents, damage, and concurrent writers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_compat.contract.records import to_json
from finetune_compat.machine.places import PACKAGE
from finetune_compat.store import stored_files
from finetune_compat.store.store import Store
from finetune_compat.store.stored_files import Damaged
from finetune_compat.store.verify import verify
from hypothesis import given
from hypothesis import strategies as st
from store_builders import recipe_of, seen, stored_object

ROOT = PACKAGE.parents[1]

WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = [{unit!r}, {store!r}]
from store_builders import stored_object
from finetune_compat.store import stored_files as objects
root, who = Path(sys.argv[1]), int(sys.argv[2])
print("go", flush=True)
number = 0
while number < int(sys.argv[3]):
    objects.write(root, stored_object(seed=number))
    objects.write(root, stored_object(seed=number, lock_sha256=f"{{who:064x}}"))
    number += 1
"""


def writer(root: Path, who: int, number: int) -> subprocess.Popen[str]:
    """A process that stores `number` observations that others also store, and as many of its own."""
    code = WRITER.format(unit=str(ROOT / "tests" / "unit"), store=str(ROOT / "tests" / "unit" / "store"))
    command = [sys.executable, "-c", code, str(root), str(who), str(number)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_file_is_json_whose_second_line_is_the_observation(tmp_path: Path) -> None:
    """The line equals the line of the run byte for byte."""
    name = stored_files.write(tmp_path, stored_object())
    content = stored_files.path_of(tmp_path, name).read_text(encoding="utf-8")
    assert content.split("\n")[1] == to_json(seen())
    raw = json.loads(content)
    assert (raw["observation"]["cell"], raw["recipe"]["cell"]) == (seen().cell, seen().cell)


def test_the_same_observation_is_the_same_file(tmp_path: Path) -> None:
    """Therefore merging stores is the union of their files."""
    assert stored_files.write(tmp_path, stored_object()) == stored_files.write(tmp_path, stored_object())
    assert len(list((tmp_path / "objects").rglob("*.json"))) == 1


@given(st.text(), st.text())
def test_every_content_is_read_back(text: str, outcome: str) -> None:
    """Line ends and braces inside an observation are no delimiters."""
    given = stored_object(seen(harness_version=text))
    assert stored_files.parsed(stored_files.name_of(given), given.content) == given


@pytest.mark.parametrize("cpu_s", [None, 0.0, 1.25])
def test_cpu_seconds_are_beside_the_observation(cpu_s: float | None) -> None:
    """They change neither the line nor the address; a file without them is as it was before there were any."""
    given = dataclasses.replace(stored_object(), cpu_s=cpu_s)
    assert (given.line, given.recipe.address) == (stored_object().line, stored_object().recipe.address)
    assert stored_files.parsed(stored_files.name_of(given), given.content) == given
    assert (b"cpu_s" in given.content) is (cpu_s is not None)


@pytest.mark.parametrize("cpu_s", ["NaN", "Infinity", "-1", "true", '"1"'])
def test_cpu_seconds_are_seconds(cpu_s: str) -> None:
    """Schedules add them up."""
    given = dataclasses.replace(stored_object(), cpu_s=1.0)
    content = given.content.replace(b'"cpu_s":1.0', f'"cpu_s":{cpu_s}'.encode())
    name = f"{given.recipe.address}.{hashlib.sha256(content).hexdigest()[:12]}.json"
    with pytest.raises(Damaged, match="cpu_s"):
        stored_files.parsed(name, content)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: content[:-1], "its content does not match the digest in its name"),
        (lambda content: content.replace(b"qwen2", b"qwen3", 1), "its content does not match the digest in its name"),
        (lambda content: b"", "its content does not match the digest in its name"),
    ],
)
def test_a_damaged_file_has_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[bytes], bytes], problem: str
) -> None:
    """It is named, and the cell runs again."""
    name = stored_files.write(tmp_path, stored_object())
    path = stored_files.path_of(tmp_path, name)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(Damaged, match=problem):
        stored_files.read(tmp_path, name)
    assert Store(tmp_path).read([stored_object().recipe.address]) == {}
    assert capsys.readouterr().err == f"store: {path}: {problem}; the file is ignored (`compat store verify`)\n"


def test_a_content_under_anothers_address_is_damage() -> None:
    """A renamed file has no result."""
    given, other = stored_object(), stored_object(seed=1)
    digest = stored_files.name_of(given).split(".")[1]
    with pytest.raises(Damaged, match="its recipe does not match the address in its name"):
        stored_files.parsed(f"{other.recipe.address}.{digest}.json", given.content)


def named(content: bytes) -> str:
    """The name of a file of this content: whoever writes a file calculates its digest too."""
    return f"{stored_object().recipe.address}.{hashlib.sha256(content).hexdigest()[:12]}.json"


LINE = to_json(seen()).encode()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'{"format":1,', b'{"format":2,', "format 2, this harness reads 1"),
        (b'{"format":1,', b'{"format":1,"counter":-1,', "counter -1"),
        (b'{"format":1,', b'{"format":1,"counter":1000000001,', "counter 1000000001"),
        (b'{"format":1,', b'{"format":1,"counter":true,', "counter True"),
        (LINE, b"no JSON", "JSONDecodeError: Expecting value"),
        (LINE, b"[" * 100_000, "RecursionError"),
        (LINE, b"[]", "TypeError: list indices"),
        (LINE, b"{}", "KeyError: 'stack'"),
        (LINE, LINE.replace(b'"duration_s":', b'"duration_s":"x","other":'), "ValueError: could not convert"),
        (LINE, b"\xff", "UnicodeDecodeError"),
    ],
)
def test_what_is_no_observation_is_damage(tmp_path: Path, old: bytes, new: bytes, problem: str) -> None:
    """Its digest fits, and no command ends in a traceback."""
    content = stored_object().content.replace(old, new)
    assert content != stored_object().content
    with pytest.raises(Damaged, match=problem):
        stored_files.parsed(named(content), content)
    stored_files.write_content(tmp_path, named(content), content)
    assert Store(tmp_path).history() == {}
    assert [*verify(tmp_path).damaged] == [named(content)]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'"torch":"2.13.0', b'"torch":"2.14.0', r"torch 2\.14\.0"),
        (b'"python":"3.11.', b'"python":"3.12.', r"Python 3\.12"),
        (f'"seed":{seen().seed},'.encode(), b'"seed":12345,', "seed 12345, expected"),
    ],
)
def test_an_observation_of_another_recipe_is_never_an_answer(
    tmp_path: Path, old: bytes, new: bytes, problem: str
) -> None:
    """However late it was recorded: the file says one thing in its recipe and another in its observation."""
    name = stored_files.write(tmp_path, stored_object())
    late = dataclasses.replace(
        stored_object(at="2099-01-01T00:00:00.000000+00:00"), line=LINE.replace(old, new).decode()
    )
    assert late.line != stored_object().line
    other = named(late.content)
    stored_files.write_content(tmp_path, other, late.content)
    with pytest.raises(Damaged, match=f"the observation is not of its recipe: {problem}"):
        stored_files.read(tmp_path, other)
    address = stored_object().recipe.address
    assert Store(tmp_path).read([address])[address] == stored_files.read(tmp_path, name)


def test_a_clock_that_was_wrong_once_decides_nothing(tmp_path: Path) -> None:
    """A file of an older harness has no counter. What is observed after it counts, whatever the clock says."""
    wrong = stored_object(at="2099-01-01T00:00:00.000000+00:00")
    assert b"counter" not in wrong.content
    stored_files.write(tmp_path, wrong)
    for count in (1, 2):
        again = seen(duration_s=float(count))
        Store(tmp_path).put(recipe_of(again), again)
        found = Store(tmp_path).read([wrong.recipe.address])[wrong.recipe.address]
        assert (found.counter, found.observation["duration_s"]) == (count, float(count))


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    """Four processes write equal and different addresses: every file is whole, and each content exists once."""
    writers = [writer(tmp_path, who, 25) for who in range(1, 5)]
    assert [each.communicate() and each.returncode for each in writers] == [0] * 4
    names = stored_files.names(tmp_path)
    assert len(names) == 25 + 4 * 25
    assert all(stored_files.read(tmp_path, name) for found in names.values() for name in found)
    assert not list(tmp_path.rglob(".part-*"))


def test_a_process_that_is_killed_leaves_whole_files_alone(tmp_path: Path) -> None:
    """This holds for any moment: a file with its final name is whole."""
    process = writer(tmp_path, 1, 10**6)
    assert process.stdout is not None
    process.stdout.readline()
    while len(stored_files.names(tmp_path)) < 5:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    names = [name for found in stored_files.names(tmp_path).values() for name in found]
    assert len(names) >= 5
    assert all(stored_files.read(tmp_path, name) for name in names)


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """The first run creates it."""
    assert stored_files.names(tmp_path / "nowhere") == {}
    assert stored_files.names(tmp_path / "nowhere", ["a" * 64]) == {}


def test_foreign_files_are_unchanged(tmp_path: Path) -> None:
    """Notes, partial files and other folders stay."""
    name = stored_files.write(tmp_path, stored_object())
    folder = stored_files.path_of(tmp_path, name).parent
    (folder / ".part-x").write_text("half")
    (folder / "README").write_text("mine")
    assert stored_files.names(tmp_path) == {stored_object().recipe.address: [name]}
