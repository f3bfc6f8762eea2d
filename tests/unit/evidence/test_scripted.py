"""Scripts that show issues: how they end, and what that says about the versions."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.checks.harm import Harm
from finetune_compat.checks.ledger import Scripted
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import MatrixError
from finetune_compat.contract.verdict import Outcome
from finetune_compat.evidence import scripted
from finetune_compat.evidence.scripted import ScriptBench, ending, error_of, script_file
from finetune_compat.stacks.locks import Unsolvable

PYTHON = Path(sys.executable)
SHOWN = Scripted(windows={"peft": "<0.18.0"}, script="it_fails", error="AssertionError: one", harm=Harm.CRASHES)
ISSUE = dataclasses.replace(load_ledger().issues[0], id="peft#1", shows=(), scripts=(SHOWN,))


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("assert True", ""),
        ("raise SystemExit", ""),
        ("assert False, 'one is two'", "AssertionError: one is two"),
        ("assert False", "AssertionError"),
        ("raise ValueError('one\\nAssertionError: two')", "ValueError: one"),
        (
            "import json.decoder as d\nd.JSONDecoder().decode('')",
            "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        ),
        ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError('x')", "KeyError: 'x'"),
        ("raise SystemExit(3)", "status 3"),
        ("import finetune_compat_of_a_user", "ModuleNotFoundError: No module named 'finetune_compat_of_a_user'"),
    ],
)
def test_how_a_script_ends(tmp_path: Path, text: str, ended: str) -> None:
    """The error that ended it, with the first line of its message."""
    script = tmp_path / "script.py"
    script.write_text(text, encoding="utf-8")
    assert ending(PYTHON, script) == ended


def test_paths_are_relative_to_the_environment(tmp_path: Path) -> None:
    """A message is committed, and where the environment was says nothing about the versions."""
    script = tmp_path / "script.py"
    script.write_text(f"raise ImportError('no x in {PYTHON.parent.parent}/lib/y.py')", encoding="utf-8")
    assert ending(PYTHON, script) == "ImportError: no x in lib/y.py"


def test_a_script_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "LIMIT_S", 0.5)
    script = tmp_path / "script.py"
    script.write_text("import time\ntime.sleep(60)", encoding="utf-8")
    assert ending(PYTHON, script) is None


def test_warnings_around_a_traceback_are_not_its_error() -> None:
    stderr = (
        "UserWarning: something\n"
        "Traceback (most recent call last):\n"
        '  File "x.py", line 1, in <module>\n'
        "    Label: a line of code\n"
        "package.errors.OwnError: what is wrong\n"
        "a second line\n"
    )
    assert error_of(stderr) == "OwnError: what is wrong"
    assert error_of("UserWarning: something\n") == ""


class Standing:
    """What a bench is given: versions, and an environment if there is one."""

    def __init__(self, lock: Any) -> None:
        self.stack = "peft0.17-py311"
        self.lock = lock
        self.plan = type("Plan", (), {"torch": "2.13.0"})()


@pytest.fixture
def bench(tmp_path: Path, in_places: Any, monkeypatch: pytest.MonkeyPatch) -> ScriptBench:
    """A bench of a checkout with one script, whose environment is this Python."""
    in_places(checkout=tmp_path)
    (tmp_path / "tests/exam/issues").mkdir(parents=True)
    (tmp_path / script_file("it_fails")).write_text("assert False, 'one is two'", encoding="utf-8")
    stack = type("StackPython", (), {"python": PYTHON})()
    monkeypatch.setattr(scripted, "prepared", lambda *_: stack)
    return ScriptBench(ISSUE, SHOWN, tmp_path)


LOCK = type("Lock", (), {"requirements": {"peft": "0.17.1"}})()


def verdict_of(bench: ScriptBench) -> tuple[Outcome, str]:
    verdict = bench.probe(Standing(LOCK)).verdict  # type: ignore[arg-type]
    assert verdict is not None
    return verdict.outcome, verdict.reason


class TestProbe:
    def test_the_listed_error_is_an_xfail_of_the_issue(self, bench: ScriptBench) -> None:
        found = bench.probe(Standing(LOCK))  # type: ignore[arg-type]
        assert found.verdict is not None
        assert (found.verdict.outcome, found.verdict.issues) == (Outcome.XFAIL, ("peft#1",))
        assert found.verdict.reason == "peft#1: AssertionError: one is two"
        assert found.versions == {"peft": "0.17.1", "torch": "2.13.0"}

    def test_another_error_is_not_what_is_listed(self, bench: ScriptBench) -> None:
        other = dataclasses.replace(bench, scripted=dataclasses.replace(SHOWN, error="AssertionError: two"))
        assert verdict_of(other) == (Outcome.FAIL, "not as listed: AssertionError: one is two")

    def test_status_0_is_a_pass(self, bench: ScriptBench, tmp_path: Path) -> None:
        (tmp_path / bench.subject).write_text("", encoding="utf-8")
        assert verdict_of(bench) == (Outcome.PASS, "it ends with status 0")

    def test_a_script_that_was_ended_says_nothing_about_the_versions(
        self, bench: ScriptBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scripted, "ending", lambda *_: None)
        assert verdict_of(bench) == (Outcome.INFRASTRUCTURE, "it took longer than 600 s")

    def test_without_an_environment_there_is_no_verdict(
        self, bench: ScriptBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scripted, "prepared", lambda *_: None)
        found = bench.probe(Standing(Unsolvable(Path("x"), "no versions go together", {})))  # type: ignore[arg-type]
        assert (found.verdict, found.versions, found.ran) == (None, {}, False)

    def test_a_script_that_is_not_there_is_an_error_of_the_ledger(self, bench: ScriptBench, tmp_path: Path) -> None:
        (tmp_path / bench.subject).unlink()
        with pytest.raises(MatrixError, match=r"there is no tests/exam/issues/it_fails\.py"):
            bench.probe(Standing(LOCK))  # type: ignore[arg-type]
