"""How often a test is wrong, from how often it was wrong when it was tried."""

from __future__ import annotations

import math
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """So many wrong answers in so many independent trials."""

    wrong: int
    trials: int

    @property
    def upper_bound(self) -> float:
        """The largest rate that so few wrong answers still allow, with 95 % confidence: the one at which as few or
        fewer come up in 5 % of all such series (Clopper and Pearson, one-sided). 1.0 without a trial.
        """
        if self.wrong >= self.trials:
            return 1.0
        low, high = 0.0, 1.0
        while high - low > 1e-9:  # noqa: PLR2004 - far below what any report shows
            middle = (low + high) / 2
            low, high = (middle, high) if self._as_few(middle) > 1 - CONFIDENCE else (low, middle)
        return high

    def _as_few(self, rate: float) -> float:
        """Probability of as few wrong answers, or fewer, at `rate`."""
        return sum(math.comb(self.trials, k) * rate**k * (1 - rate) ** (self.trials - k) for k in range(self.wrong + 1))

    def __str__(self) -> str:
        return f"{self.wrong} of {self.trials} (95 % upper bound {self.upper_bound:.1%})"
