"""Does an evaluation look at the model? Tamper with the weights, evaluate, and put them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf, isnan

import torch
from torch import nn

from finetune_compat.cell.instruments.census import subject
from finetune_compat.contract.records import MetricResponse, Response

_LEAST_SPREAD = 0.05
"""Standard deviation of scrambled weights whose own is smaller: an adapter that was never trained is all zero."""

_LOOKS_AT_NOISE = 8
"""Evaluations of the model as it is, beside the first, where two have not agreed."""

_NOT_OF_THE_MODEL = ("runtime", "per_second", "epoch", "step", "samples", "num_tokens", "preparation_time")
"""Ends of the names of what an evaluation reports beside its metrics: its speed and its size."""

Evaluate = Callable[[], object]
"""Returns a number, or a mapping with numbers in it; torch's and numpy's are numbers too."""


def evaluation_responds(model: nn.Module, evaluate: Evaluate, *, seed: int = 0) -> Response:
    """What `evaluate` says of `model` as it is, with its weights scrambled, and with its weights zeroed.

    The model as it is is evaluated twice before and once after the others. Where these three differ, six times more: a
    metric then responds if it moves far more than they do.

    The weights are those of the adapters, or where there are none all floating-point weights, of which a copy is held
    meanwhile. They are put back bit for bit, also if `evaluate` raises. A metric that comes out the same of a
    scrambled and of a zeroed model does not depend on the model, or cannot tell this model from a broken one.

    Args:
        model: what `evaluate` is supposed to look at.
        evaluate: returns one metric, or metrics by name as `Trainer.evaluate` does, each a number or an array or tensor
            of one; its times, sizes and what is no number are left out.
        seed: of the scrambled weights.

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
    while len(again) < _LOOKS_AT_NOISE and any(_differ(first, other) for other in again):
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
    # A NaN that stays one is no noise.
    return any(repr(value) != repr(other.get(name, _NAN)) for name, value in one.items())


def _farthest(name: str, value: float, others: Sequence[Mapping[str, float]]) -> float:
    """The value of the metric called `name` that is farthest from `value`; one that is NaN alone is."""
    said = [other.get(name, _NAN) for other in others]
    return max(said, key=lambda other: inf if isnan(other) != isnan(value) else abs(other - value))


def _metrics(evaluate: Evaluate) -> dict[str, float]:
    said = evaluate()
    return dict(_numbers("", said if isinstance(said, Mapping) else {"metric": said}))


def _numbers(prefix: str, said: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    for key, value in said.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _numbers(f"{name}/", value)
        elif (number := _number(value)) is not None and not name.endswith(_NOT_OF_THE_MODEL):
            yield name, number


def _number(value: object) -> float | None:
    """A metric as users compute it: numpy's and torch's numbers are none of Python's."""
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
