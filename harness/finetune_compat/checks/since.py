"""From which training step on a finding on a script shows. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from finetune_compat.checks.rules import DIVERGED
from finetune_compat.contract.records import Training
from finetune_compat.contract.script import Run


def since(run: Run, code: str) -> int | None:
    """The first step, counted from 1, at which the failure of `code` shows; None if the record does not tell."""
    if code in _FROM_THE_FIRST:
        return 1
    training = run.seen.training
    rule = _RULES.get(code)
    return rule(run, training) if rule is not None and training is not None else None


_FROM_THE_FIRST = ("C103", "C104", "A201", "O301")
"""What is wrong before training is wrong at every step."""


def _frozen(run: Run, _: Training) -> int | None:
    return None if run.frozen_after is None else run.frozen_after + 1


def _gradients(_: Run, training: Training) -> int | None:
    """The first step of the last sequence of steps without a finite gradient other than zero."""
    norms = training.grad_norm
    good = [place for place, norm in enumerate(norms, 1) if norm and math.isfinite(norm)]
    last = good[-1] if good else 0
    return last + 1 if last < len(norms) else None


def _norm(_: Run, training: Training) -> int | None:
    return next((place for place, norm in enumerate(training.grad_norm, 1) if not math.isfinite(norm)), None)


def _loss(run: Run, training: Training) -> int | None:
    return _logged(run, training.loss, lambda loss: not math.isfinite(loss))


def _diverged(run: Run, training: Training) -> int | None:
    first = next(iter(training.loss), math.nan)
    return _logged(run, training.loss, lambda loss: loss > DIVERGED * first)


def _logged(run: Run, losses: Sequence[float], wrong: Callable[[float], bool]) -> int | None:
    """The step of the first logged loss that is wrong."""
    return next((step for step, loss in zip(run.logged_at, losses, strict=False) if wrong(loss)), None)


_RULES: Mapping[str, Callable[[Run, Training], int | None]] = {
    "C105": _frozen,
    "G401": _gradients,
    "G404": _norm,
    "W701": lambda _, training: None if training.subject_delta else 1,
    "E807": _loss,
    "E808": _diverged,
}
