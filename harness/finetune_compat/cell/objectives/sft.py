"""Supervised fine-tuning with TRL's `SFTTrainer`: the next token of text, of completions, or of text with pictures.

Windows: TRL 0.9.2 brought `SFTConfig`, 0.12.0 `processing_class`, 0.16.0 `max_length`, 0.22.0 the vision path;
Transformers 5.3 `mm_token_type_ids`.
"""

from __future__ import annotations

from typing import Any

import transformers
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from finetune_compat.cell import adapt, data, pictures
from finetune_compat.cell.data import IGNORED
from finetune_compat.cell.instruments.next_token import evaluating, given, listening, loss, unequal
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import COMPLETION_WORDS
from finetune_compat.contract.records import VisionShape

__all__ = [
    "arguments",
    "arguments_for_completions",
    "evaluating",
    "given",
    "listening",
    "loss",
    "unequal",
    "without_labels",
]

_PREPARED = {"dataset_kwargs": {"skip_prepare_dataset": True}}
"""For rows that the collator takes as they are."""


def arguments(setup: Setup) -> dict[str, Any]:
    """Keyword arguments for `SFTTrainer`, without the model: configuration, data, tokenizer."""
    vision = setup.model.vision
    if vision:
        return _arguments(setup, _picture_arguments(setup, vision), _PREPARED)
    return _arguments(setup, _text_arguments(setup), {})


def arguments_for_completions(setup: Setup) -> dict[str, Any]:
    """As `arguments`, with rows that the user tokenized: labels only on the completion."""
    train, held_out = data.text_rows(setup.seed)
    rows = {
        "train_dataset": _completions(train, setup.model.tokenizer),
        "eval_dataset": _completions(held_out, setup.model.tokenizer),
        "processing_class": setup.model.tokenizer,
        "data_collator": DataCollatorForSeq2Seq(setup.model.tokenizer),
    }
    return _arguments(setup, rows, _PREPARED)


def without_labels(rows: Dataset) -> Dataset:
    """`rows` with every label masked, as by a mask that finds no completion."""
    return rows.map(lambda row: {"labels": [IGNORED] * len(row["labels"])})


def _arguments(setup: Setup, rows: dict[str, Any], prepared: dict[str, Any]) -> dict[str, Any]:
    import trl

    text = {"dataset_text_field": "text", "max_length": setup.model.max_length, "packing": False, "loss_type": "nll"}
    text |= prepared
    options = {**adapt.training_options(setup), **text}
    takes = adapt.parameters(trl.SFTTrainer.__init__)
    if hasattr(trl, "SFTConfig"):
        return {"args": adapt.configured(trl.SFTConfig, options, setup), **adapt.named(takes, rows, setup)}
    given = {name: options.pop(name) for name in text}
    config = adapt.configured(transformers.TrainingArguments, options, setup)
    return {"args": config, **adapt.named(takes, {**rows, **given}, setup)}


def _text_arguments(setup: Setup) -> dict[str, Any]:
    train, held_out = data.text_rows(setup.seed)
    return {"train_dataset": train, "eval_dataset": held_out, "processing_class": setup.model.tokenizer}


def _completions(rows: Dataset, tokenize: PreTrainedTokenizerBase) -> Dataset:
    """Prompt and completion, tokenized as users of a reinforcement fine-tuning set do it: `input_ids` with an end
    token, and `labels` only on the completion.
    """
    split = [_split(text, tokenize) for text in rows["text"]]
    return Dataset.from_dict(
        {
            "input_ids": [prompt + completion for prompt, completion in split],
            "labels": [[IGNORED] * len(prompt) + completion for prompt, completion in split],
        }
    )


def _split(text: str, tokenize: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Ids of the prompt, and of the completion with its end token. They are tokenized separately, so that no token
    spans both.
    """
    words = text.split(" ")
    prompt, completion = words[:-COMPLETION_WORDS], words[-COMPLETION_WORDS:]
    ids = tokenize(" " + " ".join(completion), add_special_tokens=False)["input_ids"]
    return tokenize(" ".join(prompt))["input_ids"], [*ids, tokenize.eos_token_id]


def _picture_arguments(setup: Setup, vision: VisionShape) -> dict[str, Any]:
    train, held_out = pictures.rows(setup.seed, vision)
    marks = "mm_token_type_ids" in adapt.parameters(setup.model.loader.forward)
    processor = pictures.PictureProcessor(setup.model.tokenizer, vision, marks_pictures=marks)
    return {
        "train_dataset": train,
        "eval_dataset": held_out,
        "processing_class": processor if _knows_processors() else processor.tokenizer,
        "data_collator": pictures.PictureCollator(processor),
    }


def _knows_processors() -> bool:
    """Whether SFTTrainer supports vision-language models. For earlier releases, TRL's example passes the processor's
    tokenizer.
    """
    import trl.trainer.sft_trainer

    return hasattr(trl.trainer.sft_trainer, "DataCollatorForVisionLanguageModeling")
