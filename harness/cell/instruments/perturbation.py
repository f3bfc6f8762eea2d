"""Does an evaluation look at the model? Tamper with the weights, evaluate, and put them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from harness.cell.instruments.census import subject
from harness.records import MetricResponse, Response

_LEAST_SPREAD = 0.05
"""Standard deviation of scrambled weights whose own is smaller: an adapter that was never trained is all zero."""

_NOT_OF_THE_MODEL = ("runtime", "per_second", "epoch", "step", "samples", "num_tokens", "preparation_time")
"""Ends of the names of what an evaluation reports beside its metrics: its speed and its size."""

Evaluate = Callable[[], float | Mapping[str, object]]


def evaluation_responds(model: nn.Module, evaluate: Evaluate, *, seed: int = 0) -> Response:
    """What `evaluate` says of `model` as it is (twice), with its weights scrambled, and with its weights zeroed.

    The weights are those of the adapters, or where there are none all floating-point weights, of which a copy is held
    meanwhile. They are put back bit for bit, also if `evaluate` raises. A metric that comes out the same of a
    scrambled and of a zeroed model does not depend on the model, or cannot tell this model from a broken one.

    Args:
        model: what `evaluate` is supposed to look at.
        evaluate: returns one metric, or metrics by name as `Trainer.evaluate` does; its times, sizes and what is no
            number are left out.
        seed: of the scrambled weights.

    Raises:
        ValueError: `evaluate` reports no metric.
    """
    weights = {name: p for name, p in subject(model).items() if p.is_floating_point()}
    first, again = _metrics(evaluate), _metrics(evaluate)
    if not first:
        raise ValueError("the evaluation reports no metric: nothing could respond")
    with _changed(weights, _scrambled(seed)):
        scrambled = _metrics(evaluate)
    with _changed(weights, torch.zeros_like):
        zeroed = _metrics(evaluate)
    nan = float("nan")
    return Response(
        {
            name: MetricResponse(value, again.get(name, nan), scrambled.get(name, nan), zeroed.get(name, nan))
            for name, value in first.items()
        }
    )


def _metrics(evaluate: Evaluate) -> dict[str, float]:
    said = evaluate()
    named = said if isinstance(said, Mapping) else {"metric": said}
    return {
        name: float(value)
        for name, value in named.items()
        if isinstance(value, int | float) and not name.endswith(_NOT_OF_THE_MODEL)
    }


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
