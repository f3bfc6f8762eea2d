"""The error rate of a test, estimated from trials."""

from __future__ import annotations

import math
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """Number of wrong answers in a number of independent trials."""

    wrong: int
    trials: int

    @property
    def upper_bound(self) -> float:
        """One-sided 95 % upper confidence bound of the rate (Clopper and Pearson). At this rate, 5 % of all series of
        trials have at most `wrong` wrong answers. 1.0 without a trial.
        """
        if self.wrong >= self.trials:
            return 1.0
        low, high = 0.0, 1.0
        while high - low > 1e-9:  # noqa: PLR2004 - far more precise than any report
            middle = (low + high) / 2
            low, high = (middle, high) if self._as_few(middle) > 1 - CONFIDENCE else (low, middle)
        return high

    def _as_few(self, rate: float) -> float:
        """Probability of at most `wrong` wrong answers at `rate`."""
        return sum(math.comb(self.trials, k) * rate**k * (1 - rate) ** (self.trials - k) for k in range(self.wrong + 1))

    def __str__(self) -> str:
        return f"{self.wrong} of {self.trials} (95 % upper bound {self.upper_bound:.1%})"
