"""New names of arguments, guessed from the signatures of releases."""

from __future__ import annotations

import pytest
from finetune_compat.checks.renames import closest, described, new_name
from finetune_compat.contract.script import UnknownArgument


@pytest.mark.parametrize(
    ("name", "before", "after", "new"),
    [
        # TRL 0.16 to 0.20.
        ("max_seq_length", ("packing", "max_seq_length", "dataset_kwargs"), ("packing", "max_length"), "max_length"),
        # Transformers 4.41 to 4.46.
        (
            "evaluation_strategy",
            ("evaluation_strategy", "eval_steps"),
            ("eval_strategy", "eval_steps"),
            "eval_strategy",
        ),
        # TRL 0.11 to 0.12: another word at the same place.
        (
            "tokenizer",
            ("model", "tokenizer", "callbacks"),
            ("model", "processing_class", "callbacks"),
            "processing_class",
        ),
        # TRL 0.28 to 0.29: removed. Both releases have max_length.
        ("max_prompt_length", ("max_prompt_length", "max_length"), ("max_length",), ""),
        ("misspelt", ("packing",), ("packing", "misspell"), ""),
    ],
)
def test_a_new_name_is_one_that_only_the_newer_signature_has(
    name: str, before: tuple[str, ...], after: tuple[str, ...], new: str
) -> None:
    assert new_name(name, before, after) == new


def test_without_a_similar_name_none_is_named() -> None:
    assert closest("tokenizer", ("model", "args", "processing_class")) == ""
    assert closest("warmup_ratio", ("output_dir", "warmup_steps")) == "warmup_steps"
    assert closest("warmup_ratio", ()) == ""


def test_each_class_has_one_clause() -> None:
    accepts = ("max_length", "packing")
    unknown = [
        UnknownArgument("trl:SFTConfig", "max_seq_length", accepts),
        UnknownArgument("trl:SFTConfig", "xyz", accepts),
        UnknownArgument("trl:DPOTrainer", "tokenizer", ("model", "processing_class")),
    ]
    earlier = {"trl:SFTConfig": ("max_seq_length", "packing"), "trl:DPOTrainer": ("model", "tokenizer")}
    assert described(unknown, earlier) == (
        "SFTConfig of this trl has no max_seq_length (new name: max_length), and no xyz (no name is close to it); "
        "DPOTrainer of this trl has no tokenizer (new name: processing_class)"
    )
