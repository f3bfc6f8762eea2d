"""Wheels of packages that no index has a wheel of. Wheels here are written, and folders are built by pip."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from finetune_compat.contract.errors import InstallError
from finetune_compat.stacks import built
from finetune_compat.stacks.built import build
from packaging.utils import parse_wheel_filename


def wheel_in(folder: Path, name: str = "trl", version: str = "1.17.0.dev0") -> Path:
    """A wheel with one module, a script and its metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}/__init__.py", "VALUE = 1\n")
        file.writestr(f"{name}-{version}.data/scripts/{name}", "#!python\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: text\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


def test_a_wheel_gets_a_version_of_its_own(tmp_path: Path) -> None:
    """In its name, its metadata and its record, which has every file with its hash."""
    made = build(str(wheel_in(tmp_path)), mark=True, wheels=tmp_path / "wheels")
    (path,) = made.folder.glob("*.whl")
    name, version, *_ = parse_wheel_filename(path.name)
    assert (name, str(version)) == ("trl", made.version)
    assert version.public == "1.17.0.dev0" and version.local
    with zipfile.ZipFile(path) as file:
        there = set(file.namelist())
        metadata = file.read(f"trl-{made.version}.dist-info/METADATA").decode()
        record = file.read(f"trl-{made.version}.dist-info/RECORD").decode().splitlines()
    assert metadata.splitlines()[2] == f"Version: {made.version}" and metadata.endswith("\nVersion: text\n")
    assert {row[0] for row in csv.reader(record)} == there
    assert f"trl-{made.version}.data/scripts/trl" in there


def test_the_same_content_has_the_same_version(tmp_path: Path) -> None:
    """Times do not count: the same source is the same lock. Another content is another version."""
    one = build(str(wheel_in(tmp_path / "a")), mark=True, wheels=tmp_path / "wheels")
    assert build(str(wheel_in(tmp_path / "b")), mark=True, wheels=tmp_path / "wheels") == one
    other = wheel_in(tmp_path / "c")
    with zipfile.ZipFile(other, "a") as file:
        file.writestr("trl/more.py", "")
    assert build(str(other), mark=True, wheels=tmp_path / "wheels").version != one.version


def test_a_wheel_alone_in_its_folder(tmp_path: Path) -> None:
    """Other locks must not find it."""
    one = build(str(wheel_in(tmp_path)), mark=False, wheels=tmp_path / "wheels")
    two = build(str(wheel_in(tmp_path, "peft", "1.0")), mark=False, wheels=tmp_path / "wheels")
    assert (one.folder.name, two.folder.name) == ("trl-1.17.0.dev0", "peft-1.0")
    assert [len(list(made.folder.iterdir())) for made in (one, two)] == [1, 1]


def test_an_exact_pin_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its source distribution never changes."""
    one = build(str(wheel_in(tmp_path, "rouge", "0.1")), mark=False, wheels=tmp_path / "wheels")
    monkeypatch.setattr(built, "_run_pip", lambda *_: pytest.fail("it was built again"))
    assert build("rouge==0.1", mark=False, wheels=tmp_path / "wheels") == one


def test_what_is_no_wheel(tmp_path: Path) -> None:
    """By its name or its content."""
    for name, content in (("trl.whl", b""), ("trl-1-py3-none-any.whl", b"PK")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InstallError, match="it is not a wheel"):
            build(str(tmp_path / name), mark=True, wheels=tmp_path / "wheels")


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("noise\nERROR: Failed to build 'x'\n", "it does not build here: Failed to build 'x'"),
        (
            "fatal: https://u:topsecretword@h/ not found\n",
            "it does not build here: fatal: https://REDACTED@h/ not found",
        ),
        ("", "it does not build here: pip gave no reason"),
    ],
)
def test_what_does_not_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, problem: str) -> None:
    """The last line that is an error, without secrets."""
    failed = subprocess.CompletedProcess([], 1, "", output)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InstallError) as raised:
        build("x @ git+https://u:topsecretword@h/x", mark=True, wheels=tmp_path)
    assert (raised.value.what, raised.value.where) == (problem, "x @ git+https://REDACTED@h/x")


class TestFailuresAreRemembered:
    """A gate does not wait again for a build that must fail."""

    BACKEND = "error: subprocess-exited-with-error\nERROR: Failed to build 'x'\n"

    def test_for_a_day_or_until_it_is_asked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The reason says when it was tried."""
        tries: list[str] = []

        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            tries.append(command[-1])
            return subprocess.CompletedProcess([], 1, "", self.BACKEND)

        monkeypatch.setattr(subprocess, "run", run)

        def reason(**how: bool) -> str:
            with pytest.raises(InstallError) as raised:
                build("x>=1", mark=False, wheels=tmp_path, **how)
            return raised.value.what

        once = reason()
        assert once == "it does not build here: Failed to build 'x'"
        again = reason()
        assert re.fullmatch(rf"{re.escape(once)} \(tried at 20[-\d]+ \d\d:\d\d UTC; --fresh tries again\)", again)
        assert len(tries) == 1
        assert "tried at" not in reason(fresh=True)
        assert len(tries) == 2
        (file,) = (tmp_path / "failed").iterdir()
        yesterday = time.time() - built.FAILED_FOR_S - 1
        os.utime(file, (yesterday, yesterday))
        reason()
        assert len(tries) == 3

    @pytest.mark.parametrize(
        ("source", "output"),
        [
            ("x @ git+https://x.org/x", BACKEND),
            ("/home/me/x", BACKEND),
            ("x==1", "ERROR: Could not find a version that satisfies the requirement x==1\n"),
            ("x==1", f"{BACKEND}pip subprocess to install build dependencies did not run successfully.\n"),
        ],
    )
    def test_but_not_what_may_change(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, output: str
    ) -> None:
        """A folder is edited, a branch moves on, and the index answers again."""
        failed = subprocess.CompletedProcess([], 1, "", output)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
        for _ in range(2):
            with pytest.raises(InstallError) as raised:
                build(source, mark=True, wheels=tmp_path)
            assert "tried at" not in raised.value.what


def test_a_build_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA kernels compile for an hour."""

    def run(*_: object, **how: object) -> None:
        raise subprocess.TimeoutExpired("pip", 1)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(InstallError, match=f"its build took longer than {built.LIMIT_S} s"):
        build("x==1", mark=False, wheels=tmp_path)
