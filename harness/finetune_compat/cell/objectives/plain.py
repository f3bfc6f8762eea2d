"""Next-token training with `transformers.Trainer`, without TRL. The rows are tokenized here, because `Trainer` does not
tokenize.
"""

from __future__ import annotations

from typing import Any

import transformers
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from finetune_compat.cell import adapt, data
from finetune_compat.cell.instruments.next_token import evaluating, given, listening, loss, unequal
from finetune_compat.cell.setup import Setup

__all__ = ["arguments", "evaluating", "given", "listening", "loss", "unequal"]


def arguments(setup: Setup) -> dict[str, Any]:
    """Keyword arguments for `transformers.Trainer`, without the model."""
    train, held_out = data.text_rows(setup.seed)
    # A PeftModel hides the arguments of its base model, so Trainer cannot infer which column holds the labels.
    options = {**adapt.training_options(setup), "label_names": ["labels"]}
    return {
        "args": adapt.configured(transformers.TrainingArguments, options, setup),
        "train_dataset": _tokenized(train, setup.model.tokenizer),
        "eval_dataset": _tokenized(held_out, setup.model.tokenizer),
        "data_collator": DataCollatorForLanguageModeling(setup.model.tokenizer, mlm=False),
    }


def _tokenized(rows: Dataset, tokenize: PreTrainedTokenizerBase) -> Dataset:
    return Dataset.from_dict({"input_ids": [tokenize(text)["input_ids"] for text in rows["text"]]})
