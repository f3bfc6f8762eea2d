"""Faults of the optimizer and of the schedule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from effects import logged, still, weights_differ, weights_named
from registry import ADAPTER, WHOLE_MODEL, around, fault
from torch.optim import AdamW
from transformers import Trainer


def _weights(optimizer: Any) -> list[torch.Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _options(patch: pytest.MonkeyPatch, **options: Any) -> None:
    """Every group of a new AdamW gets `options`, whatever was asked for."""

    def init(original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        original(optimizer, *args, **kwargs)
        for group in optimizer.param_groups:
            group.update(options)

    around(patch, AdamW, "__init__", init)


def _before_step(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Call `change(optimizer, number)` before each step; numbers begin at 1."""
    numbers: dict[int, int] = {}

    def step(original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        numbers[id(optimizer)] = numbers.get(id(optimizer), 0) + 1
        change(optimizer, numbers[id(optimizer)])
        return original(optimizer, *args, **kwargs)

    around(patch, AdamW, "step", step)


@fault(
    kind="optimizer with wrong betas",
    source="https://github.com/huggingface/transformers/issues/5699",
    cell=ADAPTER,
    effect=weights_differ,
)
def second_beta_not_passed_on(patch: pytest.MonkeyPatch) -> None:
    """AdamW averages squared gradients with 0.98 instead of the 0.999 that was asked for."""
    _options(patch, betas=(0.9, 0.98))


@fault(
    kind="optimizer with wrong betas",
    source="https://github.com/NVIDIA-NeMo/Speech/pull/775",
    cell=ADAPTER,
    effect=weights_differ,
)
def momentum_lost(patch: pytest.MonkeyPatch) -> None:
    """AdamW's first beta is not passed on and is 0: steps have no momentum."""
    _options(patch, betas=(0.0, 0.999))


@fault(
    kind="optimizer with wrong epsilon",
    source="https://github.com/mlpnlp/mlpnlp-nmt/pull/4",
    cell=ADAPTER,
    effect=weights_differ,
)
def epsilon_too_large(patch: pytest.MonkeyPatch) -> None:
    """AdamW's epsilon is 0.001 instead of 1e-8 and shortens the steps of small gradients."""
    _options(patch, eps=1e-3)


@fault(
    kind="optimizer with wrong decay",
    source="https://github.com/fw-ai/cookbook/pull/490",
    cell=WHOLE_MODEL,
    effect=weights_differ,
)
def weight_decay_of_default(patch: pytest.MonkeyPatch) -> None:
    """AdamW decays weights by its own default of 0.01, although 0 was asked for."""
    _options(patch, weight_decay=0.01)


@fault(
    kind="decay on wrong parameters",
    source="https://github.com/huggingface/transformers/pull/35927",
    cell=WHOLE_MODEL,
    effect=weights_named("norm"),
)
def norms_decayed(patch: pytest.MonkeyPatch) -> None:
    """RMS norms are not recognized as norms, and their weights decay."""

    def decay(optimizer: Any, number: int) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    if weight.dim() == 1 and float(weight.mean()) > 0.5:  # norms begin at 1, biases near 0
                        weight.mul_(1 - 0.1 * group["lr"])

    _before_step(patch, decay)


@fault(
    kind="optimizer without bias correction",
    source="https://arxiv.org/abs/2006.05987",
    cell=ADAPTER,
    effect=weights_differ,
)
def bias_correction_omitted(patch: pytest.MonkeyPatch) -> None:
    """AdamW does not correct its averages for their start at zero, so that the first steps are too long."""

    def late(optimizer: Any, number: int) -> None:
        for weight in _weights(optimizer):
            if weight.grad is not None and not optimizer.state[weight]:
                zeros = [torch.zeros_like(weight) for _ in range(2)]
                optimizer.state[weight] = dict(zip(("exp_avg", "exp_avg_sq"), zeros, strict=True))
                # After so many steps the correction is 1 in float32.
                optimizer.state[weight]["step"] = torch.tensor(1e6)

    _before_step(patch, late)


@fault(
    kind="optimizer's moments lost",
    source="https://github.com/KempnerInstitute/KempnerForge/pull/115",
    cell=ADAPTER,
    effect=weights_differ,
)
def moments_lost_in_the_middle(patch: pytest.MonkeyPatch) -> None:
    """AdamW's averages are silently reset in the middle of the run, as by a resume that does not load them."""
    _before_step(patch, lambda optimizer, number: optimizer.state.clear() if number == 6 else None)


@fault(
    kind="optimizer's moments in low precision",
    source="https://github.com/TensorAuto/OpenTau/issues/181",
    cell=ADAPTER,
    effect=weights_differ,
)
def moments_rounded_to_bfloat16(patch: pytest.MonkeyPatch) -> None:
    """AdamW's averages are stored in bfloat16."""

    def round_off(optimizer: Any, number: int) -> None:
        for state in optimizer.state.values():
            for name in ("exp_avg", "exp_avg_sq"):
                if name in state:
                    state[name].copy_(state[name].bfloat16())

    _before_step(patch, round_off)


@fault(
    kind="parameters missing in the optimizer",
    source="https://github.com/ohhhyeahhh/SiamCAR/issues/18",
    cell=ADAPTER,
    effect=still("down_proj.lora_A"),
)
def parameters_not_in_a_group(patch: pytest.MonkeyPatch) -> None:
    """Trainable parameters of one kind of layer are in no group of the optimizer."""

    def create(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        optimizer = original(trainer, *args, **kwargs)
        left_out = {id(weight) for name, weight in trainer.model.named_parameters() if "down_proj" in name}
        for group in optimizer.param_groups:
            group["params"] = [weight for weight in group["params"] if id(weight) not in left_out]
        return optimizer

    around(patch, Trainer, "create_optimizer", create)


@fault(
    kind="updates not written",
    source="https://elanapearl.github.io/blog/2025/the-bug-that-taught-me-pytorch",
    cell=ADAPTER,
    effect=still("k_proj.lora_B"),
)
def update_lost_for_some_layout(patch: pytest.MonkeyPatch) -> None:
    """A kernel drops the update of tensors of one memory layout, and their weights never change."""

    def step(original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        shape = (32, 8)  # of lora_B at the key and value projections
        held = {weight: weight.detach().clone() for weight in _weights(optimizer) if weight.shape == shape}
        result = original(optimizer, *args, **kwargs)
        with torch.no_grad():
            for weight, value in held.items():
                weight.copy_(value)
        return result

    around(patch, AdamW, "step", step)


# -------------------------------------------------------------------------------------------------------------- steps


def _skip(patch: pytest.MonkeyPatch, skipped: Any) -> None:
    """Do nothing in the steps for whose number `skipped` holds; numbers begin at 1."""
    numbers: dict[int, int] = {}

    def step(original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        number = numbers[id(optimizer)] = numbers.get(id(optimizer), 0) + 1
        return None if skipped(number) else original(optimizer, *args, **kwargs)

    around(patch, AdamW, "step", step)


@fault(
    kind="step skipped",
    source="https://github.com/huggingface/transformers/pull/29561",
    cell=ADAPTER,
    effect=weights_differ,
)
def last_step_skipped(patch: pytest.MonkeyPatch) -> None:
    """The last step of the run is counted and logged, and the optimizer does not make it."""
    _skip(patch, lambda number: number == 10)


@fault(
    kind="step skipped",
    source="https://github.com/huggingface/accelerate/issues/2828",
    cell=ADAPTER,
    effect=weights_differ,
)
def every_third_step_skipped(patch: pytest.MonkeyPatch) -> None:
    """The optimizer skips every third step, as after an overflow, and reports that it made it."""
    _skip(patch, lambda number: number % 3 == 0)


@fault(
    kind="step made twice",
    source="https://github.com/huggingface/accelerate/issues/1398",
    cell=ADAPTER,
    effect=weights_differ,
)
def step_made_twice(patch: pytest.MonkeyPatch) -> None:
    """What is called once a step takes effect once a process: the optimizer steps twice on the same gradients."""

    def step(original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        original(optimizer, *args, **kwargs)
        return original(optimizer, *args, **kwargs)

    around(patch, AdamW, "step", step)


# ----------------------------------------------------------------------------------------------------------- schedule


def _schedule(patch: pytest.MonkeyPatch, step_of: Any) -> None:
    """Let each step have the rate of the step `step_of(number)`, from 0; a rate of None is 0."""

    def create(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        scheduler = original(trainer, *args, **kwargs)
        rates = list(scheduler.lr_lambdas)

        def factor(rate: Any) -> Any:
            return lambda number: 0.0 if step_of(number) is None else rate(step_of(number))

        scheduler.lr_lambdas = [factor(rate) for rate in rates]
        for group, rate, base in zip(
            scheduler.optimizer.param_groups, scheduler.lr_lambdas, scheduler.base_lrs, strict=True
        ):
            group["lr"] = base * rate(0)
        scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]
        return scheduler

    around(patch, Trainer, "create_scheduler", create)


@fault(
    kind="schedule shifted",
    source="https://github.com/huggingface/transformers/issues/34754",
    cell=ADAPTER,
    effect=weights_differ,
)
def first_rate_is_zero(patch: pytest.MonkeyPatch) -> None:
    """The schedule begins at 0 without a warm-up being asked for, and is one step late from then on."""
    _schedule(patch, lambda number: number - 1 if number else None)


@fault(
    kind="schedule too fast",
    source="https://github.com/huggingface/accelerate/issues/2926",
    cell=ADAPTER,
    effect=logged(
        "learning_rate", lambda right, seen: seen[-1] == 0 and seen[5] == 0 < right[5], "0 after half the run"
    ),
)
def schedule_steps_per_process(patch: pytest.MonkeyPatch) -> None:
    """The schedule makes one step for each of two processes, and reaches 0 after half the run."""
    _schedule(patch, lambda number: 2 * number)


@fault(
    kind="logged rate is not the rate of the step",
    source="https://github.com/saforem2/ezpz/pull/128",
    cell=ADAPTER,
    effect=weights_differ,
)
def schedule_without_effect(patch: pytest.MonkeyPatch) -> None:
    """The logged rate decays, and the optimizer steps with the first rate throughout."""

    def step(original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        shown = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        try:
            return original(optimizer, *args, **kwargs)
        finally:
            for group, rate in zip(optimizer.param_groups, shown, strict=True):
                group["lr"] = rate

    around(patch, AdamW, "step", step)
