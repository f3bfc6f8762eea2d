"""What the labels of training batches teach, token by token."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from finetune_compat.cell.instruments.batches import Batch, LabelLog
from finetune_compat.cell.script import markers
from finetune_compat.cell.script.leading_masks import LeadingMasks, PaddedMasks
from finetune_compat.cell.script.notes import Notes
from finetune_compat.cell.script.stories import Measured, root
from finetune_compat.contract.redaction import redact
from finetune_compat.contract.script import Lesson

_IGNORED = nn.CrossEntropyLoss().ignore_index
"""Label of a token that every loss leaves out."""

_PER_TOKEN = 2
"""Dimensions of labels that have one entry per token: [rows, tokens]."""

_STOPS = (
    "</s>",
    "<end_of_turn>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<|return|>",
)
"""End tokens of well-known models and chat templates. A tokenizer names only one of its end tokens as `eos_token`."""

_FIRST_ROWS = 8
"""Number of rows of the data set whose own labels are read."""

_SHOWN_TOKENS = 24
"""Most tokens shown of a part of a row."""


# -------------------------------------------------------------------------------------------------------------- tokens


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens that end and pad a row."""

    ends: tuple[int, ...]
    pad: int | None
    tokenizer: Any
    """None if the trainer has none."""
    special: tuple[int, ...] = ()
    """Tokens that are no text, as far as tokenizer and configs name them."""

    def text(self, ids: list[int]) -> str:
        """`ids` as text; as numbers without a tokenizer."""
        if self.tokenizer is None:
            return " ".join(map(str, ids))
        return str(self.tokenizer.decode(ids)).strip()


def tokens_of(trainer: Any) -> Tokens:
    """The end and padding tokens, from tokenizer or processor, collator, generation config and model config."""
    tokenizer, collator = _tokenizer(trainer), getattr(trainer, "data_collator", None)
    model = root(trainer.model)
    config, generation = getattr(model, "config", None), getattr(model, "generation_config", None)
    ends = [*_ids(tokenizer, "eos_token_id"), *_ids(generation, "eos_token_id"), *_ids(config, "eos_token_id")]
    pads = [number for one in (collator, tokenizer, config) for number in _ids(one, "pad_token_id")]
    begins = [number for one in (tokenizer, generation, config) for number in _ids(one, "bos_token_id")]
    special = (*begins, *ends, *pads, *getattr(tokenizer, "all_special_ids", ()))
    return Tokens(tuple(dict.fromkeys([*ends, *_stops(tokenizer)])), next(iter(pads), None), tokenizer, special)


def _tokenizer(trainer: Any) -> Any:
    # Read from `vars`, because the attribute `tokenizer` of Trainer warns in Transformers 4.46 to 4.57.
    held = (vars(trainer), vars(trainer).get("data_collator"))
    for owner, name in itertools.product(held, ("processing_class", "tokenizer", "processor")):
        found = owner.get(name) if isinstance(owner, Mapping) else getattr(owner, name, None)
        tokenizer = getattr(found, "tokenizer", found)
        if hasattr(tokenizer, "decode"):
            return tokenizer
    return None


def _ids(owner: Any, name: str) -> list[int]:
    """The token ids that `owner` has under `name`: one or several in a config, none if it has no such token."""
    found = getattr(owner, name, None)
    several = found if isinstance(found, list | tuple) else [found]
    return [one for one in several if isinstance(one, int) and not isinstance(one, bool)]


def _stops(tokenizer: Any) -> list[int]:
    if not hasattr(tokenizer, "convert_tokens_to_ids"):
        return []
    unknown = getattr(tokenizer, "unk_token_id", None)
    found = [tokenizer.convert_tokens_to_ids(text) for text in _STOPS]
    return [one for one in found if isinstance(one, int) and one != unknown]


# ------------------------------------------------------------------------------------------------------------- batches


def labelled(inputs: Any) -> Batch | None:
    """The sequences and labels of a batch, as the trainer's loss receives it; None if it has no label for each token.

    Preferences: TRL 0.29 and later mark completions, earlier releases have chosen and rejected sequences apart.
    """
    if not isinstance(inputs, Mapping):
        return None
    if "completion_mask" in inputs and "labels" not in inputs:
        if "input_ids" not in inputs:
            return None  # sampled completions of online reinforcement learning
        masked = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, _IGNORED)
        return _batch(inputs["input_ids"], masked, inputs.get("attention_mask"))
    if "completion_labels" in inputs:
        return _batch(*(inputs[f"completion_{name}"] for name in ("input_ids", "labels", "attention_mask")))
    if "chosen_input_ids" in inputs and ("chosen_labels" in inputs or "prompt_input_ids" in inputs):
        from finetune_compat.cell.objectives.preference import pairs_of

        pairs = pairs_of(inputs)
        return _batch(pairs.ids, pairs.labels, pairs.attended)
    return _batch(inputs.get("input_ids"), inputs.get("labels"), inputs.get("attention_mask"))


def _batch(ids: Any, labels: Any, attended: Any) -> Batch | None:
    if not isinstance(ids, torch.Tensor) or not isinstance(labels, torch.Tensor):
        return None
    if labels.dim() != _PER_TOKEN or ids.dim() != _PER_TOKEN:
        return None
    same = isinstance(attended, torch.Tensor) and attended.shape == ids.shape
    return Batch(ids, labels, attended if same else None)


@contextmanager
def heard(model: nn.Module, note: Callable[[Batch], None]) -> Iterator[None]:
    """While open, call `note` with every batch whose labels `model` receives."""

    def hear(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if (batch := _batch(kwargs.get("input_ids"), kwargs.get("labels"), kwargs.get("attention_mask"))) is not None:
            note(batch)

    handle = model.register_forward_hook(hear, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def counting(labels: LabelLog) -> Callable[[Batch], None]:
    """A function that counts a batch in `labels`. Labels of an encoder-decoder belong to other tokens."""

    def note(batch: Batch) -> None:
        if batch.labels.shape == batch.ids.shape:
            labels.note(batch.ids, batch.labels, batch.attended)

    return note


@contextmanager
def listening(trainer: Any, lesson: LessonLog, failed: Callable[[Exception], None]) -> Iterator[None]:
    """While open, note every training batch in `lesson`: with the labels that the model receives, or else with those
    that the loss of `trainer` receives. An error of the instrument goes to `failed`.
    """
    received: list[Batch] = []
    original, own = trainer.compute_loss, "compute_loss" in vars(trainer)

    @functools.wraps(original)
    def compute_loss(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # A loss may remove the labels from its inputs.
        given = dict(inputs) if isinstance(inputs, Mapping) else inputs
        received.clear()
        result = original(model, inputs, *args, **kwargs)
        if getattr(model, "training", False):
            try:
                for batch in _distinct(received) or filter(None, (labelled(given),)):
                    lesson.note(batch, by_model=bool(received))
            except Exception as error:  # noqa: BLE001 - an instrument must not end the script
                failed(error)
        return result

    trainer.compute_loss = compute_loss
    try:
        with heard(trainer.model, received.append):
            yield
    finally:
        if own:
            trainer.compute_loss = original
        else:
            del trainer.compute_loss


def _distinct(batches: list[Batch]) -> list[Batch]:
    """Each batch once. Where the reference model is the model itself, both receive the same batch."""
    found: list[Batch] = []
    for batch in batches:
        if not any(_same(batch.ids, one.ids) and _same(batch.labels, one.labels) for one in found):
            found.append(batch)
    return found


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))


# -------------------------------------------------------------------------------------------------------------- lesson


class Teaching:
    """The labels of one training. A failing instrument becomes a note, and the script goes on."""

    def __init__(self, trainer: Any, found: Measured, notes: Notes) -> None:
        self._trainer, self._found, self._notes = trainer, found, notes
        decodes = bool(getattr(getattr(root(trainer.model), "config", None), "is_encoder_decoder", False))
        self._tokens = tokens_of(trainer)
        self._log = LessonLog(self._tokens, decodes=decodes, new_from=found.new_from)

    def listening(self) -> AbstractContextManager[None]:
        """While open, note the labels of every training batch."""
        return listening(self._trainer, self._log, self._failed)

    def end(self) -> None:
        """Write what was noted into `found`."""
        self._found.used, self._found.tokens = frozenset(self._log.used), self._tokens
        try:
            masked = masked_by_data(getattr(self._trainer, "train_dataset", None), self._tokens)
            lesson = self._log.lesson(shifts=shifts_labels(self._trainer.model), masked_by_data=masked)
            self._found.lesson = None if lesson is None else self._of_prompts(lesson)
        except Exception as error:  # noqa: BLE001 - an instrument must not end the script
            self._failed(error)

    def _of_prompts(self, lesson: Lesson) -> Lesson:
        """`lesson`, with what shows that prompts were to be masked."""
        marker = [] if lesson.masked or lesson.foreign else markers.missing(self._trainer, self._tokens.tokenizer)
        return dataclasses.replace(
            lesson,
            padding_masked=self._log.padded.of(self._found.prompts),
            prompt_masked=self._log.leading.of(self._found.prompts, self._tokens.special),
            marker_missing=self._tokens.text(marker) if marker else "",
        )

    def _failed(self, error: Exception) -> None:
        self._notes.miss(f"labels: the instrument failed ({type(error).__name__}: {str(error)[:200]})")


class LessonLog:
    """What the labels of all batches teach.

    Args:
        tokens: the tokens that end and pad a row.
        decodes: whether the model is an encoder-decoder, whose labels are sequences of their own.
        new_from: the first row that was added to the embedding; None if none was.
    """

    def __init__(self, tokens: Tokens, *, decodes: bool = False, new_from: int | None = None) -> None:
        self._tokens, self._decodes, self._new_from = tokens, decodes, new_from
        self.used: set[int] = set()
        """Tokens from `new_from` on that occur in the rows."""
        self._counts: dict[str, int] = dict.fromkeys(_COUNTS, 0)
        self._lengths: set[int] = set()
        self.leading, self.padded = LeadingMasks(), PaddedMasks()
        self._by_model, self._pad_is_end = True, tokens.pad in tokens.ends
        self._shown = ""

    def note(self, batch: Batch, *, by_model: bool) -> None:
        """Add one batch. `by_model`: whether the model received its labels, and not only the loss of the trainer."""
        row = _Rows(batch, self._tokens, decodes=self._decodes)
        if row.labels.shape != row.ids.shape:
            return
        for name, count in row.counts().items():
            self._counts[name] += count
        if not self._decodes:
            self.leading.note(row.ids, row.learned, row.real)
            self.padded.note(row.ids, row.learned, row.real)
        self._lengths |= set(row.real.sum(dim=1).tolist())
        if self._new_from is not None:
            self.used |= set(row.ids[row.real & (row.ids >= self._new_from)].unique().tolist())
        self._by_model = self._by_model and by_model
        self._pad_is_end = self._pad_is_end or row.pads_with_an_end()
        self._shown = self._shown or row.shown(self._tokens)

    def lesson(self, *, shifts: bool, masked_by_data: int | None) -> Lesson | None:
        """The counts; None if there was no batch."""
        if not self._counts["rows"]:
            return None
        return Lesson(
            **self._counts,  # type: ignore[arg-type]  # the names are those of _COUNTS
            end_tokens=tuple(self._tokens.text([end]) for end in self._tokens.ends),
            pad_is_end=self._pad_is_end,
            lengths_differ=len(self._lengths) > 1,
            shifts=shifts and self._by_model,
            masked_by_data=masked_by_data,
            shown=self._shown,
        )


_COUNTS = ("rows", "labels", "unlabelled", "on_padding", "masked", "foreign", "ahead", "ends", "ends_learned")


class _Rows:
    """The rows of one batch. All tensors are [rows, tokens], on the CPU."""

    def __init__(self, batch: Batch, tokens: Tokens, *, decodes: bool) -> None:
        self.ids, self.labels = batch.ids.detach().cpu(), batch.labels.detach().cpu()
        attended = None if batch.attended is None else batch.attended.detach().cpu() != 0
        if decodes:
            attended = self.labels != _IGNORED
            self.ids = self.labels.masked_fill(~attended, -1 if tokens.pad is None else tokens.pad)
        self.learned = self.labels != _IGNORED
        self.padding = padding(self.ids, attended, tokens)
        self.real = ~self.padding
        self.first = self.real & (self.real.cumsum(dim=1) == 1)
        self._ends = torch.isin(self.ids, torch.tensor(tokens.ends, dtype=self.ids.dtype)) & ~self.first

    def counts(self) -> dict[str, int]:
        """The counts of `Lesson`."""
        learned, real = self.learned, self.real
        own = self.labels == self.ids
        follows = torch.zeros_like(own)
        follows[:, :-1] = self.labels[:, :-1] == self.ids[:, 1:]
        # Where the pad token is the end token, the first padding token of a row may be its end.
        closing = self.padding & torch.nn.functional.pad(real[:, :-1], (1, 0))
        learned_ends = self._ends & (real | closing) & learned & own
        on_padding = (learned & self.padding).sum(dim=1)
        found = {
            "rows": torch.tensor(len(self.ids)),
            "labels": learned.sum(),
            "unlabelled": (~learned.any(dim=1)).sum(),
            "on_padding": (on_padding - 1).clamp(min=0).sum(),
            "masked": (real & ~learned & ~self.first).sum(),
            "foreign": (learned & real & ~own).sum(),
            "ahead": (learned & real & ~own & follows).sum(),
            "ends": (self._ends & real).any(dim=1).sum(),
            "ends_learned": learned_ends.any(dim=1).sum(),
        }
        return {name: int(count) for name, count in found.items()}

    def pads_with_an_end(self) -> bool:
        """Whether an end token pads a row."""
        return bool((self._ends & self.padding).any())

    def shown(self, tokens: Tokens) -> str:
        """The first row as text. Long parts are shortened in the middle."""
        states = list(zip(self.learned[0].tolist(), self.padding[0].tolist(), self.ids[0].tolist(), strict=True))
        parts = []
        for (learned, padded), group in itertools.groupby(states, key=lambda state: state[:2]):
            ids = [number for _, _, number in group]
            text = f"{len(ids)} x padding" if padded else _shortened(ids, tokens)
            parts.append(f"[{text}]" if learned else f"({text})" if padded else text)
        return redact(" ".join(parts))


def _shortened(ids: list[int], tokens: Tokens) -> str:
    if len(ids) <= _SHOWN_TOKENS:
        return tokens.text(ids)
    half = _SHOWN_TOKENS // 2
    return f"{tokens.text(ids[:half])} ... {tokens.text(ids[-half:])}"


def padding(ids: torch.Tensor, attended: torch.Tensor | None, tokens: Tokens) -> torch.Tensor:
    """Which tokens of `ids` are padding: those that attention leaves out, and runs of the padding token at either end
    of a row. Where the pad token is the end token, the first one after a row's own tokens is its end, unless attention
    leaves it out.
    """
    outside = torch.zeros_like(ids, dtype=torch.bool) if attended is None else ~attended
    if tokens.pad is None:
        return outside
    filled = ids == tokens.pad
    leading = filled.cumprod(dim=1).bool()
    leading &= leading.sum(dim=1, keepdim=True) > 1  # one such token may be the first token of the row
    trailing = filled.flip(1).cumprod(dim=1).flip(1).bool()
    if tokens.pad in tokens.ends:
        trailing &= torch.nn.functional.pad(trailing[:, :-1], (1, 0))
    return outside | leading | trailing


def masked_by_data(rows: Any, tokens: Tokens) -> int | None:
    """Tokens that the `labels` of the first rows of a data set mask; None if it has no labels for each token.

    Only rows of the library datasets are read: reading a row of a user's own class may change what is trained.
    """
    columns = getattr(rows, "column_names", None)
    if not type(rows).__module__.startswith("datasets.") or not hasattr(rows, "__len__"):
        return None
    if not isinstance(columns, list) or not {"input_ids", "labels"} <= set(columns):
        return None
    if rows.format["type"] == "custom":  # a transformation may draw random numbers
        return None
    masked = 0
    for number in range(min(_FIRST_ROWS, len(rows))):
        row = rows[number]
        names = [name for name in ("input_ids", "labels", "attention_mask") if name in row]
        ids, labels, *attended = (torch.as_tensor(row[name]).unsqueeze(0) for name in names)
        batch = _batch(ids, labels, next(iter(attended), None))
        if batch is None or batch.labels.shape != batch.ids.shape:
            return None
        masked += _Rows(batch, tokens, decodes=False).counts()["masked"]
    return masked


def shifts_labels(model: Any) -> bool:
    """Whether `model` is a causal language model of Transformers: these compare the label of a token with the
    prediction from the tokens before it.
    """
    kind = type(root(model))
    decodes = getattr(getattr(root(model), "config", None), "is_encoder_decoder", False)
    causal = kind.__name__.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))
    return causal and not decodes and kind.__module__.startswith("transformers.")
