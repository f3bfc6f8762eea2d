"""The guard's share of a run, calculated from its cost in each kind of step. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

TARGET = 0.01
"""The guard's share of the steps' time must stay below this."""

STEPS = 100
"""Length of the run: a short one, in which one-time costs weigh most."""

EVERY = 50
"""The guard's default: steps from one check to the next."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Costs in seconds."""

    step: float
    """A step without a guard."""
    begin: float
    """The guard at the start of training."""
    first: tuple[float, ...]
    """The guard in each of the first steps: it checks three, and compares the weights once after them."""
    idle: float
    """The guard in a later step that it skips."""
    looking: float
    """The guard in a later step that it checks."""

    @property
    def later(self) -> float:
        """The guard's share of a step in the long run: one in `EVERY` is checked."""
        return (self.idle + (self.looking - self.idle) / EVERY) / self.step

    @property
    def share(self) -> float:
        """The guard's share of a run of `STEPS` steps, including one-time costs."""
        later = range(len(self.first), STEPS)
        looks = sum(step % EVERY == 0 for step in later)
        spent = self.begin + sum(self.first) + looks * self.looking + (len(later) - looks) * self.idle
        return spent / (STEPS * self.step)

    @property
    def too_much(self) -> bool:
        """Whether the share exceeds the limit in either run."""
        return max(self.share, self.later) >= TARGET
