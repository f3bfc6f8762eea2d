"""The one check engine: a table of checks and a subject -> an opinion for each check.

A check function returns None where the claim of its code holds, a message where it does not, and raises `NotApplicable`
where the subject has nothing to hold the claim against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

from finetune_compat.checks.codes import CODES
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.verdict import Opinion, Result

T = TypeVar("T")

NOT_DEEP = "the deep tier was not run for this cell"


class NotApplicable(Exception):
    """The subject has nothing this check could be held against; the message says why."""


def failed(code: str, message: str) -> Opinion:
    """The opinion of a check that failed with `message`."""
    return Opinion(code, CODES[code].title, Result.FAIL, message)


@dataclass(frozen=True, slots=True)
class _Check(Generic[T]):
    """One line of a table, with the opinions that are the same for every subject."""

    code: str
    requires: tuple[str, ...]
    deep: bool
    run: Callable[[T], str | None]
    passed: Opinion
    not_deep: Opinion


_EXPLAINS = frozenset({Result.FAIL, Result.BLOCKED})
"""Results of a check that explain what the checks after it would find."""

_shared = cache(Opinion)
"""Thousands of subjects get the same few opinions: each is one value."""


class Engine(Generic[T]):
    """The checks of one kind of subject, each after those it requires.

    Args:
        checks: each with its code, in the order of asking.
    """

    def __init__(self, *checks: tuple[str, Callable[[T], str | None]]) -> None:
        self.codes = tuple(CODES[code] for code, _ in checks)
        """What is asked, in this order."""
        asked = {code for code, _ in checks}
        self._checks = tuple(_check(code, run, asked) for code, run in checks)

    def opinions(self, subject: T, *, deep: bool = False) -> tuple[Opinion, ...]:
        """One opinion for each check.

        Args:
            subject: what is judged.
            deep: whether the deep tier measured it. Checks of that tier do not apply where it did not.
        """
        said: list[Opinion] = []
        explaining: set[str] = set()
        for check in self._checks:
            blockers = explaining and [code for code in check.requires if code in explaining]
            if blockers:
                opinion = _shared(check.code, check.passed.title, Result.BLOCKED, ", ".join(blockers))
            elif check.deep and not deep:
                opinion = check.not_deep
            else:
                opinion = _ask(check, subject)
            if opinion.result in _EXPLAINS:
                explaining.add(check.code)
            said.append(opinion)
        return tuple(said)


def _check(code: str, run: Callable[[T], str | None], asked: set[str]) -> _Check[T]:
    title, requires = CODES[code].title, tuple(other for other in CODES[code].requires if other in asked)
    return _Check(
        code,
        requires,
        CODES[code].tier is Tier.DEEP,
        run,
        passed=Opinion(code, title, Result.PASS, ""),
        not_deep=Opinion(code, title, Result.NOT_APPLICABLE, NOT_DEEP),
    )


def _ask(check: _Check[T], subject: T) -> Opinion:
    try:
        message = check.run(subject)
    except NotApplicable as why:
        return _shared(check.code, check.passed.title, Result.NOT_APPLICABLE, str(why))
    return failed(check.code, message) if message else check.passed
