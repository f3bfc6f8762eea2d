"""Ways to run one training that must give the same losses, step by step. Shared by the stack's side and the host's."""

from __future__ import annotations

from enum import StrEnum

STEPS = 50
ROWS = 8
"""Rows of one optimizer step, however they are divided."""


class Way(StrEnum):
    """How the rows of a step are processed."""

    PLAIN = "plain"
    """One batch, one process."""
    ACCUMULATION = "accumulation"
    """Four batches per optimizer step."""
    CHECKPOINTING = "checkpointing"
    """Activations are computed again in the backward pass."""
    PADDING_FREE = "padding-free"
    """The rows of a batch are concatenated in place of padded."""
    RESUME = "resume"
    """Interrupted after half of the steps, and resumed from the checkpoint."""
    TWO_PROCESSES = "two processes"
    """Two processes with half of the rows each, over gloo."""


class Task(StrEnum):
    """What is trained: a LoRA adapter on a tiny model."""

    SFT = "SFT"
    DPO = "DPO"
    GRPO = "GRPO"


WAYS: dict[Task, tuple[Way, ...]] = {
    Task.SFT: tuple(Way),
    Task.DPO: (Way.PLAIN, Way.ACCUMULATION, Way.CHECKPOINTING, Way.RESUME, Way.TWO_PROCESSES),
    # Each process draws completions of its own, so that losses are not comparable: only the weights of both are.
    Task.GRPO: (Way.TWO_PROCESSES,),
}
