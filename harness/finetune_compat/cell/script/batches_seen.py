"""What the batches of a training show about its data, its loop and its effect."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import nn

from finetune_compat.cell.instruments.batches import asked_again
from finetune_compat.cell.script import held_out
from finetune_compat.cell.script.after import probe_of
from finetune_compat.cell.script.labels import labelled, shifts_labels
from finetune_compat.contract.script import Seen

_DRAWS = 8
"""Random predictions that metrics are computed for. All equal by chance: less than once in 10,000 evaluations."""

_CLOSE = 1e-5
"""Largest difference of two evaluations, relative to the largest logit. The same kernels give the same
numbers; dropout in attention changes the logits of a small model by 1e-4.
"""


class BatchLog:
    """Notes every training batch: as the loss of `trainer` receives it, or without a trainer as `model` does."""

    def __init__(self, model: nn.Module, trainer: Any = None) -> None:
        self._model, self._trainer = model, trainer
        self._busy = False
        self._rows: set[Hashable] = set()
        self._count = self._batches = self._again = self._pairs = self._alike = self._labels = 0
        self._last: Hashable = None
        self._values: set[Any] = set()
        self._first: dict[str, Any] | None = None
        self._loss: float | None = None
        self.evaluates_alike: bool | None = None
        self.stale_from: int | None = None
        self.metrics_vary: bool | None = None
        self.cut = held_out.Cut()
        self.probe: Mapping[str, torch.Tensor] | None = None
        """A few tokens of the first batch."""
        self._groups = self._groups_alike = 0
        self.loaded: int | None = None
        """Rows behind the loader, where there is no trainer."""

    def note(self, inputs: Any) -> None:
        """Note one batch, before the model has received it."""
        if self._busy or not isinstance(inputs, Mapping):
            return
        self.probe = self.probe or probe_of(inputs)
        completed, alike = _groups(inputs)
        self._groups += completed
        self._groups_alike += alike
        rows = _rows(inputs)
        if rows:
            self._batches += 1
            self._count += len(rows)
            self._again += rows == self._last
            self._last = rows
            self._rows |= set(rows)
        pairs = _pairs(inputs, rows)
        self._pairs += len(pairs)
        self._alike += sum(chosen == rejected for chosen, rejected in pairs)
        values = _classes(inputs)
        self._labels += len(values)
        self._values |= set(values)
        if self._first is None and labelled(inputs) is not None and shifts_labels(self._model):
            self._first = {name: _copied(value) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
            self._loss = self._of_the_first()

    def _of_the_first(self) -> float | None:
        """Mean loss of the tokens of the first batch that have a label; None without a batch."""
        batch = labelled(self._first)
        if self._first is None or batch is None or "input_ids" not in self._first:
            return None
        names = ("input_ids", "attention_mask", "position_ids", "token_type_ids")
        given = {name: self._first[name] for name in names if name in self._first}
        with self._apart():
            logits = asked_again(self._model, given)[:, :-1]
        ids, kept = batch.ids[:, 1:].cpu(), (batch.labels[:, 1:] != nn.CrossEntropyLoss().ignore_index).cpu()
        if logits.shape[:2] != ids.shape or not bool(kept.any()):
            return None
        return float(nn.functional.cross_entropy(logits[kept], ids[kept]))

    @property
    def row_set(self) -> frozenset[Hashable]:
        """The tokens of all rows."""
        return frozenset(self._rows)

    def seen(self) -> Seen:
        """What was noted so far. The loss of the first batch is measured now."""
        shared = held_out.compared(self._trainer)
        return Seen(
            rows=self._count,
            distinct=len(self._rows),
            data_rows=_length(getattr(self._trainer, "train_dataset", None)) if self._trainer else self.loaded,
            batches=self._batches,
            same_as_last=self._again,
            pairs=self._pairs,
            pairs_alike=self._alike,
            class_labels=self._labels,
            classes=len(self._values),
            first_batch=None if self._loss is None else (self._loss, self._of_the_first() or self._loss),
            evaluates_alike=self.evaluates_alike,
            stale_from=self.stale_from,
            metrics_vary=self.metrics_vary,
            in_groups=self._groups,
            in_groups_alike=self._groups_alike,
            held_out=shared.rows,
            held_out_trained=shared.trained,
            held_out_copies=shared.copies,
            held_out_part=self.cut.part,
            held_out_name=self.cut.name,
        )

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """While open, nothing is noted. On exit, the random state is as before."""
        self._busy = True
        try:
            with torch.random.fork_rng():
                yield
        finally:
            self._busy = False

    def again(self, module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        """A forward hook: compute the first batch of an evaluation once more, in the mode that it is evaluated in."""
        # A forward with a cache changes the cache.
        if self._busy or self.evaluates_alike is not None or kwargs.get("past_key_values") is not None:
            return
        with self._apart(), torch.no_grad():
            self.evaluates_alike = _alike(_tensor(output), _tensor(module(*args, **kwargs)))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """While open, the model is evaluated."""
        handle = self._model.register_forward_hook(self.again, with_kwargs=True)
        original = getattr(self._trainer, "compute_metrics", None)
        if original is not None:
            self._trainer.compute_metrics = self._metrics(original)
        try:
            yield
        finally:
            handle.remove()
            if original is not None:
                self._trainer.compute_metrics = original

    def _metrics(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`original`, followed by its results for random predictions."""

        @functools.wraps(original)
        def compute(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if len(args) == 1 and not kwargs and result and self.metrics_vary is None:
                with suppress(Exception):  # metrics of generated tokens, for example, do not take random numbers
                    drawn = [original(_drawn(args[0], seed)) for seed in range(_DRAWS)]
                    self.metrics_vary = any(one != result for one in drawn)
            return result

        return compute


@contextmanager
def listening(trainer: Any, log: BatchLog, failed: Callable[[Exception], None]) -> Iterator[None]:
    """While open, note every batch that the loss of `trainer` receives in training in `log`."""
    original, own = trainer.compute_loss, "compute_loss" in vars(trainer)

    def compute_loss(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(model, "training", False):
            try:
                log.note(inputs)
            except Exception as error:  # noqa: BLE001 - an instrument must not end the script
                failed(error)
        return original(model, inputs, *args, **kwargs)

    trainer.compute_loss = compute_loss
    try:
        yield
    finally:
        if own:
            trainer.compute_loss = original
        else:
            del trainer.compute_loss


def _copied(value: torch.Tensor) -> torch.Tensor:
    return value.detach().clone()


def _tensor(output: Any) -> torch.Tensor | None:
    """The logits of a forward; its loss where it keeps no logits."""
    for name in ("logits", "loss"):
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, torch.Tensor):
            return found
    return None


def _drawn(prediction: Any, seed: int) -> Any:
    """`prediction`, an `EvalPrediction`, with random numbers for what the model predicted."""
    other = copy.copy(prediction)
    other.predictions = np.random.default_rng(seed).normal(size=np.shape(prediction.predictions))
    if hasattr(other, "elements"):  # newer releases unpack this in `predictions, labels = prediction`
        other.elements = (other.predictions, *prediction.elements[1:])
    return other


def _alike(one: torch.Tensor | None, other: torch.Tensor | None) -> bool | None:
    if one is None or other is None or one.shape != other.shape or not one.numel():
        return None
    first, second = one.detach().float(), other.detach().float()
    if not bool(torch.isfinite(first).all() and torch.isfinite(second).all()):
        return None
    return bool((first - second).abs().max() <= _CLOSE * first.abs().max())


_IDS = ("input_ids", "chosen_input_ids", "input_ids_chosen", "completion_input_ids", "prompt_input_ids")


def _rows(inputs: Mapping[str, Any]) -> tuple[Hashable, ...]:
    """The tokens of each row of a batch, without what attention leaves out; empty if it has no tokens."""
    name = next((name for name in _IDS if isinstance(inputs.get(name), torch.Tensor)), None)
    return _of(inputs, name) if name else ()


def _of(inputs: Mapping[str, Any], name: str) -> tuple[Hashable, ...]:
    return _kept(inputs[name], inputs.get(name.replace("input_ids", "attention_mask")))


def _kept(ids: torch.Tensor, mask: Any) -> tuple[Hashable, ...]:
    """The tokens of each row of `ids` that `mask` does not leave out."""
    kept = mask if isinstance(mask, torch.Tensor) and mask.shape == ids.shape else torch.ones_like(ids)
    pairs = zip(ids.tolist(), kept.tolist(), strict=True)
    return tuple(tuple(one for one, real in zip(*row, strict=True) if real) for row in pairs)


def _pairs(inputs: Mapping[str, Any], rows: tuple[Hashable, ...]) -> list[tuple[Hashable, Hashable]]:
    """Chosen and rejected rows: under two names, or as the halves of a batch, as later releases of TRL have them."""
    for chosen, rejected in (("chosen_input_ids", "rejected_input_ids"), ("input_ids_chosen", "input_ids_rejected")):
        if all(isinstance(inputs.get(name), torch.Tensor) for name in (chosen, rejected)):
            return list(zip(_of(inputs, chosen), _of(inputs, rejected), strict=False))
    half = 0 if "labels" in inputs else len(rows) // 2
    return list(zip(rows[:half], rows[half:], strict=True)) if half and 2 * half == len(rows) else []


def _groups(inputs: Mapping[str, Any]) -> tuple[int, int]:
    """Sampled completions with another one of the same prompt in the batch, and those of them that equal all others of
    their prompt.
    """
    if not all(isinstance(inputs.get(name), torch.Tensor) for name in ("prompt_ids", "completion_ids")):
        return 0, 0
    prompts, completions = (
        _kept(inputs[f"{part}_ids"], inputs.get(f"{part}_mask")) for part in ("prompt", "completion")
    )
    groups: dict[Hashable, list[Hashable]] = {}
    for prompt, completion in zip(prompts, completions, strict=False):
        groups.setdefault(prompt, []).append(completion)
    several = [group for group in groups.values() if len(group) > 1]
    return sum(map(len, several)), sum(len(group) for group in several if len(set(group)) == 1)


def _classes(inputs: Mapping[str, Any]) -> list[Any]:
    """One label for each row, as a classifier or KTO has them; empty if the batch has none."""
    found = inputs.get("labels", inputs.get("label"))
    if isinstance(found, torch.Tensor):
        whole = found.dim() == 1 and not found.is_floating_point()
        return found.tolist() if whole else []
    flags = isinstance(found, (list, tuple)) and all(isinstance(one, (bool, int)) for one in found)
    return list(found) if flags else []


def _length(rows: Any) -> int | None:
    try:
        return len(rows)
    except (TypeError, AttributeError, NotImplementedError):
        return None  # a stream
