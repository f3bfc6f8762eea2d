"""The engine: the results of a table for a subject. The codes are real; the subjects are words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from finetune_compat.checks.codes import CODES
from finetune_compat.checks.engine import NOT_DEEP, Engine, NotApplicable, failed
from finetune_compat.contract.verdict import Opinion, Result


def lacks(letter: str) -> str | None:
    """A check of itself: its subject says whether it passes, fails or does not apply."""
    if letter == "n/a":
        raise NotApplicable("nothing to look at")
    return letter or None


def results(engine: Engine[str], subject: str, *, deep: bool = False) -> dict[str, tuple[Result, str]]:
    """Return the result and message of each check by code."""
    return {said.code: (said.result, said.message) for said in engine.opinions(subject, deep=deep)}


@pytest.mark.parametrize(
    ("subject", "result", "message"),
    [("", Result.PASS, ""), ("wrong", Result.FAIL, "wrong"), ("n/a", Result.NOT_APPLICABLE, "nothing to look at")],
)
def test_a_check_passes_fails_or_does_not_apply(subject: str, result: Result, message: str) -> None:
    """Each result has its code's title."""
    (opinion,) = Engine[str](("C103", lacks)).opinions(subject)
    assert opinion == Opinion("C103", CODES["C103"].title, result, message)


def test_what_follows_from_a_failure_is_blocked_through_any_number_of_checks() -> None:
    """C105 requires C104, and C104 requires C103. A blocked check is not run."""
    engine = Engine[str](("C103", lacks), ("C104", pytest.fail), ("C105", pytest.fail), ("A201", lambda _: None))
    assert results(engine, "wrong") == {
        "C103": (Result.FAIL, "wrong"),
        "C104": (Result.BLOCKED, "C103"),
        "C105": (Result.BLOCKED, "C104"),
        "A201": (Result.PASS, ""),
    }


@pytest.mark.parametrize(
    ("run", "proven", "result"),
    [
        (lacks, True, Result.BLOCKED),
        (lacks, False, Result.FAIL),
        (lambda _: None, True, Result.PASS),
        (lambda _: lacks("n/a"), True, Result.NOT_APPLICABLE),
    ],
)
def test_a_check_with_a_proof_is_blocked_only_by_the_proof(
    run: Callable[[str], str | None], *, proven: bool, result: Result
) -> None:
    """The check runs although C103 fails. Its failure is a consequence only where the proof holds."""
    asked: list[frozenset[str]] = []

    def follows(_: str, causes: frozenset[str]) -> bool:
        asked.append(causes)
        return proven

    engine = Engine[str](("C103", lacks), ("C104", run), follows={"C104": follows})
    assert results(engine, "wrong")["C104"][0] is result
    assert asked == ([frozenset({"C103"})] if run is lacks else [])


def test_a_proof_without_data_proves_nothing() -> None:
    """Then the check fails."""
    engine = Engine[str](("C103", lacks), ("C104", lacks), follows={"C104": lambda _, __: bool(lacks("n/a"))})
    assert results(engine, "wrong")["C104"] == (Result.FAIL, "wrong")


def test_a_check_that_does_not_apply_blocks_nothing() -> None:
    """A check that does not apply found nothing."""
    assert results(Engine[str](("C103", lacks), ("C104", lambda _: None)), "n/a")["C104"] == (Result.PASS, "")


def test_a_requirement_that_is_not_in_the_table_is_ignored() -> None:
    """C104 requires C103 and C120; scripts have no C120."""
    assert results(Engine[str](("C104", lacks)), "")["C104"] == (Result.PASS, "")


def test_a_deep_check_does_not_apply_where_the_deep_tier_was_not_run() -> None:
    """The check is not run."""
    engine = Engine[str](("E804", lacks))
    assert results(engine, "wrong") == {"E804": (Result.NOT_APPLICABLE, NOT_DEEP)}
    assert results(engine, "wrong", deep=True) == {"E804": (Result.FAIL, "wrong")}


def test_opinions_that_are_alike_are_one_value() -> None:
    """Reports of ten thousand cells write each value out once."""
    engine = Engine[str](("C103", lacks), ("C104", lambda _: None))
    for subject in ("", "n/a"):
        pairs = zip(engine.opinions(subject), engine.opinions(subject), strict=True)
        assert all(first is second for first, second in pairs)
    assert engine.opinions("one")[1] is engine.opinions("another")[1]


def test_a_code_there_is_not_is_refused_when_the_table_is_made() -> None:
    with pytest.raises(KeyError, match="X999"):
        Engine[str](("X999", lacks))


def test_a_failure_outside_of_a_table_has_the_title_of_its_code() -> None:
    """An example is a script that ends in an error after its trainers succeeded."""
    assert failed("F001", "gone") == Opinion("F001", CODES["F001"].title, Result.FAIL, "gone")
