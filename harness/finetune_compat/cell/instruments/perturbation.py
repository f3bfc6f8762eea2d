"""Measure whether an evaluation depends on the model: change the weights, evaluate, and restore them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf, isnan

import torch
from torch import nn

from finetune_compat.cell.instruments.census import subject
from finetune_compat.contract.records import MetricResponse, Response

_LEAST_SPREAD = 0.05
"""Least standard deviation of scrambled weights: an untrained `lora_B` is all zero."""

_NOISE_EVALUATIONS = 8
"""Evaluations of the unchanged model after the first one, if they do not agree."""

_NOT_OF_THE_MODEL = ("runtime", "per_second", "epoch", "step", "samples", "num_tokens", "preparation_time")
"""Ends of the names of values that are not metrics: the speed and the size of an evaluation."""

Evaluate = Callable[[], object]
"""Returns a number, or a mapping that contains numbers; numbers of torch and numpy count."""


def evaluation_responds(model: nn.Module, evaluate: Evaluate, *, seed: int = 0) -> Response:
    """The metrics of `evaluate` for the unchanged model, with scrambled weights, and with zeroed weights.

    The unchanged model is evaluated twice before and once after the changed ones. If these three results differ, six
    more follow: a metric then responds only if it changes far more than they do.

    The weights are those of the active adapters, or without adapters all floating-point weights. A copy is held during
    the call, and the weights are restored bit for bit, also if `evaluate` raises. A metric that is the same for the
    unchanged, the scrambled and the zeroed model does not depend on the model, or cannot distinguish it from a broken
    one.

    Args:
        model: the model that `evaluate` should depend on.
        evaluate: returns one metric, or metrics by name as `Trainer.evaluate` does. A metric is a number, or an array
            or tensor with one element. Times, sizes and other values are left out.
        seed: the seed of the scrambled weights.

    Raises:
        ValueError: `evaluate` reports no metric.
    """
    weights = {name: p for name, p in subject(model).items() if p.is_floating_point()}
    first, again = _metrics(evaluate), [_metrics(evaluate)]
    if not first:
        raise ValueError("the evaluation reports no metric: nothing could respond")
    with _changed(weights, _scrambled(seed)):
        scrambled = _metrics(evaluate)
    with _changed(weights, torch.zeros_like):
        zeroed = _metrics(evaluate)
    again.append(_metrics(evaluate))
    while len(again) < _NOISE_EVALUATIONS and any(_differ(first, other) for other in again):
        again.append(_metrics(evaluate))
    return Response(
        {
            name: MetricResponse(
                value, _farthest(name, value, again), scrambled.get(name, _NAN), zeroed.get(name, _NAN)
            )
            for name, value in first.items()
        }
    )


_NAN = float("nan")


def _differ(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    # As text: two NaN are equal.
    return any(repr(value) != repr(other.get(name, _NAN)) for name, value in one.items())


def _farthest(name: str, value: float, others: Sequence[Mapping[str, float]]) -> float:
    """The value of the metric called `name` that is farthest from `value`. If only one of the two is NaN, the distance
    is infinite.
    """
    values = [other.get(name, _NAN) for other in others]
    return max(values, key=lambda other: inf if isnan(other) != isnan(value) else abs(other - value))


def _metrics(evaluate: Evaluate) -> dict[str, float]:
    result = evaluate()
    return dict(_numbers("", result if isinstance(result, Mapping) else {"metric": result}))


def _numbers(prefix: str, values: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _numbers(f"{name}/", value)
        elif (number := _number(value)) is not None and not name.endswith(_NOT_OF_THE_MODEL):
            yield name, number


def _number(value: object) -> float | None:
    """`value` as a float if it is a number of Python, or a value of numpy or torch with one element; otherwise None."""
    if isinstance(value, int | float):
        return float(value)
    with suppress(TypeError, ValueError, RuntimeError):
        return float(value.item()) if hasattr(value, "item") else None
    return None


def _scrambled(seed: int) -> Callable[[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def scrambled(weight: torch.Tensor) -> torch.Tensor:
        spread = max(float(weight.float().std(correction=0)), _LEAST_SPREAD)
        return (torch.randn(weight.shape, generator=generator) * spread).to(weight.device, weight.dtype)

    return scrambled


@contextmanager
def _changed(weights: Mapping[str, nn.Parameter], change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        with torch.no_grad():
            for weight in weights.values():
                weight.copy_(change(weight.detach()))
        yield
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(kept[name])
