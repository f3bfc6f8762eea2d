"""A tokenizer and a data set, made on the spot: arithmetic sequences over a small alphabet, easy enough to begin to
learn in ten steps.
"""

from __future__ import annotations

import functools
import random

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from harness.catalog import ROW_WORDS

WORDS = 125
USED_WORDS = 20
"""Words that occur. That the others do not is what a model learns first, and what makes ten steps enough to see it."""

PAD, EOS, UNKNOWN = 125, 126, 127

TRAIN_ROWS, EVAL_ROWS = 64, 16


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word `w0` to `w124`, plus padding, end and unknown."""
    vocabulary = {f"w{i}": i for i in range(WORDS)} | {"<pad>": PAD, "<eos>": EOS, "<unk>": UNKNOWN}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=ROW_WORDS * 2
    )


def text_rows(seed: int) -> tuple[Dataset, Dataset]:
    """Training and held-out rows with a `text` column; no held-out row is a training row."""
    rng = random.Random(seed)
    drawn = [_row(start, stride) for start in range(USED_WORDS) for stride in range(1, USED_WORDS)]
    rng.shuffle(drawn)
    train, held_out = drawn[:TRAIN_ROWS], drawn[TRAIN_ROWS : TRAIN_ROWS + EVAL_ROWS]
    return Dataset.from_dict({"text": train}), Dataset.from_dict({"text": held_out})


def _row(start: int, stride: int) -> str:
    return " ".join(f"w{(start + stride * i) % USED_WORDS}" for i in range(ROW_WORDS))


def token_rows(seed: int) -> tuple[Dataset, Dataset]:
    """The same rows as token ids, for trainers that do not tokenize."""
    train, held_out = text_rows(seed)
    return _tokenized(train), _tokenized(held_out)


def _tokenized(rows: Dataset) -> Dataset:
    return Dataset.from_dict({"input_ids": [tokenizer()(text)["input_ids"] for text in rows["text"]]})
