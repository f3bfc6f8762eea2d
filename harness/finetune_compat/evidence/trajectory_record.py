"""The record of trajectories: the losses of each way to run one training, and how fast each stack learns."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from finetune_compat.contract.trajectory import STEPS, Task, Way
from finetune_compat.machine import record_files

LARGEST = 1e-4
"""Relative difference of one loss. Sums of float32 in another order made 1e-6 on TRL 1.16; the mean of the means of
parts in place of the mean over all labels makes 1e-2.
"""

RESIDUAL = 1e-5
"""Mean of the signed relative differences: a small difference with one sign is no rounding."""

FALLEN = 0.9
"""The target of the speed of learning, as a share of the first loss."""

WINDOW = 5
"""Losses whose mean is compared with the target: one loss depends on the rows of its step."""

SLOWER, FASTER = 0.85, 1 / 0.85
"""Factors of the learning rate that the test must notice."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training."""

    task: Task
    way: Way
    losses: tuple[float, ...]
    weights: tuple[str, ...]
    """A digest of the trained weights of each process."""
    error: str
    """Why it did not finish; empty if it did."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Steps to the target of the same seeds, with the learning rate as it is and multiplied; None if not reached."""

    usual: tuple[float | None, ...]
    slower: tuple[float | None, ...]
    faster: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """One stack."""

    measured: str
    """Day: UTC, ISO 8601."""
    commit: str
    versions: Mapping[str, str]
    runs: tuple[Run, ...]
    speed: Speed


def of(stack: Measured, task: Task, way: Way) -> Run | None:
    """The run of a way; None if the releases of the stack do not have it."""
    return next((run for run in stack.runs if (run.task, run.way) == (task, way)), None)


# ----------------------------------------------------------------------------------------------------------- agreement


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one way compares with the plain one."""

    word: str
    """`agrees`, `differs`, `fails` or `no plain run`."""
    largest: float | None = None
    residual: float | None = None
    why: str = ""


def agreement(run: Run, plain: Run | None) -> Agreement:
    """The comparison of `run` with the plain way of the same task.

    Two processes must end with equal weights. Where no plain way is comparable (`plain` is None), only that is asked.
    """
    if run.error:
        return Agreement("fails", why=run.error)
    if len(run.losses) != STEPS or not all(map(math.isfinite, run.losses)):
        return Agreement("fails", why=f"{sum(map(math.isfinite, run.losses))} finite losses of {STEPS} steps")
    if len(set(run.weights)) > 1:
        return Agreement("differs", why="the processes end with different weights")
    if plain is None:
        return Agreement("agrees")
    if plain.error or len(plain.losses) != STEPS:
        return Agreement("no plain run", why=plain.error)
    off = [(there - here) / abs(here) for here, there in zip(plain.losses, run.losses, strict=True)]
    largest, residual = max(map(abs, off)), statistics.fmean(off)
    same = largest <= LARGEST and abs(residual) <= RESIDUAL
    first = next((step for step, each in enumerate(off, 1) if abs(each) > LARGEST), None)
    why = "" if same else f"from step {first} on" if first else "by little, always with the same sign"
    return Agreement("agrees" if same else "differs", largest, residual, why)


# --------------------------------------------------------------------------------------------------------------- speed


def steps_to_target(losses: Sequence[float]) -> float | None:
    """Steps until the mean of the last losses is at the target; None if it never is.

    Between two steps the mean is taken as a straight line: whole steps are too coarse for a rate that is 15 % higher.
    """
    target = FALLEN * losses[0]
    earlier: float | None = None
    for end in range(WINDOW, len(losses) + 1):
        mean = statistics.fmean(losses[end - WINDOW : end])
        if mean <= target:
            return float(end) if earlier is None else end - (target - mean) / (earlier - mean)
        earlier = mean
    return None


@dataclass(frozen=True, slots=True)
class Ratio:
    """Steps to the target of one run, divided by those of another with the same seed: mean and 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """`slower` or `faster` if the interval excludes 1, else `same`."""
        return "slower" if self.low > 1 else "faster" if self.high < 1 else "same"


def ratio(steps: Sequence[float | None], reference: Sequence[float | None]) -> Ratio | None:
    """How many times the steps of `reference` `steps` are; None if fewer than two seeds reached the target in both."""
    pairs = zip(steps, reference, strict=True)
    ratios = [here / there for here, there in pairs if here is not None and there is not None]
    if len(ratios) < 2:  # noqa: PLR2004 - a standard deviation needs two
        return None
    mean = statistics.fmean(ratios)
    # The normal quantile: with 20 seeds Student's is 7 % larger.
    half = statistics.NormalDist().inv_cdf(0.975) * statistics.stdev(ratios) / math.sqrt(len(ratios))
    return Ratio(mean, mean - half, mean + half)


# ---------------------------------------------------------------------------------------------------------------- file

_RECORD = TypeAdapter(dict[str, Measured])


def read_record(path: Path) -> dict[str, Measured]:
    """The stacks in `path` by name; none if there is no such file.

    Raises:
        RecordsError: it cannot be read, or is no such record.
    """
    if not path.exists():
        return {}
    todo = "Delete it and make it again: nox -s trajectories"
    return record_files.read_record(_RECORD, path, name="a record of trajectories", todo=todo)


def record_text(record: Mapping[str, Measured]) -> str:
    """The text of the file: one line for each stack."""
    lines = (f"{json.dumps(name)}: {json.dumps(dataclasses.asdict(stack))}" for name, stack in record.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"
