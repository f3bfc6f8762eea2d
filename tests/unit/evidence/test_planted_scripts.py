"""Planted faults of watched scripts: every check has one, only complete runs are stored, and what is committed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.contract.errors import CompatError, ExitCode, RecordsError
from finetune_compat.evidence import exam, planted_scripts
from finetune_compat.evidence.exam import Answer, Script
from finetune_compat.stacks.matrix import read_matrix

FROZEN = Script("faulty/frozen.py", "trl1.16", "unhealthy", "C104", "A callback freezes.", "", cause="froz")
CRASH = dataclasses.replace(FROZEN, path="planted/crash.py", kind="F001")


def answering(monkeypatch: pytest.MonkeyPatch, **codes: tuple[str, ...]) -> list[str]:
    """Plant two faults; the checks in `codes` name them. Collects what is asked."""
    asked: list[str] = []

    def answers_to(stack: str, scripts: Any, jobs: int, say: Any) -> tuple[Answer, ...]:
        asked.extend(script.path for script in scripts)
        found = (codes[Path(script.path).stem] for script in scripts)
        return tuple(
            Answer(script.path, script.kind, "unhealthy", (), "unhealthy", one, cause_named=True, said="why", seconds=1)
            for script, one in zip(scripts, found, strict=True)
        )

    monkeypatch.setattr(planted_scripts, "planted", lambda: {"C104": FROZEN, "F001": CRASH})
    monkeypatch.setattr(exam, "answers_to", answers_to)
    return asked


@pytest.fixture(autouse=True)
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Records go to a temporary directory, but for the tests of what is committed."""
    if "committed" not in request.node.name:
        monkeypatch.setattr(planted_scripts, "directory", lambda: tmp_path)


def hold(words: str = "", stack: str = "trl1.16") -> str:
    return planted_scripts.hold(stack, words, 1, lambda _: None)


def test_a_complete_run_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each script with its check and the message; the rows of the page are in the order of the codes."""
    answering(monkeypatch, frozen=("C104",), crash=("F001",))
    assert hold() == f"Stored in {tmp_path / 'trl1.16.json'}."
    [record] = planted_scripts.read_records(tmp_path)
    assert planted_scripts.rows([record]) == [
        ("C104", "The parameters to train are trainable when training begins", "faulty/frozen.py", "trl1.16"),
        ("F001", "The script runs to its end", "planted/crash.py", "trl1.16"),
    ]
    assert {one.said for one in record.named} == {"why"}


def test_a_part_of_the_scripts_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words select by code or path."""
    asked = answering(monkeypatch, frozen=("C104",), crash=("F001",))
    assert hold("F001") == "Not stored: -k F001 may have left some scripts out."
    assert asked == ["planted/crash.py"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (("F001", "C104"), "planted/crash.py was named by F001, C104, not F001"),
        (("G401",), "planted/crash.py was named by G401, not F001"),
        ((), "planted/crash.py was named by none"),
    ],
)
def test_a_fault_that_its_check_alone_does_not_name_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codes: tuple[str, ...], said: str
) -> None:
    """The exit code is that of a failed verdict, and nothing is stored."""
    answering(monkeypatch, frozen=("C104",), crash=codes)
    with pytest.raises(planted_scripts.NotNamed, match="not every fault") as caught:
        hold()
    assert said in str(caught.value)
    assert caught.value.exit_code == ExitCode.UNHEALTHY
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [{"words": "nothing-like-this"}, {"stack": "trl0.9"}])
def test_a_run_without_scripts_is_bad_input(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    answering(monkeypatch)
    with pytest.raises(CompatError, match="no planted script") as caught:
        hold(**given)
    assert caught.value.exit_code == ExitCode.BAD_INPUT


@pytest.mark.parametrize(
    "table",
    [
        "[[planted]]\ncode = 'C104'\n",
        "[[planted]]\ncode = 'C104'\npath = 'planted/unknown.py'\n",
        "[[other]]\n",
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, table: str) -> None:
    """A script that is not in the exam needs its stack and its fault."""
    (tmp_path / planted_scripts.TABLE).write_text(table)
    with pytest.raises(RecordsError, match="not a valid table") as caught:
        planted_scripts.planted(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "trl1.16.json").write_text("{}")
    with pytest.raises(RecordsError, match="not a record of planted scripts"):
        planted_scripts.read_records(tmp_path)


# ------------------------------------------------------------------------------------------------- what is committed


def test_committed_every_check_of_a_script_has_a_planted_fault() -> None:
    """Each file exists, and those that no exam has are all in the table."""
    planted, folder = planted_scripts.planted(), exam.exam_directory()
    assert set(planted) == planted_scripts.codes()
    assert all((folder / script.path).is_file() for script in planted.values())
    beside = {f"planted/{path.name}" for path in (folder / "planted").glob("*.py")}
    assert {script.path for script in planted.values() if script.path.startswith("planted/")} == beside
    assert {script.stack for script in planted.values()} <= {stack.name for stack in read_matrix().stacks}


def test_committed_records_have_the_current_scripts_and_checks() -> None:
    """Every planted script was named by its check alone, on its stack."""
    found = {one.code: (one.path, record.stack) for record in planted_scripts.read_records() for one in record.named}
    assert found == {code: (script.path, script.stack) for code, script in planted_scripts.planted().items()}
