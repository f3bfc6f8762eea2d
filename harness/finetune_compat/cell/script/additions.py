"""Parameters without pretrained values: rows added to the embedding, and new heads. Does training change them?"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from finetune_compat.cell.script.stories import Story, root
from finetune_compat.contract.script import NewParameters

if TYPE_CHECKING:
    from finetune_compat.cell.script.labels import Tokens  # imports libraries that a script may not have imported

_MOST_ROWS = 4096
"""Most added rows that are compared."""

_TASKS = ("Classification", "QuestionAnswering", "MultipleChoice", "RewardModel")
"""Parts of the names of Transformers' model classes that have a head of their own instead of a language model's."""

_filled: weakref.WeakSet[nn.Module] = weakref.WeakSet()
"""Modules that a script filled by `load_state_dict`: their values are not new."""


def noting_loads(original: Callable[..., Any]) -> Callable[..., Any]:
    """`Module.load_state_dict`, which also notes the module."""

    @functools.wraps(original)
    def load_state_dict(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        _filled.add(module)
        return original(module, *args, **kwargs)

    return load_state_dict


class Additions:
    """The new parameters of the model that `story` is about, copied before training.

    Args:
        model: the model of a trainer.
        story: its record.
    """

    def __init__(self, model: nn.Module, story: Story) -> None:
        self._model, self._story = model, story
        self._rows = self._embedded()
        self._heads = {
            name: (module, [parameter.detach().cpu().clone() for parameter in module.parameters()])
            for name, module in _new_heads(model, story)
        }

    def compared(self, used: Iterable[int], tokens: Tokens) -> NewParameters | None:
        """The comparison with the model as it is now; None if it has no new parameters.

        Args:
            used: the added tokens that occur in the training rows.
            tokens: the tokens of the rows.
        """
        seen = sorted(used)
        now = self._embedded() if seen else None
        if not self._heads and (now is None or self._rows is None):
            return None
        still = [name for name, (module, before) in self._heads.items() if _stands_still(module, before)]
        first = self._story.rows_before or 0
        places = [] if now is None or self._rows is None else [token for token in seen if token - first < len(now)]
        self._story.trained_heads |= set(self._heads) - set(still)
        same = [token for token in places if torch.equal(self._rows[token - first], now[token - first])]  # type: ignore[index]
        return NewParameters(
            heads=tuple(still),
            heads_trained=tuple(name for name in self._heads if name not in still),
            rows=len(places),
            rows_unchanged=tuple(tokens.text([token]) for token in same),
        )

    def _embedded(self) -> torch.Tensor | None:
        """What the embedding gives for the added tokens, [rows, hidden size], with adapters; None without such rows."""
        first, last = self._story.rows_before, self._story.rows_now
        if first is None or last is None or last <= first:
            return None
        embedding = root(self._model).get_input_embeddings()  # type: ignore[operator]
        place = next(embedding.parameters()).device
        training = embedding.training
        embedding.eval()  # noise of NEFTune is added in training mode
        try:
            with torch.no_grad():
                ids = torch.arange(first, min(last, first + _MOST_ROWS), device=place)
                return embedding(ids.unsqueeze(0)).squeeze(0).detach().cpu().clone()
        finally:
            embedding.train(training)


def _stands_still(module: nn.Module, before: list[torch.Tensor]) -> bool:
    """Whether nothing in `module` is trainable, and nothing changed. PEFT may have added parameters since."""
    now = list(module.parameters())
    if any(parameter.requires_grad for parameter in now):
        return False
    return len(now) == len(before) and all(
        torch.equal(one.detach().cpu(), other) for one, other in zip(now, before, strict=True)
    )


def _new_heads(model: nn.Module, story: Story) -> Iterator[tuple[str, nn.Module]]:
    """Heads whose values are not pretrained: loading did not find them, or the script built the model itself.

    A script that fills any part of the model by `load_state_dict`, or loads an adapter, may have filled them.
    """
    if any(one in _filled for one in model.modules()):
        return
    for name, module in _heads(root(model)):
        built = story.missing is None
        if (
            built or any(key.startswith(f"{name}.") for key in story.missing or ())
        ) and name not in story.trained_heads:
            yield name, module


def _heads(inner: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts of `inner` that are not its pretrained body: of a Transformers model for another task than language
    modelling, or of a module of the script's own around a Transformers model.
    """
    body = getattr(inner, "base_model_prefix", None)
    children = [(name, module) for name, module in inner.named_children() if any(True for _ in module.parameters())]
    if body is not None:
        if any(part in type(inner).__name__ for part in _TASKS) and body in dict(children):
            yield from ((name, module) for name, module in children if name != body)
        return
    pretrained = {name for name, module in children if _holds_a_model(module)}
    if pretrained:
        yield from ((name, module) for name, module in children if name not in pretrained)


def _holds_a_model(module: nn.Module) -> bool:
    return any(hasattr(one, "base_model_prefix") for one in module.modules())
