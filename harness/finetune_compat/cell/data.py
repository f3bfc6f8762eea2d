"""A tokenizer, and the sequences from which every objective makes its rows: arithmetic sequences over a small alphabet.
A model begins to learn them in ten steps.
"""

from __future__ import annotations

import functools
import random

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from finetune_compat.contract.catalog import ROW_WORDS

WORDS = 121
USED_WORDS = 20
"""Words that occur in sequences. A model first learns that the others do not: this shows within ten steps."""

VISION_START, VISION_END, IMAGE, VIDEO = 121, 122, 123, 124
PAD, EOS, UNKNOWN = 125, 126, 127

_SPECIAL = {
    "<|vision_start|>": VISION_START,
    "<|vision_end|>": VISION_END,
    "<|image_pad|>": IMAGE,
    "<|video_pad|>": VIDEO,
    "<pad>": PAD,
    "<eos>": EOS,
    "<unk>": UNKNOWN,
}

MARKS = frozenset(_SPECIAL.values()) - {UNKNOWN}
"""Tokens that are no words."""

TRAIN_ROWS, EVAL_ROWS = 64, 16

IGNORED = -100
"""Label of a token that does not count in the loss (PyTorch's `ignore_index`)."""


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word `w0` to `w120`, and tokens for pictures, padding, end and unknown words."""
    vocabulary = {f"w{i}": i for i in range(WORDS)} | _SPECIAL
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=ROW_WORDS * 2
    )


def text_rows(seed: int) -> tuple[Dataset, Dataset]:
    """Training and held-out rows with a `text` column; no held-out row is a training row."""
    train, held_out = texts(seed)
    return Dataset.from_dict({"text": train}), Dataset.from_dict({"text": held_out})


def texts(seed: int) -> tuple[list[str], list[str]]:
    """Training and held-out sequences as words."""
    train, held_out = drawn(seed)
    return [row(*pair) for pair in train], [row(*pair) for pair in held_out]


def drawn(seed: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Start and stride of each training and each held-out sequence."""
    rng = random.Random(seed)
    pairs = [(start, stride) for start in range(USED_WORDS) for stride in range(1, USED_WORDS)]
    rng.shuffle(pairs)
    return pairs[:TRAIN_ROWS], pairs[TRAIN_ROWS : TRAIN_ROWS + EVAL_ROWS]


def row(start: int, stride: int) -> str:
    """The sequence as words."""
    return " ".join(f"w{(start + stride * i) % USED_WORDS}" for i in range(ROW_WORDS))
