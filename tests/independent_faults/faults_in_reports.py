"""Faults of what a trainer logs. The training itself is healthy."""

from __future__ import annotations

import math
from typing import Any

import pytest
from effects import first_is_times, logged, logs_only
from registry import ADAPTER, WHOLE_MODEL, around, fault
from transformers import Trainer


def _log_as(patch: pytest.MonkeyPatch, name: str, change: Any) -> None:
    """Log `change(value, earlier values)` in place of each value under `name`."""
    earlier: list[float] = []

    def log(original: Any, trainer: Any, logs: dict[str, Any], *args: Any) -> Any:
        if name in logs:
            earlier.append(float(logs[name]))
            logs[name] = change(earlier[-1], earlier[:-1])
        return original(trainer, logs, *args)

    around(patch, Trainer, "log", log)


@fault(
    kind="reported loss scaled",
    source="https://github.com/huggingface/transformers/issues/35204",
    cell=ADAPTER,
    effect=logs_only("loss", first_is_times(4), "four times the loss at every step"),
)
def loss_logged_without_division(patch: pytest.MonkeyPatch) -> None:
    """The logged loss is a sum over accumulation steps, not divided by their number."""
    _log_as(patch, "loss", lambda value, earlier: 4 * value)


@fault(
    kind="reported loss constant",
    source="https://github.com/InternLM/xtuner/pull/625",
    cell=ADAPTER,
    effect=logs_only("loss", lambda right, seen: not any(seen) and all(right), "0 at every step"),
)
def loss_logged_as_zero(patch: pytest.MonkeyPatch) -> None:
    """A filter for the log replaces every loss by 0."""
    _log_as(patch, "loss", lambda value, earlier: 0.0)


@fault(
    kind="reported loss stuck",
    source="https://github.com/huggingface/trl/issues/6702",
    cell=ADAPTER,
    effect=logs_only(
        "loss", lambda right, seen: len(set(seen[4:])) == 1 < len(set(right[4:])), "one value from step 5"
    ),
)
def loss_logged_as_earlier_mean(patch: pytest.MonkeyPatch) -> None:
    """From the fifth step on, the filter for losses that are not finite logs the mean of the earlier losses."""
    _log_as(patch, "loss", lambda value, earlier: sum(earlier[:4]) / 4 if len(earlier) >= 4 else value)


@fault(
    kind="reported loss of the last micro-batch",
    source="https://github.com/allenai/allennlp/pull/4706",
    cell=ADAPTER,
    micro_batches=4,
    effect=logs_only("loss", lambda right, seen: seen[0] < 0.5 * right[0], "a fraction of the loss of the step"),
)
def loss_logged_of_last_micro_batch(patch: pytest.MonkeyPatch) -> None:
    """The logged loss of a step is that of its last micro-batch alone, divided by the number of micro-batches."""

    def step(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(trainer, *args, **kwargs)
        return loss if trainer.accelerator.sync_gradients else 0 * loss

    around(patch, Trainer, "training_step", step)


@fault(
    kind="reported gradient norm not finite",
    source="https://github.com/huggingface/trl/pull/6025",
    cell=ADAPTER,
    effect=logs_only("grad_norm", lambda right, seen: all(map(math.isnan, seen)), "NaN at every step"),
)
def gradient_norm_logged_as_nan(patch: pytest.MonkeyPatch) -> None:
    """The logged gradient norm is NaN, while the gradients are finite."""
    _log_as(patch, "grad_norm", lambda value, earlier: math.nan)


@fault(
    kind="reported gradient norm after clipping",
    source="https://github.com/verl-project/verl/issues/2282",
    cell=WHOLE_MODEL,
    effect=logged("grad_norm", lambda right, seen: max(seen) <= 1 < max(right), "never above the clipping value"),
)
def gradient_norm_logged_after_clipping(patch: pytest.MonkeyPatch) -> None:
    """The logged gradient norm is the one after clipping, so that it hides every spike."""
    _log_as(patch, "grad_norm", lambda value, earlier: min(value, 1.0))
