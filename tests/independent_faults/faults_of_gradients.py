"""Faults between the loss and the optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers.modeling_utils
from accelerate import Accelerator
from effects import first_is_times, logged, still, weights_differ
from registry import ADAPTER, CHECKPOINTED, WHOLE_MODEL, around, fault
from torch.optim import AdamW
from transformers import Trainer


def _backward_of(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Compute the gradients of `change(loss, accelerator)`; the loss that is logged stays."""

    def backward(original: Any, accelerator: Any, loss: Any, **kwargs: Any) -> Any:
        return original(accelerator, change(loss, accelerator), **kwargs)

    around(patch, Accelerator, "backward", backward)


@fault(
    kind="gradients scaled",
    source="https://github.com/deepspeedai/DeepSpeed/pull/7839",
    cell=ADAPTER,
    effect=weights_differ,
)
def gradients_divided_by_loss_scale(patch: pytest.MonkeyPatch) -> None:
    """Gradients are divided by a loss scale of 65,536 by which the loss was never multiplied."""
    _backward_of(patch, lambda loss, accelerator: loss / 65536)


@fault(
    kind="gradients scaled",
    source="https://github.com/modelscope/ms-swift/pull/10084",
    cell=ADAPTER,
    effect=logged("grad_norm", first_is_times(0.5), "half the norm of the batch's gradient"),
)
def gradients_halved(patch: pytest.MonkeyPatch) -> None:
    """Gradients are divided by the configured number of micro-batches, which is twice the real one."""
    _backward_of(patch, lambda loss, accelerator: loss / 2)


@fault(
    kind="loss scaled by world size",
    source="https://github.com/huggingface/transformers/issues/37474",
    cell=ADAPTER,
    effect=logged("loss", first_is_times(8), "eight times the loss of the batch"),
)
def loss_multiplied_by_devices(patch: pytest.MonkeyPatch) -> None:
    """The loss is normalized by the tokens of one device out of eight, and its gradients with it."""

    def step(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        compute = trainer.compute_loss
        trainer.compute_loss = lambda *inputs, **options: 8 * compute(*inputs, **options)
        try:
            return original(trainer, *args, **kwargs)
        finally:
            del trainer.compute_loss

    around(patch, Trainer, "training_step", step)


@fault(
    kind="gradients not cleared",
    source="https://github.com/deepspeedai/DeepSpeed/pull/7839",
    cell=ADAPTER,
    effect=weights_differ,
)
def gradients_never_cleared(patch: pytest.MonkeyPatch) -> None:
    """Gradients of earlier steps stay and are added to those of the next."""
    patch.setattr(torch.nn.Module, "zero_grad", lambda module, set_to_none=True: None)
    patch.setattr(torch.optim.Optimizer, "zero_grad", lambda optimizer, set_to_none=True: None)


@fault(
    kind="gradients stale",
    source="https://github.com/deepspeedai/DeepSpeed/issues/5545",
    cell=ADAPTER,
    effect=weights_differ,
)
def gradients_of_step_before(patch: pytest.MonkeyPatch) -> None:
    """The optimizer reads gradients before they are written: each step uses those of the step before."""

    def step(original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        # On the optimizer, so that it ends with it: a fault must not leave tensors behind.
        buffer = optimizer.__dict__.setdefault("independent_fault_buffer", {})
        held = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
        for weight in held:
            fresh = weight.grad.clone()
            weight.grad.copy_(buffer.get(weight, fresh))
            buffer[weight] = fresh
        return original(optimizer, *args, **kwargs)

    around(patch, AdamW, "step", step)


@fault(
    kind="gradients of a layer lost",
    source="https://github.com/microsoft/LoRA/issues/120",
    cell=CHECKPOINTED,
    effect=still("layers.0."),
)
def checkpointed_layer_without_gradients(patch: pytest.MonkeyPatch) -> None:
    """Checkpointing cuts the first layer out of the graph, because its input needs no gradient."""
    calls = 0

    def checkpoint(original: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:  # the models have two layers
            return original(function, *args, **kwargs)
        with torch.no_grad():
            out = function(*args)
        first = out[0] if isinstance(out, tuple) else out
        first.requires_grad_()
        return out

    around(patch, transformers.modeling_utils, "checkpoint", checkpoint)


@fault(
    kind="checkpointing loses the dropout state",
    source="https://github.com/openai/guided-diffusion/issues/167",
    cell=CHECKPOINTED,
    effect=weights_differ,
)
def dropout_state_lost_in_recomputation(patch: pytest.MonkeyPatch) -> None:
    """Checkpointing recomputes layers with other dropout masks than those of the forward pass."""

    def checkpoint(original: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        return original(function, *args, **{**kwargs, "preserve_rng_state": False})

    around(patch, transformers.modeling_utils, "checkpoint", checkpoint)


# ----------------------------------------------------------------------------------------------------------- clipping


@fault(
    kind="clip value ignored",
    source="https://github.com/deepspeedai/DeepSpeed/pull/3790",
    cell=WHOLE_MODEL,
    effect=weights_differ,
)
def clipping_switched_off(patch: pytest.MonkeyPatch) -> None:
    """The gradient norm is computed and logged, and gradients are not clipped."""

    def clip(original: Any, accelerator: Any, weights: Any, limit: Any, *args: Any, **kwargs: Any) -> Any:
        return original(accelerator, weights, float("inf"), *args, **kwargs)

    around(patch, Accelerator, "clip_grad_norm_", clip)


@fault(
    kind="clip value ignored",
    source="https://github.com/pytorch/pytorch/issues/148259",
    cell=WHOLE_MODEL,
    effect=logged("grad_norm", lambda right, seen: not any(seen) and all(right), "0 at every step"),
)
def clipping_of_used_up_generator(patch: pytest.MonkeyPatch) -> None:
    """The parameters to clip come from a generator that was read before, so that nothing is clipped."""

    def clip(original: Any, accelerator: Any, weights: Any, *args: Any, **kwargs: Any) -> Any:
        used = iter(list(weights))
        list(used)
        return original(accelerator, used, *args, **kwargs)

    around(patch, Accelerator, "clip_grad_norm_", clip)


@fault(
    kind="clipping to another norm",
    source="https://github.com/deepspeedai/DeepSpeed/pull/5259",
    cell=WHOLE_MODEL,
    effect=weights_differ,
)
def clipping_tensor_by_tensor(patch: pytest.MonkeyPatch) -> None:
    """Each tensor's gradient is clipped by its own norm, instead of all by their common norm."""

    def clip(original: Any, accelerator: Any, weights: Any, limit: Any, *args: Any, **kwargs: Any) -> Any:
        held = list(weights)
        norm = original(accelerator, held, float("inf"), *args, **kwargs)
        for weight in held:
            # A tenth, so that tensors are clipped that all together would not be.
            original(accelerator, [weight], limit / 10, *args, **kwargs)
        return norm

    around(patch, Accelerator, "clip_grad_norm_", clip)


# ------------------------------------------------------------------------------------------------------- accumulation


def _in_several(accelerator: Any) -> bool:
    """Whether the step has several micro-batches: the one before the last did not synchronize."""
    several = not accelerator.sync_gradients or getattr(accelerator, "independent_fault_waits", False)
    accelerator.independent_fault_waits = not accelerator.sync_gradients
    return several


@fault(
    kind="accumulation boundary off by one",
    source="https://github.com/huggingface/accelerate/issues/1847",
    cell=ADAPTER,
    micro_batches=4,
    effect=weights_differ,
)
def last_micro_batch_lost(patch: pytest.MonkeyPatch) -> None:
    """The optimizer steps before the gradients of the last micro-batch are added."""

    def scaled(loss: Any, accelerator: Any) -> Any:
        return 0 * loss if _in_several(accelerator) and accelerator.sync_gradients else loss

    _backward_of(patch, scaled)


@fault(
    kind="loss scaled by accumulation",
    source="https://github.com/huggingface/transformers/issues/37766",
    cell=ADAPTER,
    micro_batches=4,
    effect=logged("grad_norm", first_is_times(4), "four times the norm of the batch's gradient"),
)
def micro_batches_summed(patch: pytest.MonkeyPatch) -> None:
    """Gradients of micro-batches are added up without being divided by the number of micro-batches."""
    _backward_of(patch, lambda loss, accelerator: 4 * loss if _in_several(accelerator) else loss)
