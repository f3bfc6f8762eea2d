"""What is searched for: a check that fails, a verdict, an expression over the observation, or a number that moves."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from finetune_compat.checks.codes import CODES
from finetune_compat.checks.comparison import Health, health
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import Observation, Stage
from finetune_compat.contract.verdict import Kind, Outcome, Result, Verdict
from finetune_compat.history.expression import Expression, Missing, parse

VERDICT = "verdict"
"""The condition that asks whether a cell is healthy, and which checks fail if it is not."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one release gives for the condition."""

    state: Hashable | None
    """Releases with equal states are not told apart. None: the release gives no result."""
    shown: str
    """The observation in a few words; without a state, why there is none."""
    bad: bool = False
    """Whether the condition holds. For a number, `levels` decides it."""
    number: float | None = None
    """The value of a number."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One question to every release."""

    text: str
    code: str = ""
    """The check that must fail; empty for other conditions."""
    expression: Expression | None = None
    tolerance: float | None = None
    """Relative difference up to which two values of a number are the same; None if the expression is no number."""

    @property
    def tier(self) -> Tier:
        """The tier that measures it."""
        deep = (self.code and CODES[self.code].tier is not Tier.FULL) or (
            self.expression is not None and self.expression.text.startswith("deep")
        )
        return Tier.DEEP_ONLY if deep else Tier.FULL

    def of(self, verdict: Verdict, seen: Observation | None) -> Measured:
        """What a release gives, from its verdict and observation."""
        missing = _no_result(verdict, seen)
        if missing:
            return Measured(None, missing)
        if self.code:
            return _of_code(self.code, verdict)
        if self.expression is None or seen is None:
            return _of_verdict(verdict)
        return _of_expression(self.expression, seen, number=self.tolerance is not None)


def condition(text: str, tolerance: float | None) -> Condition:
    """Read a condition: `verdict`, a check code, or an expression; with a tolerance, an expression that is a number.

    Raises:
        CompatError: there is no such check, the expression is invalid, or the tolerance is.
    """
    where = f"--condition {text}"
    if tolerance is not None and not (0 < tolerance < math.inf):
        raise CompatError(
            f"--tolerance {tolerance:g} is not a share above 0",
            where=where,
            todo="Give the relative difference that is to be ignored, such as 1e-3.",
        )
    if text in CODES or text == VERDICT:
        if tolerance is not None:
            raise CompatError(
                "a tolerance needs a number",
                where=where,
                meaning="A verdict and a check either hold or do not.",
                todo="Leave --tolerance out, or give an expression such as training.eval_before.",
            )
        return Condition(text, code="" if text == VERDICT else text)
    expression = parse(text, where)
    if expression.is_number is True and tolerance is None:
        raise CompatError(
            "a number needs a tolerance",
            where=where,
            meaning="It neither holds nor not: a release is bad if the number differs by more than the tolerance.",
            todo=f"Add --tolerance 1e-3 (`compat transplant` takes none), or compare it: '{text} > 1'.",
        )
    if expression.is_number is False and tolerance is not None:
        raise CompatError(
            "a tolerance needs a number",
            where=where,
            meaning="This expression either holds or does not.",
            todo="Leave --tolerance out, or give a number such as training.eval_before.",
        )
    return Condition(text, expression=expression, tolerance=tolerance)


def levels(numbers: Sequence[float], tolerance: float) -> tuple[int, ...]:
    """The level of each number: numbers within the tolerance of the first one of a level are on it.

    The first number is on level 0. The same numbers give the same levels.
    """
    firsts: list[float] = []
    found = []
    for number in numbers:
        level = next((place for place, first in enumerate(firsts) if _same(number, first, tolerance)), len(firsts))
        firsts += [number] if level == len(firsts) else []
        found.append(level)
    return tuple(found)


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict to judge a script by that trains several times: the first that is not healthy, else the first."""
    found = list(verdicts)
    order = (Health.DEVIATES, Health.UNKNOWN, Health.ABSENT, Health.REFUSED, Health.TRAINS)
    return min(found, key=lambda verdict: order.index(health(verdict)), default=None)


def _same(one: float, other: float, tolerance: float) -> bool:
    return math.isclose(one, other, rel_tol=tolerance) or (math.isnan(one) and math.isnan(other))


def _no_result(verdict: Verdict, seen: Observation | None) -> str:
    """Why a release gives no result; empty if it gives one."""
    if verdict.outcome is Outcome.UNINSTALLABLE:
        return f"cannot be installed: {verdict.reason}"
    if verdict.outcome is Outcome.INFRASTRUCTURE:
        return f"could not be judged here: {verdict.reason}"
    error = seen.error if seen else None
    if error is not None and error.stage is Stage.IMPORT:
        return f"cannot be imported: {error.type}: {error.message}"
    if verdict.kind is Kind.PLATFORM and health(verdict) is Health.DEVIATES:
        return f"cannot run on this machine: {', '.join(verdict.issues)}"
    return ""


def _of_verdict(verdict: Verdict) -> Measured:
    found = health(verdict)
    if found is not Health.DEVIATES:
        return Measured(found, str(found))
    codes = ", ".join(verdict.failing)
    return Measured((found, verdict.failing), f"{codes} fails, eval loss: {verdict.symptom}", bad=True)


def _of_code(code: str, verdict: Verdict) -> Measured:
    opinion = next((opinion for opinion in verdict.opinions if opinion.code == code), None)
    match opinion.result if opinion else Result.NOT_APPLICABLE:
        case Result.FAIL:
            return Measured("fails", f"{code} {opinion.message if opinion else ''}".strip(), bad=True)
        case Result.PASS:
            return Measured("passes", f"{code} passes")
        case _:
            why = ", ".join(verdict.failing) or "it does not apply"
            return Measured(None, f"{code} was not judged: {why}")


def _of_expression(expression: Expression, seen: Observation, *, number: bool) -> Measured:
    try:
        value = expression.value(seen)
    except Missing as missing:
        return Measured(None, str(missing))
    shown = expression.shown(seen)
    if not number:
        return Measured(bool(value), shown, bad=bool(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Measured(None, f"{expression.text} is no number: {value!r}")
    return Measured("number", f"{expression.text} = {value:.6g}", number=float(value))
