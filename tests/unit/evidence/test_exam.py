"""The exam of `compat watch`: tables, answers, records and the page."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.contract.errors import CompatError, Interrupted, RecordsError
from finetune_compat.contract.verdict import Opinion, Outcome, Result, Symptom, Verdict
from finetune_compat.evidence import exam, faults, planted_scripts
from finetune_compat.evidence.exam import Answer, Record, Script
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.watch.host import Interpreter

FAULTY = Script(
    path="faulty/frozen.py",
    stack="trl1.16",
    right="unhealthy",
    kind="frozen",
    why="A callback freezes the adapter.",
    truth="Nothing moved.",
    cause="fro(zen|ze)",
)
HEALTHY = dataclasses.replace(FAULTY, path="healthy/plain.py", right="healthy", kind="plain", cause="")


def verdict(outcome: Outcome, reason: str, *failing: str) -> Verdict:
    """A verdict of `compat watch`."""
    opinions = tuple(Opinion(code, "", Result.FAIL, f"{reason} ({code})") for code in failing)
    passed = Opinion("L501", "", Result.PASS, "")
    return Verdict("cell", outcome, reason, Symptom.UNKNOWN, (*opinions, passed))


def answering(monkeypatch: pytest.MonkeyPatch, *verdicts: Verdict, error: BaseException | None = None) -> list[Any]:
    """Let every watched script end like this; collect what is started, and where."""
    asked: list[Any] = []

    def run_pipeline(given: list[str], interpreter: Any, *, warm: Any) -> None:
        asked.append((given, Path.cwd(), os.environ["PYTHONPATH"]))
        if error is not None:
            raise error

    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.setattr(exam, "run_pipeline", run_pipeline)
    monkeypatch.setattr(exam, "verdicts_on", lambda seen, ledger: verdicts)
    monkeypatch.setattr(exam, "stack_python", lambda matrix, name: name)
    monkeypatch.setattr(exam, "of_stack", lambda stack: Interpreter(stack, Path("python")))
    monkeypatch.setattr(exam, "Warm", lambda *given: None)
    return asked


def answer_of(script: Script, answer: str, *, cause_named: bool = False) -> Answer:
    """An answer to `script`."""
    given = (script.path, script.kind, script.right, script.also, answer, (), cause_named, "a | reason", 1.0)
    return Answer(*given)


def test_every_script_of_the_exam_is_there_and_has_a_known_stack() -> None:
    """Each is in one table once, and no file without an entry lies beside them."""
    asked, folder = exam.scripts(), exam.exam_directory()
    paths = [script.path for script in asked]
    stacks = {stack.name for stack in read_matrix().stacks}
    assert len(set(paths)) == len(paths)
    assert all((folder / path).is_file() for path in paths)
    assert {stack for script in asked for stack in (script.stack, *script.stacks)} <= stacks
    answers = {exam.HEALTHY, exam.UNHEALTHY, exam.UNKNOWN}
    assert {answer for script in asked for answer in (script.right, *script.also)} <= answers


def test_every_faulty_script_has_words_that_explain_its_fault() -> None:
    """They are regular expressions, and their own kind of sentence does not match everything."""
    faulty = [script for script in exam.scripts() if script.right != exam.HEALTHY]
    assert all(script.cause and not re.search(script.cause, "", re.IGNORECASE) for script in faulty)


def test_the_exam_has_as_many_scripts_as_it_promises() -> None:
    """At least 100 faulty and 70 healthy ones: with none wrong, the true rates are below 3 % and 4.2 %."""
    rights = [script.right == exam.HEALTHY for script in exam.scripts()]
    assert rights.count(False) >= 100
    assert rights.count(True) >= 70


@pytest.mark.parametrize(
    ("given", "answer", "codes", "named"),
    [
        ((verdict(Outcome.FAIL, "adapters are frozen", "C104"),), "unhealthy", ("C104",), True),
        ((verdict(Outcome.FAIL, "eval loss is flat", "E803"),), "unhealthy", ("E803",), False),
        ((verdict(Outcome.PASS, "8 parameters train"),), "healthy", (), False),
        ((verdict(Outcome.INFRASTRUCTURE, "no training was seen"),), "could not tell", (), False),
        ((), "no answer", (), False),
    ],
)
def test_an_answer_is_the_conclusion_with_its_findings(
    monkeypatch: pytest.MonkeyPatch, given: tuple[Verdict, ...], answer: str, codes: tuple[str, ...], *, named: bool
) -> None:
    """Without verdicts there is no answer."""
    answering(monkeypatch, *given)
    found = exam.Seat("trl1.16").ask(FAULTY)
    assert (found.answer, found.codes, found.cause_named) == (answer, codes, named)


def test_a_script_runs_in_an_empty_directory_with_the_exam_on_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts as its table says."""
    asked = answering(monkeypatch)
    script = dataclasses.replace(FAULTY, launcher="torchrun --nproc-per-node 2", arguments=("--lr", "1"))
    exam.Seat("trl0.22").ask(script)
    [(given, place, path)] = asked
    exams = str(exam.exam_directory())
    assert given == ["torchrun", "--nproc-per-node", "2", f"{exams}/faulty/frozen.py", "--lr", "1"]
    assert path.split(":") == [exams, "/mine"]
    assert place != Path.cwd()


@pytest.mark.parametrize("error", [Interrupted(15), CompatError("no", where="a", todo="b")])
def test_a_script_that_is_stopped_or_cannot_run_has_no_answer(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The record says why."""
    answering(monkeypatch, error=error)
    found = exam.Seat("trl1.16").ask(FAULTY)
    assert (found.answer, bool(found.said)) == (exam.BROKEN, True)


def test_rates_count_misses_causes_and_false_alarms() -> None:
    """A healthy script that could not be judged is no false alarm, and a fault that could not be is a miss."""
    allowed = dataclasses.replace(FAULTY, also=("could not tell",))
    answers = (
        answer_of(FAULTY, "unhealthy", cause_named=True),
        answer_of(FAULTY, "unhealthy"),
        answer_of(FAULTY, "healthy"),
        answer_of(FAULTY, "could not tell"),
        answer_of(allowed, "could not tell"),
        answer_of(HEALTHY, "healthy"),
        answer_of(HEALTHY, "unhealthy"),
        answer_of(HEALTHY, "could not tell"),
    )
    record = Record("trl1.16", "5f", "2026-11-29T20:00:00Z", answers)
    rates = (record.missed, record.causes_missed, record.false_alarms)
    assert [(rate.wrong, rate.trials) for rate in rates] == [(2, 5), (2, 3), (1, 3)]


def test_the_page_has_rates_kinds_and_every_wrong_answer(tmp_path: Path) -> None:
    """Records are stored by stack and read again as they were."""
    one = Record("trl1.16", "5f", "2026-11-29", (answer_of(FAULTY, "healthy"), answer_of(HEALTHY, "healthy")))
    two = Record("trl0.22", "5f", "2026-11-29", (answer_of(FAULTY, "unhealthy", cause_named=True),))
    exam.save(one, tmp_path)
    exam.save(two, tmp_path)
    assert exam.read_records(tmp_path) == (two, one)
    text = (tmp_path / "exam.md").read_text(encoding="utf-8")
    assert "| trl1.16 | 1 of 1 (95 % upper bound 100.0%) |" in text
    assert "| faulty/frozen.py | unhealthy | healthy | a \\| reason |" in text
    assert "| frozen | 1 | 1 | 1 |" in text


def test_a_damaged_record_and_a_damaged_table_are_named(tmp_path: Path) -> None:
    (tmp_path / "trl1.16.json").write_text("{}")
    with pytest.raises(RecordsError, match="not a record of the exam"):
        exam.read_records(tmp_path)
    for name in exam.TABLES:
        (tmp_path / name).write_text("[[script]]\npath = 'a.py'\n")
    with pytest.raises(RecordsError, match="not a valid table"):
        exam.scripts(tmp_path)


@pytest.mark.parametrize("words", ["", "nothing-like-this"])
def test_an_exam_without_scripts_is_bad_input(words: str) -> None:
    with pytest.raises(CompatError, match="no script"):
        exam.hold("trl1.16" if words else "trl99", words, 1, lambda _: None)


def test_bad_input_ends_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 4, and nothing ran."""
    with pytest.raises(SystemExit) as ended:
        exam.main(["trl99"])
    assert ended.value.code == 4
    assert "no script runs on trl99" in capsys.readouterr().err


def _healthy(script: Script) -> Answer:
    return answer_of(script, "healthy")


def test_a_part_of_the_exam_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rates would be of other scripts."""
    monkeypatch.setattr(exam, "_sit", lambda stack: None)
    monkeypatch.setattr(exam, "_ask", _healthy)
    monkeypatch.setattr(exam, "scripts", lambda: (FAULTY, HEALTHY))
    monkeypatch.setattr(exam, "save", lambda record: pytest.fail("stored"))
    exam.main(["trl1.16", "-k", "frozen", "-j", "1"])


def test_every_fault_that_a_stored_run_missed_has_a_reason() -> None:
    """The page prints it beside the answer."""
    reasons = {script.path: script.missed for script in exam.scripts()}
    wrong = {answer.path for record in exam.read_records() for answer in record.answers if not answer.found}
    assert not {path for path in wrong if path in reasons and not reasons[path]}


def test_planted_scripts_are_asked_in_place_of_the_exam(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page of faults is written again."""
    done: list[str] = []
    monkeypatch.setattr(planted_scripts, "hold", lambda stack, words, jobs, say: f"{stack} {words} {jobs}")
    monkeypatch.setattr(faults, "publish", lambda: done.append("published"))
    exam.main(["trl1.16", "--planted", "-k", "C104", "-j", "1"])
    assert (capsys.readouterr().out, done) == ("trl1.16 C104 1\n", ["published"])


def test_a_stack_without_a_seat_ends_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool whose workers fail to start would report nothing but that."""

    def no_seat(stack: str) -> None:
        raise CompatError(f"{stack} cannot be imported", where="here", todo="Look.")

    monkeypatch.setattr(exam, "Seat", no_seat)
    monkeypatch.setattr(exam, "_seat", None)
    monkeypatch.setattr(exam.os, "dup2", lambda *_: None)
    exam._sit("trl0.4")
    with pytest.raises(CompatError, match=r"trl0\.4 cannot be imported"):
        exam._ask(FAULTY)
