"""The check engine: a table of checks and a subject -> one opinion for each check.

A check function returns None if the claim of its code holds, and a message if it does not. It raises `NotApplicable` if
the subject has no data for the check.

A check whose required check failed is blocked: its failure could only repeat the other one. Where the table has a
`follows` function, the check is run all the same, and is blocked only if its failure is proven to be a consequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Generic, TypeVar

from finetune_compat.checks.codes import CODES
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.verdict import Opinion, Result

T = TypeVar("T")

NOT_DEEP = "the deep tier was not run for this cell"


class NotApplicable(Exception):
    """The subject has no data for this check; the message says why."""


def failed(code: str, message: str) -> Opinion:
    """The opinion of a check that failed with `message`."""
    return Opinion(code, CODES[code].title, Result.FAIL, message)


Follows = Callable[[T, frozenset[str]], bool]
"""Whether a failure of a check is what the failures of its required checks must cause. The second argument: the codes
of the required checks that failed or are blocked.
"""


@dataclass(frozen=True, slots=True)
class _Check(Generic[T]):
    """One row of the table, with the opinions that are the same for every subject."""

    code: str
    requires: tuple[str, ...]
    deep: bool
    run: Callable[[T], str | None]
    follows: Follows[T] | None
    passed: Opinion
    not_deep: Opinion


_EXPLAINS = frozenset({Result.FAIL, Result.BLOCKED})
"""Results of a check that block the checks that require it."""

_shared = cache(Opinion)
"""Cached, because thousands of subjects get the same few opinions."""


class Engine(Generic[T]):
    """The checks of one kind of subject. Each check comes after the checks that it requires.

    Args:
        checks: pairs of code and check function, in the order in which they run.
        follows: by code, whether a failure is a consequence. Checks without an entry are blocked without being run.
    """

    def __init__(
        self, *checks: tuple[str, Callable[[T], str | None]], follows: Mapping[str, Follows[T]] = MappingProxyType({})
    ) -> None:
        self.codes = tuple(CODES[code] for code, _ in checks)
        """Codes of the checks, in the order in which they run."""
        asked = {code for code, _ in checks}
        self._checks = tuple(_check(code, run, asked, follows.get(code)) for code, run in checks)
        self._functions = dict(checks)

    def function(self, code: str) -> Callable[[T], str | None]:
        """The function of the check called `code`.

        Raises:
            KeyError: no check of this engine has that code.
        """
        return self._functions[code]

    def opinions(self, subject: T, *, deep: bool = False) -> tuple[Opinion, ...]:
        """One opinion for each check.

        Args:
            subject: what is judged.
            deep: whether the deep tier measured the subject. If not, checks of that tier do not apply.
        """
        opinions: list[Opinion] = []
        explaining: set[str] = set()
        for check in self._checks:
            blockers = [code for code in check.requires if code in explaining] if explaining else []
            if blockers and check.follows is None:
                opinion = _blocked(check, blockers)
            elif check.deep and not deep:
                opinion = check.not_deep
            else:
                opinion = _ask(check, subject)
                if blockers and opinion.result is Result.FAIL and _is_consequence(check, subject, blockers):
                    opinion = _blocked(check, blockers)
            if opinion.result in _EXPLAINS:
                explaining.add(check.code)
            opinions.append(opinion)
        return tuple(opinions)


def _blocked(check: _Check[T], blockers: Sequence[str]) -> Opinion:
    return _shared(check.code, check.passed.title, Result.BLOCKED, ", ".join(blockers))


def _is_consequence(check: _Check[T], subject: T, blockers: Sequence[str]) -> bool:
    try:
        return check.follows is not None and check.follows(subject, frozenset(blockers))
    except NotApplicable:  # nothing is proven without data
        return False


def _check(code: str, run: Callable[[T], str | None], asked: set[str], follows: Follows[T] | None) -> _Check[T]:
    title, requires = CODES[code].title, tuple(other for other in CODES[code].requires if other in asked)
    return _Check(
        code,
        requires,
        CODES[code].tier is Tier.DEEP,
        run,
        follows,
        passed=Opinion(code, title, Result.PASS, ""),
        not_deep=Opinion(code, title, Result.NOT_APPLICABLE, NOT_DEEP),
    )


def _ask(check: _Check[T], subject: T) -> Opinion:
    try:
        message = check.run(subject)
    except NotApplicable as why:
        return _shared(check.code, check.passed.title, Result.NOT_APPLICABLE, str(why))
    return failed(check.code, message) if message else check.passed
