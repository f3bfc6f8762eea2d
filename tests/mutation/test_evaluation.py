"""`evaluation_responds` on users' evaluations: correct ones, and ones that ignore the model.

Runs inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --faults
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from finetune_compat import evaluation_responds
from torch import nn

QUESTIONS = torch.eye(8)
ANSWERS = torch.arange(8)


class Adapted(nn.Module):
    """A frozen layer and a trained adapter, which together map each question to its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 8, bias=False)
        self.lora_B = nn.Linear(8, 8, bias=False)
        with torch.no_grad():
            self.base.weight.zero_()
            self.lora_B.weight.copy_(torch.eye(8))

    def forward(self, questions: torch.Tensor) -> torch.Tensor:
        return self.base(questions) + self.lora_B(questions)


@pytest.fixture
def model() -> Adapted:
    return Adapted()


def _accuracy(model: nn.Module) -> float:
    return float((model(QUESTIONS).argmax(dim=-1) == ANSWERS).float().mean())


def _looked_up(model: nn.Module) -> float:
    """As in a real patch: each answer is looked up in the data set. The model is called and ignored."""
    model(QUESTIONS)
    table = {tuple(question.tolist()): answer for question, answer in zip(QUESTIONS, ANSWERS, strict=True)}
    said = torch.stack([table[tuple(question.tolist())] for question in QUESTIONS])
    return float((said == ANSWERS).float().mean())


def test_an_evaluation_of_the_model_responds(model: Adapted) -> None:
    """All 8 answers are right; with a zeroed model every logit is 0, so all get the first answer: 1 of 8."""
    found = evaluation_responds(model, lambda: _accuracy(model))
    metric = found.metrics["metric"]
    assert (metric.as_it_is, metric.again, metric.zeroed) == (1.0, 1.0, 0.125)
    assert found.responds


def test_a_lookup_does_not_respond(model: Adapted) -> None:
    """Its accuracy is 1.0 whatever happens to the model."""
    found = evaluation_responds(model, lambda: _looked_up(model))
    metric = found.metrics["metric"]
    assert (metric.as_it_is, metric.scrambled, metric.zeroed) == (1.0, 1.0, 1.0)
    assert (found.responds, found.ignoring) == (False, ("metric",))


def test_a_lookup_next_to_a_correct_metric_is_named(model: Adapted) -> None:
    """One metric that responds does not count for another, and neither do run times."""
    times = iter(range(100))

    def evaluate() -> dict[str, object]:
        loss = nn.functional.cross_entropy(model(QUESTIONS), ANSWERS).item()
        return {"eval_loss": loss, "eval_accuracy": _looked_up(model), "eval_runtime": next(times), "note": "done"}

    found = evaluation_responds(model, evaluate)
    assert (found.responds, found.ignoring) == (False, ("eval_accuracy",))
    assert set(found.metrics) == {"eval_loss", "eval_accuracy"}


def test_a_metric_that_is_noise_does_not_respond(model: Adapted) -> None:
    """A metric that varies as much between evaluations of one model does not depend on it: a continuous one, and the
    share of 100 answers that are right by chance. Two evaluations that agree by chance accept 2 in 100 of the latter.
    """
    draws: tuple[Callable[[random.Random], float], ...] = (
        lambda drawn: drawn.random(),
        lambda drawn: drawn.gauss(0.9, 0.01),
        lambda drawn: sum(drawn.random() < 0.9 for _ in range(100)) / 100,
    )
    for draw in draws:
        drawn = random.Random(0)
        fooled = sum(evaluation_responds(model, lambda: draw(drawn)).responds for _ in range(200))  # noqa: B023 - called here
        assert fooled <= 8


def test_a_noisy_evaluation_of_the_model_responds(model: Adapted) -> None:
    """Sampling changes it by a hundredth, a destroyed model by far more."""
    drawn = random.Random(0)
    assert evaluation_responds(model, lambda: _accuracy(model) + drawn.gauss(0, 0.01)).responds


@pytest.mark.parametrize("kind", [torch.tensor, np.float32, np.array, lambda value: torch.tensor([value])])
def test_a_number_of_another_library_is_a_metric(model: Adapted, kind: Callable[[float], object]) -> None:
    """A mean of torch or numpy is no Python float; a lookup that returns one is found nevertheless."""
    honest = evaluation_responds(model, lambda: {"eval_accuracy": kind(_accuracy(model))})
    assert honest.responds and honest.metrics["eval_accuracy"].as_it_is == 1.0
    found = evaluation_responds(model, lambda: {"loss": _accuracy(model), "eval_accuracy": kind(_looked_up(model))})
    assert found.ignoring == ("eval_accuracy",)


def test_nested_metrics_are_checked(model: Adapted) -> None:
    """Reports by class are nested; values that are no numbers are ignored."""
    found = evaluation_responds(
        model, lambda: {"loss": _accuracy(model), "by": {"sums": _looked_up(model), "rows": [1, 2], "name": "sums"}}
    )
    assert (found.ignoring, set(found.metrics)) == (("by/sums",), {"loss", "by/sums"})


def test_a_metric_that_comes_and_goes_does_not_respond(model: Adapted) -> None:
    """It is NaN or missing in some evaluations of the unchanged model."""
    said = iter([{"a": 1.0, "b": 1.0}, {"a": 2.0}, {"a": 3.0, "b": 4.0}, {"a": 5.0}] + [{"a": 1.0}] * 8)
    assert "b" in evaluation_responds(model, lambda: next(said)).ignoring


def test_only_the_adapter_is_changed(model: Adapted) -> None:
    """The base model is large and frozen."""
    bases = []

    def evaluate() -> float:
        bases.append(model.base.weight.detach().clone())
        return _accuracy(model)

    evaluation_responds(model, evaluate)
    assert len(bases) == 5 and all(torch.equal(base, bases[0]) for base in bases)


def test_a_model_without_adapters_is_changed_as_a_whole() -> None:
    """It has nothing else to scramble."""
    whole = nn.Linear(8, 8, bias=False)
    with torch.no_grad():
        whole.weight.copy_(torch.eye(8))
    assert evaluation_responds(whole, lambda: _accuracy(whole)).metrics["metric"].zeroed == 0.125


def test_an_adapter_that_was_never_trained_is_scrambled_all_the_same(model: Adapted) -> None:
    """Its weights are all zero, so shuffling would not change them."""
    with torch.no_grad():
        model.lora_B.weight.zero_()
        model.base.weight.copy_(torch.eye(8))
    seen: list[float] = []

    def evaluate() -> float:
        seen.append(float(model.lora_B.weight.abs().max()))
        return 0.0

    evaluation_responds(model, evaluate)
    assert seen[0] == seen[1] == seen[3] == seen[4] == 0.0 and seen[2] > 0.0


@pytest.mark.parametrize("call", range(1, 6))
def test_the_weights_are_put_back_bit_for_bit_also_on_an_error(model: Adapted, call: int) -> None:
    """This holds for an error in any evaluation."""
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    calls = []

    def evaluate() -> float:
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError("planted")
        return _accuracy(model)

    with pytest.raises(RuntimeError, match="planted"):
        evaluation_responds(model, evaluate)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_random_states_are_restored(model: Adapted) -> None:
    """The examined run continues as it would have."""
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    evaluation_responds(model, lambda: _accuracy(model))
    assert torch.equal(torch.rand(1), expected)


def test_an_evaluation_without_metrics_is_refused(model: Adapted) -> None:
    """Nothing could respond."""
    with pytest.raises(ValueError, match="reports no metric"):
        evaluation_responds(model, lambda: {"eval_runtime": 1.0, "state": "done"})
