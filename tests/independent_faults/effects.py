"""Effects of faults: comparisons of the truth of a faulty run with that of the healthy run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from truth import Answers, Batch, Truth

SHARE = 1e-4
"""Weights differ if the difference is this share of the healthy run's movement. Two healthy runs agree exactly: a test
shows it in every session.
"""

CLOSE = 1e-4
"""Logits of equal models differ by less than this: float32 with sums in another order."""

Effect = Callable[[Truth, Truth], str | None]


def weights_differ(healthy: Truth, faulty: Truth) -> str | None:
    """The trained weights of both runs differ."""
    return weights_named("")(healthy, faulty)


def weights_named(part: str) -> Effect:
    """The trained weights with `part` in their name differ."""

    def effect(healthy: Truth, faulty: Truth) -> str | None:
        names = [name for name in healthy.trained if part in name and name in faulty.after]
        moved = _norm(healthy.after[name].float() - healthy.before[name].float() for name in names)
        apart = _norm(healthy.after[name].float() - faulty.after[name].float() for name in names)
        if not names or not apart > SHARE * moved:
            return None
        return f"the trained weights differ by {apart / moved:.2g} of what the healthy run moved them"

    return effect


def _norm(tensors: Iterable[torch.Tensor]) -> float:
    return math.sqrt(sum(float(tensor.pow(2).sum()) for tensor in tensors))


def still(part: str) -> Effect:
    """Trained weights with `part` in their name did not move at all, and moved in the healthy run."""

    def effect(healthy: Truth, faulty: Truth) -> str | None:
        names = [name for name in healthy.trained if part in name and name in faulty.after]
        moved = [name for name in names if not torch.equal(healthy.after[name], healthy.before[name])]
        frozen = [name for name in moved if torch.equal(faulty.after[name], faulty.before[name])]
        return f"{len(frozen)} of {len(moved)} tensors did not move" if frozen else None

    return effect


def logs_only(name: str, wrong: Callable[[list[float], list[float]], bool], words: str) -> Effect:
    """The weights of both runs are equal, and the log under `name` is wrong."""

    def effect(healthy: Truth, faulty: Truth) -> str | None:
        assert weights_differ(healthy, faulty) is None, "the fault changed more than a report"
        return logged(name, wrong, words)(healthy, faulty)

    return effect


def logged(name: str, wrong: Callable[[list[float], list[float]], bool], words: str) -> Effect:
    """`wrong` holds for the healthy and the faulty values under `name` in the log."""

    def effect(healthy: Truth, faulty: Truth) -> str | None:
        right, seen = healthy.logged(name), faulty.logged(name)
        return f"{name}: {words}" if right and seen and wrong(right, seen) else None

    return effect


def first_is_times(factor: float) -> Callable[[list[float], list[float]], bool]:
    """The first value is `factor` times the healthy one, to a hundredth."""
    return lambda right, seen: math.isclose(seen[0], factor * right[0], rel_tol=0.01)


def base_moved(healthy: Truth, faulty: Truth) -> str | None:
    """Weights that were not to be trained changed."""
    names = [name for name in faulty.before if name not in faulty.trained]
    changed = [name for name in names if not torch.equal(faulty.before[name], faulty.after[name])]
    return f"{len(changed)} of {len(names)} frozen tensors changed" if changed else None


def answers_differ(at: str) -> Effect:
    """The models of both runs give different logits: `at_start`, `at_end` or `reloaded`."""

    def effect(healthy: Truth, faulty: Truth) -> str | None:
        apart = _largest(_plain(healthy, at), _plain(faulty, at))
        return f"logits differ by up to {apart:.2g} {at.replace('_', ' ')}" if apart > CLOSE else None

    return effect


def reload_differs(healthy: Truth, faulty: Truth) -> str | None:
    """The reloaded model does not answer like the trained one."""
    right = _largest(_plain(healthy, "at_end"), _plain(healthy, "reloaded"))
    wrong = _largest(_plain(faulty, "at_end"), _plain(faulty, "reloaded"))
    return f"reloaded logits differ by {wrong:.2g} instead of {right:.2g}" if wrong > right + CLOSE else None


def _answers(truth: Truth, at: str) -> Answers:
    found = getattr(truth, at)
    assert isinstance(found, Answers), f"no answers {at}: {truth.error}"
    return found


def _plain(truth: Truth, at: str) -> torch.Tensor:
    return _answers(truth, at).plain


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def end_is_seen(healthy: Truth, faulty: Truth) -> str | None:
    """Another last token changes logits before it."""
    right, wrong = (_before_the_end(_answers(truth, "at_end")) for truth in (healthy, faulty))
    return f"logits before another last token differ by {wrong:.2g}" if wrong > CLOSE > right else None


def _before_the_end(answers: Answers) -> float:
    return _largest(answers.plain[:, :-1], answers.with_other_end[:, :-1])


def padding_is_seen(healthy: Truth, faulty: Truth) -> str | None:
    """Masked padding in front of a row changes its logits."""
    right, wrong = (_behind_padding(_answers(truth, "at_end")) for truth in (healthy, faulty))
    return f"logits behind padding differ by {wrong:.2g}" if wrong > CLOSE > right else None


def _behind_padding(answers: Answers) -> float:
    return _largest(answers.plain, answers.after_padding)


def labels_are(wrong: Callable[[torch.Tensor, torch.Tensor], bool], words: str) -> Effect:
    """`wrong` holds for ids and labels of every training batch of the faulty run, and of none of the healthy run."""

    def effect(healthy: Truth, faulty: Truth) -> str | None:
        right, seen = ([wrong(*_pair(batch)) for batch in truth.batches] for truth in (healthy, faulty))
        return words if seen and all(seen) and not any(right) else None

    return effect


def _pair(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    assert batch.labels is not None, "the model received no labels"
    return batch.ids, batch.labels


def order_is(wrong: Callable[[list[int]], bool], words: str) -> Effect:
    """`wrong` holds for the order of the faulty run's rows, and not of the healthy run's."""

    def effect(healthy: Truth, faulty: Truth) -> str | None:
        return words if wrong(faulty.order) and not wrong(healthy.order) else None

    return effect


def same_order(one: Truth, other: Truth) -> str | None:
    """Two seeds give one order."""
    return "two seeds give one order of rows" if one.order and one.order == other.order else None
