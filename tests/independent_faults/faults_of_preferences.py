"""Faults of DPO: the reference, the pairs, and beta."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import trl.trainer.dpo_trainer
from effects import answers_differ, logged, weights_differ
from registry import PREFERENCES, around, fault
from trl import DPOTrainer
from truth import Truth


@contextlib.contextmanager
def _nothing(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield


def _loss_stays(healthy: Truth, faulty: Truth) -> str | None:
    right, seen = (truth.eval_losses() for truth in (healthy, faulty))
    return f"eval loss is {seen[-1]:.3f} before and after" if seen[0] == seen[-1] and right[0] != right[-1] else None


@fault(
    kind="reference moves with the policy",
    source="https://github.com/huggingface/trl/issues/1500",
    cell=PREFERENCES,
    effect=_loss_stays,
)
def reference_is_the_policy(patch: pytest.MonkeyPatch) -> None:
    """The reference is computed with the adapters that are trained, so that it moves with the policy."""
    if hasattr(trl.trainer.dpo_trainer, "use_adapter"):
        patch.setattr(trl.trainer.dpo_trainer, "use_adapter", _nothing)
    else:
        patch.setattr(DPOTrainer, "null_ref_context", _nothing)


def _swap_halves(value: Any) -> Any:
    return torch.cat(value.chunk(2)[::-1]) if isinstance(value, torch.Tensor) else value


@fault(
    kind="chosen and rejected swapped",
    source="https://github.com/linkedin/Liger-Kernel/pull/481",
    cell=PREFERENCES,
    effect=answers_differ("at_end"),
)
def loss_with_wrong_sign(patch: pytest.MonkeyPatch) -> None:
    """The loss has the wrong sign: the rejected completion becomes likelier."""

    def swapped(
        original: Any, trainer: Any, chosen: Any, rejected: Any, ref: Any, ref_rejected: Any, *args: Any
    ) -> Any:
        return original(trainer, rejected, chosen, ref_rejected, ref, *args)

    def from_inputs(original: Any, trainer: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        turned = {name: _swap_halves(value) for name, value in inputs.items()}
        return original(trainer, model, turned, *args, **kwargs)

    if hasattr(DPOTrainer, "dpo_loss"):
        around(patch, DPOTrainer, "dpo_loss", swapped)
    else:
        around(patch, DPOTrainer, "_compute_loss", from_inputs)


@fault(
    kind="beta ignored",
    source="https://github.com/AI-Hypercomputer/maxtext/issues/1530",
    cell=PREFERENCES,
    effect=weights_differ,
)
def beta_taken_twice(patch: pytest.MonkeyPatch) -> None:
    """The loss multiplies by beta twice, so that the reference counts ten times less."""

    def init(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
        original(trainer, *args, **kwargs)
        trainer.beta **= 2

    around(patch, DPOTrainer, "__init__", init)


@fault(
    kind="dropout on where it is asked off",
    source="https://github.com/huggingface/trl/issues/2042",
    cell=PREFERENCES,
    effect=weights_differ,
)
def dropout_kept_in_preferences(patch: pytest.MonkeyPatch) -> None:
    """Dropout stays on, although DPO asks for it off: policy and reference differ by chance."""
    patch.setattr(trl.trainer.dpo_trainer, "disable_dropout_in_model", lambda model: None)


@fault(
    kind="reported reward wrong",
    source="https://github.com/junkangwu/beta-DPO/issues/1",
    cell=PREFERENCES,
    effect=logged("rewards/margins", lambda right, seen: abs(seen[-1]) > 5 * abs(right[-1]) > 0, "without beta"),
)
def rewards_logged_without_beta(patch: pytest.MonkeyPatch) -> None:
    """The logged rewards lack the factor beta that the loss has."""

    def log(original: Any, trainer: Any, logs: dict[str, Any], *args: Any) -> Any:
        found = original(trainer, logs, *args)
        for entry in trainer.state.log_history[-1:]:
            entry.update({name: value / trainer.beta for name, value in entry.items() if "rewards/" in name})
        return found

    around(patch, DPOTrainer, "log", log)
