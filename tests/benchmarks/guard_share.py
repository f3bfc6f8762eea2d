"""What a guard costs of a run, from what it costs of each kind of step. Plain numbers; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

TARGET = 0.01
"""Share of the steps' time that a guard must stay under."""

STEPS = 100
"""Length of the run that is charged: a short one, in which what is done once weighs much."""

EVERY = 50
"""The guard's own default: steps from one look to the next."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds."""

    step: float
    """Of a step without a guard."""
    begin: float
    """Of the guard, when training begins."""
    first: tuple[float, ...]
    """Of the guard in each of the first steps: it looks at three, and compares the weights once after them."""
    idle: float
    """Of the guard in a later step that it does not look at."""
    looking: float
    """Of the guard in one that it does."""

    @property
    def later(self) -> float:
        """Share of a step in the long run: one in `EVERY` is looked at."""
        return (self.idle + (self.looking - self.idle) / EVERY) / self.step

    @property
    def share(self) -> float:
        """Share of a run of `STEPS` steps, with all that the guard does once."""
        later = range(len(self.first), STEPS)
        looks = sum(step % EVERY == 0 for step in later)
        spent = self.begin + sum(self.first) + looks * self.looking + (len(later) - looks) * self.idle
        return spent / (STEPS * self.step)

    @property
    def too_much(self) -> bool:
        """Whether it is more than was promised, in either run."""
        return max(self.share, self.later) >= TARGET
