"""The prompts that a script tokenizes alone: a tokenizer that gives what those of Transformers give."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from finetune_compat.cell.script.prompts import Prompts


class Tensor:
    def __init__(self, values: Any) -> None:
        self.values = values

    def tolist(self) -> Any:
        return self.values


def module() -> ModuleType:
    """A module with a base class of tokenizers: one token for each word, its length."""

    class PreTrainedTokenizerBase:
        def __call__(self, text: Any, return_tensors: str | None = None) -> dict[str, Any]:
            texts = [text] if isinstance(text, str) else text
            rows = [[len(word) for word in one.split()] for one in texts]
            if return_tensors:
                return {"input_ids": Tensor(rows)}
            return {"input_ids": rows[0] if isinstance(text, str) else rows}

        def encode(self, text: str) -> list[int]:
            return [len(word) for word in text.split()]

    made = ModuleType("base")
    made.PreTrainedTokenizerBase = PreTrainedTokenizerBase  # type: ignore[attr-defined]
    return made


def test_single_texts_are_noted_in_every_form() -> None:
    prompts, base = Prompts(), module()
    prompts.follow(base)
    tok = base.PreTrainedTokenizerBase()
    assert tok("a bb") == {"input_ids": [1, 2]}
    assert tok("a ccc", return_tensors="pt")["input_ids"].tolist() == [[1, 3]]
    assert tok.encode(text="dddd a") == [4, 1]
    assert prompts.read == {(1, 2), (1, 3), (4, 1)}


def test_several_texts_are_no_prompt() -> None:
    prompts, base = Prompts(), module()
    prompts.follow(base)
    assert base.PreTrainedTokenizerBase()(["a bb", "a"]) == {"input_ids": [[1, 2], [1]]}
    assert prompts.read == set()


def test_what_a_library_tokenizes_is_not_noted() -> None:
    prompts, base = Prompts(), module()
    prompts.follow(base)
    for place, noted in (("/env/site-packages/trl/sft.py", set()), ("/home/me/train.py", {(3, 3)})):
        exec(compile("tok('one two')", place, "exec"), {"tok": base.PreTrainedTokenizerBase()})  # noqa: S102 - a caller
        assert prompts.read == noted
