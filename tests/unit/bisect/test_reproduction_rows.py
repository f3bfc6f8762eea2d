"""The rows and arguments in scripts for upstream issues: every objective has them, and its rows are what they claim."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_compat.bisect.reproduction_rows import ROWS
from finetune_compat.cell import flows
from finetune_compat.contract.catalog import CATALOG, COMPLETION_WORDS, ROW_WORDS

TEXT = " ".join(f"w{(3 + 7 * i) % 20}" for i in range(ROW_WORDS))
"""A row of every script: words 0 to 19."""


class Tokenizer:
    """A token for each word, as in a script."""

    eos_token_id = 126
    model_input_names: tuple[str, ...] = ()

    def __call__(self, text: str) -> dict[str, list[int]]:
        ids = [int(word[1:]) for word in text.split()]
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}


def function(rows: str, name: str) -> Callable[..., Any]:
    """A function that a script defines."""
    defined: dict[str, Any] = {"tokenizer": Tokenizer()}
    exec(ROWS[rows].arguments, defined)  # noqa: S102 - text of this project
    found: Callable[..., Any] = defined[name]
    return found


def test_every_flow_takes_its_arguments_from_one_of_them() -> None:
    for flow in CATALOG:
        source = Path(flows.__path__[0], f"{flow.name.replace('-', '_')}.py").read_text(encoding="utf-8")
        assert [name for name in ROWS if f"{name}(setup)" in source], flow.name


def test_every_one_defines_the_arguments() -> None:
    for rows in ROWS.values():
        defined = [node.name for node in ast.parse(rows.arguments).body if isinstance(node, ast.FunctionDef)]
        assert defined[-1] == "arguments"


def test_no_rejected_word_occurs_in_a_text() -> None:
    row = function("preference.arguments", "preference")(TEXT)
    assert row["prompt"] + row["chosen"] == TEXT
    assert len(row["chosen"].split()) == len(row["rejected"].split()) == COMPLETION_WORDS
    assert not set(row["rejected"].split()) & set(TEXT.split())


def test_every_other_unpaired_row_is_undesirable() -> None:
    unpaired = function("unpaired.arguments", "unpaired")
    good, bad = unpaired(0, TEXT), unpaired(1, TEXT)
    assert (good["label"], bad["label"]) == (True, False)
    assert good["prompt"] + good["completion"] == TEXT
    assert not set(bad["completion"].split()) & set(TEXT.split())


def test_completions_alone_have_labels() -> None:
    row = function("sft.arguments_for_completions", "tokenized")(TEXT)
    ids = Tokenizer()(TEXT)["input_ids"]
    masked = ROW_WORDS - COMPLETION_WORDS
    assert row == {"input_ids": [*ids, 126], "labels": [-100] * masked + [*ids[masked:], 126]}


def test_the_reward_is_the_mean_number_of_the_words_as_a_share_of_the_largest() -> None:
    rewards = function("online.arguments", "mean_word")(["w120 w0", "w120 <eos>", "<eos>"], other="ignored")
    assert all(map(math.isclose, rewards, (0.5, 1.0, 0.0)))


def test_scored_pairs_have_texts_and_tokens() -> None:
    """Releases of TRL that do not tokenize take the tokens."""
    row = function("reward.arguments", "pair")(TEXT)
    assert row["chosen"] == TEXT
    for side in ("chosen", "rejected"):
        assert row[f"input_ids_{side}"] == Tokenizer()(row[side])["input_ids"]
        assert row[f"attention_mask_{side}"] == [1] * ROW_WORDS
