"""What was seen of a script of the user's own: the contract between the process that ran it and the host.

A trainer of a script is an `Observation`, as a cell of the matrix is, so that one judge, one comparison and one report
serve both. What a script has beside its trainers stands around them. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from finetune_compat.contract.records import Census, DeviceRecord, Failure, Observation, StackRecord, standard

PIPELINE_SCHEMA = 1
"""Version of the record's schema; raised whenever a field changes its meaning or is removed."""

REQUEST = "COMPAT_WATCH"
"""Environment variable that names the request; a process that has it is watched."""


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What the host asks of every Python process of the script."""

    folder: str
    """Each process leaves its record here, under its number; what the script must not overwrite goes below it."""
    flow: str
    """The script's name, as cells spell it."""
    stack: str
    steps: int
    lock_sha256: str
    torch_wanted: str
    throw_away: bool = False
    """Whether all that is saved is thrown away, and not only what would replace something: the script runs again."""


SCRATCH = "thrown-away"
"""Directory below a request's folder that is written to in place of what the script names."""

SHOWN = ".shown.json"
"""Ending of a `Shown` in `SCRATCH`."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A directory of the script's own that has links to what was saved elsewhere. The host takes them away."""

    directory: str
    made: tuple[str, ...]
    """Directories that were made for it, the innermost first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One trainer of the script, or one model that no trainer was given."""

    seen: Observation
    trainer: str | None
    """Class of the trainer; None where there was none."""
    asks_for_adapters: bool
    """Whether the script wraps the model, or hands the trainer a PEFT configuration."""
    rewarded: bool = False
    """Whether rewards make the gradient: it may then be zero, and the loss too, while the model learns."""
    rows_evaluated: int | None = None
    """Rows of each evaluation; 0 where nobody counted them, None without an evaluation set."""
    full_rate: float | None = None
    """The learning rate the script asks for, which warm-up leads up to."""
    rewards_alike: bool | None = None
    """Whether every entry of the trainer's log says that all completions of a prompt earned the same, so that no
    gradient is due; None where it logs nothing of it.
    """
    idle: tuple[str, ...] = ()
    """Names of trainable tensors that never received a gradient other than zero."""
    handed: Census | None = None
    """The model as the script gives it to be trained, after all the script does to its adapters. None where it has no
    adapter then, and in records from before it was counted.
    """

    @property
    def full_steps(self) -> float | None:
        """Training done, in steps at the full learning rate; None where there is no such rate."""
        training = self.seen.training
        if training is None or not self.full_rate:
            return None
        return sum(min(rate / self.full_rate, 1.0) for rate in training.learning_rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """All that was seen of one run of a script."""

    script: str
    arguments: tuple[str, ...]
    steps: int
    """Steps after which each training was ended."""
    stack: StackRecord
    device: DeviceRecord
    runs: tuple[Run, ...] = ()
    changed: tuple[str, ...] = ()
    """What was done otherwise than the script says, a sentence each."""
    unseen: tuple[str, ...] = ()
    """What could not be seen, a sentence each."""
    error: Failure | None = None
    """The exception that ended the script."""
    status: int | None = None
    """Exit status of the process; a negative one is a signal. None until the host has seen it."""
    schema: int = PIPELINE_SCHEMA

    def to_json(self) -> str:
        """One line of standard JSON."""
        return json.dumps(standard(dataclasses.asdict(self)), separators=(",", ":"), allow_nan=False)


def ended_with(status: int) -> str:
    """An exit status in words."""
    return f"signal {-status}" if status < 0 else f"status {status}"
